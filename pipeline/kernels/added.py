"""Find added tokens in documents, as ``tokenizers`` does; take them out, and put something else in their place.

Of all tokens that occur, the leftmost, of those the longest, and the search goes on where it stops. Then some are dropped:
a token that must be a word by itself and touches a character of a word, and every token that only hides others. What is
dropped has been found all the same: shorter tokens that start there, and others inside or across its end, are not.

The first four bytes at each position are looked up in a table of bits, hashed, and for tokens of less than four bytes the
first two in another; both tables together are 40 KB. They let few positions pass; those walk a trie. Linear in the text,
but for the walks: O(longest token) each.
Measured on one core of a busy machine, 50 MB of English, 2,000 tokens: 560 MB/s for names of two words, where one position
in ninety passes, 190 MB/s for words, where one in twelve does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels.boundaries import decode
from pipeline.kernels.keys import PADDING
from pipeline.kernels.vocabulary import NO_NODE, VocabularyTrie, build_trie, step_trie

SINGLE_WORD, HIDDEN = 1, 2
"""What there is to say of a token: it must be a word by itself, it only hides others."""

_ID = 2
_ROOT = 0
_NONE = -1
_MIX = np.uint64(0x9E3779B97F4A7C15)
_LONG_BITS = 18
_LONG_SHIFT = np.uint64(64 - _LONG_BITS)
_LOW16 = np.uint64(0xFFFF)
_ONE = np.uint64(1)
_S6 = np.uint64(6)
_S8 = np.uint64(8)
_S16 = np.uint64(16)
_S24 = np.uint64(24)
_LOW6 = np.uint64(63)


class AddedTables(NamedTuple):
    """Tokens to find; made by ``added_tables``.

    ``short [shape=(1024,), dtype=uint64]``: bit by bit, whether a token of up to three bytes may start with two bytes.
    ``long [shape=(4096,), dtype=uint64]``: whether a longer one may start with four, by their hash.
    ``trie``: the bytes of the tokens; its ids are their numbers.
    ``flags [shape=(n_tokens,), dtype=uint8]``: SINGLE_WORD, HIDDEN, both or neither.
    ``is_word [shape=(0x110000,), dtype=bool]``: which code points are part of a word.
    """

    short: NDArray[np.uint64]
    long: NDArray[np.uint64]
    trie: VocabularyTrie
    flags: NDArray[np.uint8]
    is_word: NDArray[np.bool_]


@leaf
def _set(bits, place):
    bits[place >> _S6] |= _ONE << (place & _LOW6)


@njit
def added_tables(values, offsets, flags, is_word):
    """Tables that find tokens: no two are the same, none is empty.

    Parameters
    ----------
    values, offsets
        The bytes of the tokens, one after the other. ``[dtype=uint8]``; ``[shape=(n_tokens + 1,), dtype=int64]``
    flags, is_word
        See ``AddedTables``.
    """
    trie = build_trie(values, offsets, np.ones(len(flags), dtype=np.bool_))
    short = np.zeros(1 << 10, dtype=np.uint64)
    long = np.zeros(1 << (_LONG_BITS - 6), dtype=np.uint64)
    for token in range(len(flags)):
        start = offsets[token]
        length = offsets[token + 1] - start
        four = np.uint64(0)
        for i in range(min(length, 4)):
            four |= np.uint64(values[start + i]) << np.uint64(8 * i)
        if length > 3:
            _set(long, four * _MIX >> _LONG_SHIFT)
        elif length > 1:
            _set(short, four & _LOW16)
        else:
            for second in range(256):
                _set(short, four | np.uint64(second) << _S8)
    return AddedTables(short, long, trie, flags, is_word)


@leaf
def _next_place(values, at, stop, short, long):
    """The first position from ``at`` on where a token may start, or ``stop``."""
    four = np.uint64(values[at]) << _S8 | np.uint64(values[at + np.uintp(1)]) << _S16
    four |= np.uint64(values[at + np.uintp(2)]) << _S24
    while at < stop:
        four = four >> _S8 | np.uint64(values[at + np.uintp(3)]) << _S24
        two = four & _LOW16
        place = four * _MIX >> _LONG_SHIFT
        if (short[two >> _S6] >> (two & _LOW6) | long[place >> _S6] >> (place & _LOW6)) & _ONE:
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
    short = tables.short
    long = tables.long
    nodes = tables.trie.nodes
    flags = tables.flags
    num_found = 0
    while doc < len(offsets) - 1:
        start = offsets[doc]
        stop = offsets[doc + 1]
        at = max(at, start)
        while at < stop:
            at = np.int64(_next_place(values, np.uintp(at), np.uintp(stop), short, long))
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


@njit
def take_out(values, offsets, found, lengths):
    """The pieces of documents between their tokens.

    Parameters
    ----------
    values, offsets
        Documents.
    found
        From ``find_added``. ``[shape=(n_tokens, 3), dtype=int64]``
    lengths
        Bytes of each token number. ``[dtype=int64]``

    Returns
    -------
    tuple
        Padded values and offsets of the pieces, one more in each document than it has tokens, and their documents.
    """
    num_docs = len(offsets) - 1
    num_bytes = offsets[-1] - offsets[0]
    for i in range(len(found)):
        num_bytes -= lengths[found[i, 2]]
    pieces = np.zeros(num_bytes + PADDING, dtype=np.uint8)
    piece_offsets = np.zeros(num_docs + len(found) + 1, dtype=np.int64)
    piece_docs = np.empty(num_docs + len(found), dtype=np.int64)
    piece = 0
    token = 0
    size = np.uintp(0)
    for doc in range(num_docs):
        start = offsets[doc]
        is_last = False
        while not is_last:
            is_last = token == len(found) or found[token, 0] != doc
            stop = offsets[doc + 1] if is_last else found[token, 1]
            first = np.uintp(start)
            for at in range(np.uintp(stop - start)):
                pieces[size + at] = values[first + at]
            size += np.uintp(stop - start)
            piece_docs[piece] = doc
            piece += 1
            piece_offsets[piece] = size
            if not is_last:
                start = stop + lengths[found[token, 2]]
                token += 1
    return pieces, piece_offsets, piece_docs


@njit
def put_between(values, offsets, piece_docs, between):
    """Rows of the pieces of documents as rows of the documents, with a value after each piece but a document's last.

    ``values``, ``offsets [shape=(n_pieces + 1,), dtype=int64]``: a row for each piece. ``piece_docs [shape=(n_pieces,)]``.
    ``between [shape=(n_tokens,)]``: of the type of ``values``. Returns values and offsets.

    Examples
    --------
    Rows 5 6, nothing, 7 of the documents 0, 0, 1 and the value 9 between: values 5 6 9 7, offsets 0, 3, 4.
    """
    num_docs = len(piece_docs) - len(between)
    joined = np.empty(len(values) + len(between), dtype=values.dtype)
    doc_offsets = np.zeros(num_docs + 1, dtype=np.int64)
    size = np.uintp(0)
    token = 0
    for piece in range(len(piece_docs)):
        first = np.uintp(offsets[piece])
        num = np.uintp(offsets[piece + 1] - offsets[piece])
        for at in range(num):
            joined[size + at] = values[first + at]
        size += num
        if piece + 1 < len(piece_docs) and piece_docs[piece + 1] == piece_docs[piece]:
            joined[size] = between[token]
            size += np.uintp(1)
            token += 1
        else:
            doc_offsets[piece_docs[piece] + 1] = size
    return joined, doc_offsets
