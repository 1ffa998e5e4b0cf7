"""Find added tokens in documents, as ``tokenizers`` does.

Of all tokens that occur, the leftmost, of those the longest, and the search goes on where it stops. Then some are dropped:
a token that must be a word by itself and touches a character of a word, and every token that only hides others. What is
dropped has been found all the same: shorter tokens that start there, and others inside or across its end, are not.

The first four bytes at each position go through a table of 64 KB, which lets few positions pass; those walk a trie. Of
tokens of one to three bytes all that may follow them pass. Linear in the text, but for the walks: O(longest token) each.
Measured on one core, 50 MB of English: FIGURES.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels.boundaries import decode
from pipeline.kernels.vocabulary import NO_NODE, VocabularyTrie, build_trie, step_trie

SINGLE_WORD, HIDDEN = 1, 2
"""What there is to say of a token: it must be a word by itself, it only hides others."""

_ID = 2
_ROOT = 0
_NONE = -1
_MIX = np.uint32(40503)
_S16 = np.uint32(16)
_S8 = np.uint32(8)
_S24 = np.uint32(24)
_LOW8 = np.uint32(0xFF)
_LOW16 = np.uint32(0xFFFF)


class AddedTables(NamedTuple):
    """Tokens to find; made by ``added_tables``.

    ``passes [shape=(65536,), dtype=bool]``: whether a token may start with four bytes, by their ``_place``.
    ``trie``: the bytes of the tokens; its ids are their numbers.
    ``flags [shape=(n_tokens,), dtype=uint8]``: SINGLE_WORD, HIDDEN, both or neither.
    ``is_word [shape=(0x110000,), dtype=bool]``: which code points are part of a word.
    """

    passes: NDArray[np.bool_]
    trie: VocabularyTrie
    flags: NDArray[np.uint8]
    is_word: NDArray[np.bool_]


@leaf
def _row(first_two):
    return np.int64((first_two * _MIX >> _S8 & _LOW8) << _S8)


@leaf
def _column(last_two):
    return np.int64(last_two * _MIX >> _S8 & _LOW8)


@njit
def added_tables(values, offsets, flags, is_word):
    """Tables that find tokens: no two are the same, none is empty.

    Parameters
    ----------
    values, offsets
        The bytes of the tokens, one after the other, and at least three more. ``[dtype=uint8]``;
        ``[shape=(n_tokens + 1,), dtype=int64]``
    flags, is_word
        See ``AddedTables``.
    """
    trie = build_trie(values, offsets, np.ones(len(flags), dtype=np.bool_))
    passes = np.zeros(1 << 16, dtype=np.bool_)
    for token in range(len(flags)):
        start = offsets[token]
        length = offsets[token + 1] - start
        first = np.uint32(values[start])
        if length == 1:
            for second in range(256):
                row = _row(first | np.uint32(second) << _S8)
                passes[row : row + 256] = True
            continue
        row = _row(first | np.uint32(values[start + 1]) << _S8)
        if length == 2:
            passes[row : row + 256] = True
            continue
        third = np.uint32(values[start + 2])
        if length == 3:
            for fourth in range(256):
                passes[row | _column(third | np.uint32(fourth) << _S8)] = True
            continue
        passes[row | _column(third | np.uint32(values[start + 3]) << _S8)] = True
    return AddedTables(passes, trie, flags, is_word)


@leaf
def _next_place(values, at, stop, passes):
    """The first position from ``at`` on where a token may start, or ``stop``."""
    four = np.uint32(values[at]) << _S8 | np.uint32(values[at + np.uintp(1)]) << _S16
    four |= np.uint32(values[at + np.uintp(2)]) << _S24
    while at < stop:
        four = four >> _S8 | np.uint32(values[at + np.uintp(3)]) << _S24
        if passes[_row(four & _LOW16) | _column(four >> _S16)]:
            return at
        at += np.uintp(1)
    return stop


@leaf
def _longest(values, start, stop, nodes):
    """The number of the longest token that starts at a position, or -1, and where it stops."""
    node = np.int64(_ROOT)
    token = np.int64(_NONE)
    token_stop = start
    for at in range(start, stop):
        node = step_trie(nodes, node, values[at])
        if node == NO_NODE:
            break
        if nodes[node, _ID] != _NONE:
            token = np.int64(nodes[node, _ID])
            token_stop = at + 1
    return token, token_stop


@leaf
def _touches_word(values, doc_start, doc_stop, start, stop, is_word):
    """Whether a character of a word stands right before or behind ``values[start:stop]`` in its document."""
    if stop < doc_stop:
        code_point, _ = decode(values, stop)
        if is_word[code_point]:
            return True
    if start > doc_start:
        start -= 1
        while values[start] & 0xC0 == 0x80:
            start -= 1
        code_point, _ = decode(values, start)
        return is_word[code_point]
    return False


@njit
def find_added(values, offsets, tables, doc, at, found):
    """Tokens of documents, in order, until all are seen or there is no room for another.

    Parameters
    ----------
    values, offsets
        Documents as padded rows of UTF-8; no token is found across two.
    tables
        The tokens.
    doc, at
        Where to go on: 0 and 0, or what the last call returned.
    found
        Filled with the document of each token, where it starts, and its number. ``[shape=(room, 3), dtype=int64]``

    Returns
    -------
    tuple
        How many were found, and where to go on: document ``n_docs`` if all are seen.

    Examples
    --------
    Tokens ``new york`` (a word by itself), ``york`` and ``ers``: in ``new yorkers`` the first is found and dropped, and so
    hides the second; ``ers`` is found.
    """
    passes = tables.passes
    nodes = tables.trie.nodes
    flags = tables.flags
    num_found = 0
    while doc < len(offsets) - 1:
        start = offsets[doc]
        stop = offsets[doc + 1]
        at = max(at, start)
        while at < stop:
            at = np.int64(_next_place(values, np.uintp(at), np.uintp(stop), passes))
            if at == stop:
                break
            token, token_stop = _longest(values, at, stop, nodes)
            if token == _NONE:
                at += 1
                continue
            kind = flags[token]
            is_dropped = kind & HIDDEN != 0
            if not is_dropped and kind & SINGLE_WORD != 0:
                is_dropped = _touches_word(values, start, stop, at, token_stop, tables.is_word)
            if not is_dropped:
                if num_found == len(found):
                    return num_found, doc, at
                found[num_found, 0] = doc
                found[num_found, 1] = at
                found[num_found, 2] = token
                num_found += 1
            at = token_stop
        doc += 1
    return num_found, doc, at
