"""Cut documents into words with the tables of a compiled regex.

One kernel serves every regex. Most boundaries are seen from three characters, 64 positions at a time (``boundaries``).
Where they are not, a deterministic automaton over character classes, built by ``pipeline.regex`` so that its answer is
that of a backtracking engine (leftmost start, first alternative), runs from the start of the word: the word is over
when no thread is left, and stops at the last accepted position.

Linear in the text. Measured in ``benchmarks`` as *split*.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.boundaries import LocalRules
from pipeline.kernels._jit import njit
from pipeline.kernels._llvm import BLOCK, trailing_zeros
from pipeline.kernels.boundaries import decode, find_boundaries

SPAN_BLOCKS = 256
"""Blocks whose boundaries are found before words are cut: their masks stay in the first-level cache."""

SPAN = SPAN_BLOCKS * BLOCK

_ONE = np.uint64(1)


class SplitTables(NamedTuple):
    """A compiled regex.

    ``class_of [shape=(0x110000,), dtype=uint8]``: character class of a code point; the class after the last one stands for
    the end of the document.
    ``transitions [shape=(n_states, n_symbols), dtype=int32]``: ``next_state << 1 | accept``; state 0 is dead, 1 the start.
    A symbol is ``class << num_lookaheads | lookahead bits``; ``accept`` says that a match may end *before* the symbol.
    ``reverse [shape=(n_reverse_states, n_classes), dtype=int32]`` and ``truth [shape=(n_reverse_states,), dtype=uint8]``:
    the automaton that, read from a document's end, tells at each position which lookaheads hold. State 0 is the end.
    ``local``: which boundaries need no automaton.
    """

    class_of: NDArray[np.uint8]
    transitions: NDArray[np.int32]
    num_classes: int
    num_lookaheads: int
    reverse: NDArray[np.int32]
    truth: NDArray[np.uint8]
    local: LocalRules


@njit
def lookahead_bits(text, offsets, tables):
    """Which lookaheads hold at each byte from ``offsets[0]`` on. ``[shape=(n_bytes,), dtype=uint8]``.

    One pass from right to left, so a lookahead over a run of a million digits costs a million steps, not its square.
    Continuation bytes hold nothing; the position after a document belongs to the next one, so the bits of a document's
    end are those of reverse state 0, known without a look-up.
    """
    base = offsets[0]
    bits = np.zeros(offsets[-1] - base, dtype=np.uint8)
    for doc in range(len(offsets) - 1):
        state = 0
        for at in range(offsets[doc + 1] - 1, offsets[doc] - 1, -1):
            if text[at] & 0xC0 == 0x80:
                continue
            code_point, _ = decode(text, at)
            state = tables.reverse[state, tables.class_of[code_point]]
            bits[at - base] = tables.truth[state]
    return bits


@njit
def _match(text, start, end, bits, base, tables):
    """Where the match that starts at ``start`` stops; ``start`` if there is none."""
    looks = tables.num_lookaheads
    state = 1
    at = start
    accepted = start
    while True:
        width = 0
        if at < end:
            code_point, width = decode(text, at)
            symbol = np.int64(tables.class_of[code_point])
            if looks > 0:
                symbol = symbol << looks | bits[at - base]
        else:
            symbol = tables.num_classes << looks
            if looks > 0:
                symbol |= np.int64(tables.truth[0])
        move = tables.transitions[state, symbol]
        if move & 1:
            accepted = at
        state = move >> 1
        if state == 0 or width == 0:
            return accepted
        at += width


@njit
def _next_stop(text, start, end, bits, base, tables):
    """Where the word that starts at ``start`` stops: a match, or the piece up to the next match."""
    stop = _match(text, start, end, bits, base, tables)
    at = start
    while stop == at:
        at += decode(text, at)[1]
        if at == end or _match(text, at, end, bits, base, tables) > at:
            return at
        stop = at
    return stop


@njit
def _cut_until(text, start, until, end, bits, base, tables, stops, num_words):
    """Cut words of the document that ends at ``end`` with the automaton until one stops at ``until`` or behind it."""
    while start < until:
        start = _next_stop(text, start, end, bits, base, tables)
        stops[num_words] = start
        num_words += 1
    return num_words, start


@njit
def split_some(text, offsets, bits, tables, doc, start, at, stops):
    """Cut documents into words until all are cut or ``stops`` is full; call again with what it returns.

    Parameters
    ----------
    text
        UTF-8 of all documents, one after the other, padded. ``[shape=(n_bytes + PADDING,), dtype=uint8]``
    offsets
        Where documents start. ``[shape=(n_docs + 1,), dtype=int64]``
    bits
        From ``lookahead_bits``; any array if the tables have no lookaheads.
    tables
        The compiled regex.
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
    is_local = tables.local.reach >= 0
    planes = np.empty((tables.local.num_planes, SPAN_BLOCKS + 3), dtype=np.uint64)
    unions = np.empty((3, SPAN_BLOCKS + 2), dtype=np.uint64)
    flags = np.zeros((2, SPAN_BLOCKS), dtype=np.uint64)
    num_words = 0
    while doc < num_docs and num_words + SPAN + 4 <= len(stops):
        span_end = min(at + SPAN, last)
        num_blocks = 0
        if is_local:
            num_blocks = (span_end - at + BLOCK - 1) // BLOCK
            find_boundaries(text, at, last, num_blocks, tables.class_of, tables.local, planes, unions, flags)
        end = offsets[doc + 1]
        for block in range(num_blocks):
            asked = flags[1, block]
            found = flags[0, block] | asked
            while found != 0:
                bit = found & (~found + _ONE)
                found ^= bit
                position = at + block * BLOCK + trailing_zeros(bit)
                while position >= end - 1:  # the flag knows nothing of the document's end
                    num_words, start = _cut_until(text, start, end, end, bits, base, tables, stops, num_words)
                    doc += 1
                    if doc == num_docs:
                        return num_words, doc, start, span_end
                    end = offsets[doc + 1]
                if position <= start:
                    continue
                if asked & bit == 0:
                    stops[num_words] = position
                    num_words += 1
                    start = position
                else:
                    num_words, start = _cut_until(text, start, position, end, bits, base, tables, stops, num_words)
        while doc < num_docs and (not is_local or offsets[doc + 1] <= span_end):
            end = offsets[doc + 1]
            num_words, start = _cut_until(text, start, min(end, span_end), end, bits, base, tables, stops, num_words)
            if start < end:
                break
            doc += 1
        at = span_end
    return num_words, doc, start, at
