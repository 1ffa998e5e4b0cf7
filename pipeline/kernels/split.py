"""Cut documents into words with the tables of a compiled regex.

One kernel serves every regex. Most boundaries are seen from three characters, 64 positions at a time (``boundaries``).
Where they are not, a deterministic automaton over character classes, built by ``pipeline.regex`` so that its answer is
that of a backtracking engine (leftmost start, first alternative), runs from the start of the word: the word is over
when no thread is left, and stops at the last accepted position.

Linear in the text for every preset, and wherever no match is sought far beyond its end; a regex such as ``a+b`` reads on
to the end of a run of ``a`` from each of its letters. Measured on one core (``benchmarks``, *count*, split alone): 607 MB/s
for GPT-2's regex.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels._llvm import BLOCK, trailing_zeros
from pipeline.kernels.boundaries import LocalRules, decode, find_boundaries

SPAN_BLOCKS = 256
"""Blocks whose boundaries are found before words are cut: their masks stay in the first-level cache."""

SPAN = SPAN_BLOCKS * BLOCK

NONE = -1
NOT_KNOWN = -2

_ONE = np.uint64(1)


class SplitTables(NamedTuple):
    """A compiled regex.

    ``class_of [shape=(0x110000,), dtype=uint8]``: character class of a code point; the class after the last one stands for
    the end of the document.
    ``transitions [shape=(n_states, n_symbols), dtype=int32]``: ``next_state << 1 | accept``; state 0 is dead, 1 the start.
    A symbol is ``class << num_lookaheads | lookahead bits``; ``accept`` says that a match may end *before* the symbol.
    ``reverse [shape=(n_reverse_states, n_classes), dtype=int32]`` and ``truth [shape=(n_reverse_states,), dtype=uint8]``:
    the automaton that, read from a document's end, tells at each position which lookaheads hold. State 0 is the end.
    ``resets [shape=(n_classes,), dtype=int32]``: its state before a character of a class, if always the same, or -1.
    ``local``: which boundaries need no automaton.
    """

    class_of: NDArray[np.uint8]
    transitions: NDArray[np.int32]
    num_classes: int
    num_lookaheads: int
    reverse: NDArray[np.int32]
    truth: NDArray[np.uint8]
    resets: NDArray[np.int32]
    local: LocalRules


class Lookaheads(NamedTuple):
    """Which lookaheads hold where, as far as it was asked for.

    ``bits [shape=(n_bytes,), dtype=uint8]``: by byte from the first document's start on; of characters' first bytes only.
    ``known [shape=(1,), dtype=int64]``: they are known before this byte of the text.
    """

    bits: NDArray[np.uint8]
    known: NDArray[np.int64]


@njit
def _look_ahead(text, cursor, known, end, base, tables, bits):
    """Learn which lookaheads hold from ``known`` up to some character of its document, the end of which is returned.

    The reverse automaton starts at a character that leads to one state from anywhere (a letter, where the lookaheads are
    about digits), or at the end. Each byte is visited twice at most, so a lookahead over a run of a million digits costs a
    million steps, not its square. What follows is learnt at least as far as the match that asks, begun at ``cursor``, has
    come, for it begins again: so a match of a million letters is no square either.
    """
    start = max(known, cursor)
    least = start + start - cursor
    stop = start
    while stop < end:
        code_point, width = decode(text, stop)
        stop += width
        if stop >= least and tables.resets[tables.class_of[code_point]] >= 0:
            break
    state = 0
    at = stop
    while at > start:
        at -= 1
        if text[at] & 0xC0 != 0x80:
            code_point, _ = decode(text, at)
            state = tables.reverse[state, tables.class_of[code_point]]
            bits[at - base] = tables.truth[state]
    return stop


@leaf
def _match(text, start, end, known, class_of, transitions, end_symbol, looks, fixed, bits, base):
    """Where the match that starts at ``start`` stops: ``start`` if it is empty, ``NONE``, or ``NOT_KNOWN`` for want of bits.

    Takes arrays, not the tuples that hold them, and calls nothing: Numba would count references for every word.
    """
    state = 1
    at = start
    accepted = np.int64(NONE)
    while True:
        width = 0
        symbol = end_symbol
        if at < end:
            code_point, width = decode(text, at)
            symbol = np.int64(class_of[code_point])
            if looks > 0:
                look = fixed[symbol]
                if look < 0:
                    if at >= known:
                        return np.int64(NOT_KNOWN)
                    look = np.int64(bits[at - base])
                symbol = symbol << looks | look
        move = transitions[state, symbol]
        if move & 1:
            accepted = at
        state = move >> 1
        if state == 0 or width == 0:
            return accepted
        at += width


@leaf
def _last_character(text, start, end):
    """Where the last character of ``text[start:end]`` starts."""
    at = end - 1
    while at > start and text[at] & 0xC0 == 0x80:
        at -= 1
    return at


@njit
def split_some(text, offsets, tables, lookaheads, doc, start, at, stops):
    """Cut documents into words until all are cut or ``stops`` is full; call again with what it returns.

    Parameters
    ----------
    text
        UTF-8 of all documents, one after the other, padded. ``[shape=(n_bytes + PADDING,), dtype=uint8]``
    offsets
        Where documents start. ``[shape=(n_docs + 1,), dtype=int64]``
    tables
        The compiled regex.
    lookaheads
        Filled; at first nothing is known before ``offsets[0]``. ``bits`` may be empty if the regex has none.
    doc, start, at
        Where to go on: document, start of the next word, bytes whose boundaries are known (0, ``offsets[0]`` and
        ``offsets[0]`` at first).
    stops
        Filled with the stop of each word in bytes of ``text``; a word starts where the last one stopped.
        ``[dtype=int64]``, at least ``SPAN + 4`` long.

    Returns
    -------
    (num_words, doc, start, at)
        ``doc`` is ``n_docs`` when all is done.

    Examples
    --------
    With the GPT-2 regex, ``"I'm here  now"`` gives stops 1, 3, 8, 9, 13: ``I``, ``'m``, `` here``, `` ``, `` now``.
    """
    num_docs = len(offsets) - 1
    base = offsets[0]
    last = offsets[num_docs]
    class_of = tables.class_of
    transitions = tables.transitions
    looks = tables.num_lookaheads
    end_symbol = np.int64(tables.num_classes) << looks | np.int64(tables.truth[0])
    fixed = np.full(tables.num_classes, -1, dtype=np.int64)  # of classes before which the lookaheads are always the same
    for symbol in range(tables.num_classes):
        if looks > 0 and tables.resets[symbol] >= 0:
            fixed[symbol] = tables.truth[tables.resets[symbol]]
    bits = lookaheads.bits
    known = lookaheads.known[0]
    is_local = tables.local.reach >= 0
    planes = np.empty((tables.local.num_planes + 1, SPAN_BLOCKS + 3), dtype=np.uint64)
    unions = np.empty((6, SPAN_BLOCKS + 2), dtype=np.uint64)
    flags = np.zeros((2, SPAN_BLOCKS), dtype=np.uint64)
    num_words = 0
    while doc < num_docs and num_words + SPAN + 4 <= len(stops):
        span_end = min(at + SPAN, last)
        num_blocks = 0
        if is_local:
            num_blocks = (span_end - at + BLOCK - 1) // BLOCK
            find_boundaries(text, at, last, num_blocks, class_of, tables.local, planes, unions, flags)
        end = offsets[doc + 1]
        last_start = _last_character(text, start, end)
        for block in range(num_blocks + 1):
            is_over = block == num_blocks  # one event more: the end of the span
            asked = _ONE if is_over else flags[1, block]
            found = _ONE if is_over else flags[0, block] | asked
            while found != 0:
                bit = found & (~found + _ONE)
                found ^= bit
                position = span_end if is_over else at + block * BLOCK + trailing_zeros(bit)
                while True:
                    # A flag on a document's last character knows nothing of the end, so it is not heard.
                    is_doc_over = position >= (end if is_over else last_start)
                    if is_doc_over:
                        until = end
                    elif position <= start or (is_over and is_local):
                        break
                    elif asked & bit == 0:
                        stops[num_words] = position
                        num_words += 1
                        start = position
                        break
                    else:
                        until = position
                    # The automaton: a word is a match, or the piece up to the next one. An empty match ends a piece, and
                    # the character behind it begins one: the next match is sought after it.
                    cursor = start
                    while start < until:
                        stop = _match(text, cursor, end, known, class_of, transitions, end_symbol, looks, fixed, bits, base)
                        if stop == NOT_KNOWN:
                            known = _look_ahead(text, cursor, known, end, base, tables, bits)
                            continue
                        if stop == NONE or (stop == cursor and cursor == start):
                            cursor += decode(text, cursor)[1]
                            if cursor < end:
                                continue
                            stop = cursor
                        elif cursor > start:
                            stop = cursor
                        stops[num_words] = stop
                        num_words += 1
                        start = cursor = stop
                    if not is_doc_over:
                        break
                    doc += 1
                    if doc == num_docs:
                        return num_words, doc, start, span_end
                    end = offsets[doc + 1]
                    last_start = _last_character(text, start, end)
        at = span_end
    lookaheads.known[0] = known
    return num_words, doc, start, at
