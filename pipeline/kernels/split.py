"""Cut documents into words with the tables of a compiled regex.

One kernel serves every regex: a deterministic automaton over character classes, built by ``pipeline.regex`` so that its
answer is that of a backtracking engine (leftmost start, first alternative). ASCII bytes take one class look-up and one
transition each; a word is known to be over when no thread is left, at which point the last accepted position is its stop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import njit


class SplitTables(NamedTuple):
    """A compiled regex.

    ``class_of [shape=(0x110000,), dtype=uint8]``: character class of a code point; the class after the last one stands for
    the end of the document.
    ``transitions [shape=(n_states, n_symbols), dtype=int32]``: ``next_state << 1 | accept``; state 0 is dead, 1 the start.
    A symbol is ``class << num_lookaheads | lookahead bits``; ``accept`` says that a match may end *before* the symbol.
    ``reverse [shape=(n_reverse_states, n_classes), dtype=int32]`` and ``truth [shape=(n_reverse_states,), dtype=uint8]``:
    the automaton that, read from a document's end, tells at each position which lookaheads hold. State 0 is the end.
    ``ascii_moves [shape=(n_states, 128), dtype=int32]``: the transitions by ASCII byte, for regexes without lookaheads.
    """

    class_of: NDArray[np.uint8]
    transitions: NDArray[np.int32]
    num_classes: int
    num_lookaheads: int
    reverse: NDArray[np.int32]
    truth: NDArray[np.uint8]
    ascii_moves: NDArray[np.int32]


@njit
def _decode(text, at):
    """Code point and width in bytes of the character at byte ``at`` of valid UTF-8."""
    byte = np.int64(text[at])
    if byte < 0x80:
        return byte, 1
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | np.int64(text[at + 1]) & 0x3F, 2
    if byte < 0xF0:
        return (byte & 0x0F) << 12 | (np.int64(text[at + 1]) & 0x3F) << 6 | np.int64(text[at + 2]) & 0x3F, 3
    return (
        (byte & 0x07) << 18
        | (np.int64(text[at + 1]) & 0x3F) << 12
        | (np.int64(text[at + 2]) & 0x3F) << 6
        | np.int64(text[at + 3]) & 0x3F
    ), 4


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
            code_point, _ = _decode(text, at)
            state = tables.reverse[state, tables.class_of[code_point]]
            bits[at - base] = tables.truth[state]
    return bits


@njit
def split_some(text, offsets, bits, tables, doc, at, stops):
    """Cut documents into words until all are cut or ``stops`` is full; call again with what it returns.

    Parameters
    ----------
    text
        UTF-8 of all documents, one after the other. ``[shape=(n_bytes,), dtype=uint8]``
    offsets
        Where documents start. ``[shape=(n_docs + 1,), dtype=int64]``
    bits
        From ``lookahead_bits``; any array if the tables have no lookaheads.
    tables
        The compiled regex.
    doc, at
        Where to go on: document and byte (0 and ``offsets[0]`` at first).
    stops
        Filled with the stop of each word in bytes of ``text``; a word starts where the last one stopped.
        ``[dtype=int64]``, at least 2 long.

    Returns
    -------
    (num_words, doc, at)
        ``doc`` is ``n_docs`` when all is done.

    Examples
    --------
    With the GPT-2 regex, ``"I'm here  now"`` gives stops 1, 3, 8, 9, 13: ``I``, ``'m``, `` here``, `` ``, `` now``.
    """
    num_words = 0
    capacity = len(stops) - 1
    looks = tables.num_lookaheads
    transitions = tables.transitions
    class_of = tables.class_of
    ascii_moves = tables.ascii_moves
    while doc < len(offsets) - 1:
        end = offsets[doc + 1]
        start = at
        while at < end:
            state = 1
            cursor = at
            accepted = at
            while True:
                if looks == 0:
                    while cursor < end and text[cursor] < 0x80:
                        move = ascii_moves[state, text[cursor]]
                        if move & 1:
                            accepted = cursor
                        state = move >> 1
                        if state == 0:
                            break
                        cursor += 1
                    if state == 0:
                        break
                if cursor < end:
                    byte = text[cursor]
                    if byte < 0x80:
                        symbol = np.int64(class_of[byte])
                        width = 1
                    else:
                        code_point, width = _decode(text, cursor)
                        symbol = np.int64(class_of[code_point])
                    if looks > 0:
                        symbol = symbol << looks | bits[cursor - offsets[0]]
                else:
                    symbol = tables.num_classes << looks
                    if looks > 0:
                        symbol |= np.int64(tables.truth[0])
                    width = 0
                move = transitions[state, symbol]
                if move & 1:
                    accepted = cursor
                state = move >> 1
                if state == 0 or width == 0:
                    break
                cursor += width
            if accepted == at:  # no match starts here: the character joins the piece between matches
                at += _decode(text, at)[1]
                continue
            if num_words >= capacity:
                return num_words, doc, start
            if at > start:
                stops[num_words] = at
                num_words += 1
            stops[num_words] = accepted
            num_words += 1
            start = at = accepted
        if start < end:
            if num_words >= capacity:
                return num_words, doc, start
            stops[num_words] = end
            num_words += 1
        doc += 1
        at = end
    return num_words, doc, at
