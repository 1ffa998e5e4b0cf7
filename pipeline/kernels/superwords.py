"""Encode long chunks of text, in which merges join words, in two steps: words first, then what stands between them.

A vocabulary with superwords has merges that stay inside words, up to a rank, and from there on merges that do not. So a
chunk is cut into words, anywhere; each is encoded by the first merges alone, which a cache makes cheap (``encode.py``).

*Seams.* Where two tokens meet at a cut, the first merges might have joined across it. Mostly no token of theirs holds the
two bytes side by side. Else the two tokens are encoded together: if they stay what they are, the words' tokens stand as
they are (see ``ranks.py``); if not, the neighbourhood is encoded anew. The answers are remembered.

*Runs.* Then the other merges, on tokens instead of bytes. A pair of tokens that stands side by side in no longer token can
never come to stand inside one: the chunk falls apart there, exactly, into runs of a few tokens. Several at a time are merged
by the textbook loop, lowest rank first, leftmost of equals, so that look-ups of one wait while those of others are made; a
run that is too long for it is merged with a heap.

Measured (``benchmarks.superwords``) on one core, English prose, a published vocabulary of 200,000: 37 MB/s of it new to the
cache, 41 MB/s the second time, with splitting.

Examples
--------
With the merges (a, b), (ab, ␣) and (ab␣, ab), where ␣ is the blank and the first stays inside words, ``ab ab`` is cut into
``ab`` and ``␣ab``, whose tokens are ``ab`` and ``␣``, ``ab``. No token of the first merges holds ``b␣``, so the seam holds.
All three are one run, for both pairs stand in ``ab␣ab``; it is merged to one token.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels._llvm import LANES
from pipeline.kernels.ranks import (
    MOST_IDS,
    NO_RANK,
    SCAN_SYMBOLS,
    TOGETHER,
    MergeTables,
    fetch_rank,
    find_rank,
    join_at,
    key_of,
    merge_long,
    merge_once,
    merge_some,
    new_scratch,
    pair_table,
    ready,
    spell_into,
    take,
)

_APART = np.int32(MOST_IDS + 1)
"""In place of a rank: no merge, but some token holds the pair."""

_GONE = np.int32(-1)
"""In place of an id that was merged away."""

_AHEAD = 16

_K1 = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)


class SuperwordTables(NamedTuple):
    """What the second step needs.

    ``words``: the vocabulary with the first merges alone, for seams. ``pairs``: all merges, as of ``MergeTables``.
    ``inside``: in the same form, also the pairs of tokens that stand inside longer ones; their rank is ``_APART``.
    ``results [dtype=int32]``: what each merge makes. ``touching [shape=(65536,), dtype=bool]``: whether a token of the first
    merges holds the bytes ``byte << 8 | byte``. ``first_bytes``, ``last_bytes [dtype=uint8]``: of each id.
    """

    words: MergeTables
    pairs: NDArray[np.uint64]
    inside: NDArray[np.uint64]
    results: NDArray[np.int32]
    touching: NDArray[np.bool_]
    first_bytes: NDArray[np.uint8]
    last_bytes: NDArray[np.uint8]


@njit
def inside_table(left, right, ranks, inside_left, inside_right):
    """The ``inside`` of ``SuperwordTables``: merges and their ranks, and pairs that stand inside tokens."""
    codes = np.concatenate((np.full(len(inside_left), _APART, dtype=np.int64), ranks))
    return pair_table(np.concatenate((inside_left, left)), np.concatenate((inside_right, right)), codes)


MEMO_BITS = 16
"""Seams that are remembered: two to this."""


@njit
def _holds(left, right, words, memo, scratch, buffer):
    """Whether two tokens, encoded together by the first merges, stay what they are. ``buffer`` has room for their bytes."""
    key = np.uint64(left) << np.uint64(32) | np.uint64(right) << _ONE
    place = np.uintp(key * _K1 >> np.uint64(64 - MEMO_BITS))
    found = memo[place]
    if found | _ONE == key | _ONE:
        return found & _ONE != 0
    pieces = np.array([left, right], dtype=np.int32)
    num_bytes = spell_into(words, pieces, 0, 2, buffer, 0)
    size = merge_some(buffer, num_bytes, words.pairs, words.results, scratch)
    holds = size == 2 and buffer[0] == left and buffer[1] == right
    memo[place] = key | np.uint64(holds)
    return holds


@njit
def join_words(ids, word_sizes, chunk_words, tables, memo, out, chunk_sizes):
    """What the first merges make of chunks, from what they make of their words.

    Parameters
    ----------
    ids, word_sizes
        The ids of the words, one word after the other, and their number up to the end of each word.
        ``[dtype=int32]``, ``[shape=(n_words,), dtype=int64]``
    chunk_words
        How many words there are up to the end of each chunk. ``[shape=(n_chunks,), dtype=int64]``
    tables
        The vocabulary.
    memo
        Of the seams so far; zeros at first. ``[shape=(2 ** MEMO_BITS,), dtype=uint64]``
    out, chunk_sizes
        Filled: the ids, and their number up to the end of each chunk. ``out`` has room for one a byte.
        ``[dtype=int32]``, ``[shape=(n_chunks,), dtype=int64]``
    """
    offsets = tables.words.token_offsets
    longest = np.int64(0)
    for token in range(len(offsets) - 1):
        longest = max(longest, offsets[token + 1] - offsets[token])
    buffer = np.empty(2 * longest + 2, dtype=np.int32)
    scratch = new_scratch()
    touching = tables.touching
    first_bytes = tables.first_bytes
    last_bytes = tables.last_bytes
    size = np.int64(0)
    word = 0
    at = np.int64(0)
    for chunk in range(len(chunk_words)):
        tokens = out[size:]
        num = np.int64(0)
        while word < chunk_words[chunk]:
            seam = num
            while at < word_sizes[word]:
                tokens[num] = ids[at]
                num += 1
                at += 1
            word += 1
            if (
                0 < seam < num
                and touching[np.uintp(last_bytes[tokens[seam - 1]]) << np.uintp(8) | first_bytes[tokens[seam]]]
                and not _holds(tokens[seam - 1], tokens[seam], tables.words, memo, scratch, buffer)
            ):
                num, _ = join_at(tables.words, tokens, seam, num, scratch)
        size += num
        chunk_sizes[chunk] = size


@leaf
def _find_inside(inside, ids, chunk_sizes, codes):
    """Of each id and the next: the rank of the pair, ``_APART``, or ``NO_RANK``, as at the end of a chunk."""
    size = len(codes)
    for i in range(min(_AHEAD, size - 1)):
        fetch_rank(inside, ids[i], ids[i + 1])
    for i in range(size - 1):
        if i + _AHEAD < size - 1:
            fetch_rank(inside, ids[i + _AHEAD], ids[i + _AHEAD + 1])
        codes[i] = find_rank(inside, ids[i], ids[i + 1])
    for chunk in range(len(chunk_sizes)):
        if chunk_sizes[chunk] > 0:
            codes[chunk_sizes[chunk] - 1] = NO_RANK


@leaf
def _end_of_run(codes, start):
    """Where the run that starts at ``start`` stops, and whether anything in it can be merged."""
    merges = False
    stop = start
    while codes[stop] != NO_RANK:
        merges |= codes[stop] != _APART
        stop += 1
    return stop + 1, merges


@leaf
def _fill_row(ids, codes, at, tables, scratch, row):
    """Put the next run that is long enough in a row; returns where it stops. Runs of two ids are merged on the way.

    The row stays empty if there is no such run.
    """
    base = row * LANES
    scratch.sizes[row] = 0
    while at < len(codes):
        start = at
        merges = False
        while codes[at] != NO_RANK:
            merges |= codes[at] != _APART
            at += 1
        at += 1
        size = at - start
        if not merges:
            continue
        if size == 2:
            ids[start] = tables.results[codes[start]]
            ids[start + 1] = _GONE
        elif size > SCAN_SYMBOLS:
            kept = _merge_long_run(ids[start:at], tables.pairs, tables.results)
            ids[start + kept : at] = _GONE
        else:
            for i in range(size):
                scratch.tokens[base + i + 1] = ids[start + i]
                code = codes[start + i]
                scratch.keys[base + i + 1] = key_of(NO_RANK if code == _APART else code, i + 1)
            ready(scratch, row, size)
            scratch.words[row] = start
            return at
    return at


@njit
def _merge_long_run(ids, pairs, results):
    return merge_long(ids, len(ids), pairs, results)


@leaf
def _empty_row(ids, scratch, row):
    """Put the ids that are left in a row where its run was; the rest of its places are empty."""
    start = scratch.words[row]
    size = take(scratch, row, ids, start)
    for place in range(size, start + scratch.sizes[row]):
        ids[place] = _GONE


@njit
def merge_runs(ids, chunk_sizes, tables, out, out_sizes):
    """All merges of chunks, from what the first merges make of them.

    Parameters
    ----------
    ids, chunk_sizes
        Of ``join_words``; overwritten.
    tables
        The vocabulary.
    out, out_sizes
        Filled: the ids, and their number up to the end of each chunk; ``out`` has room for as many as there are.

    Returns
    -------
    int
        How many ids there are.
    """
    codes = np.empty(chunk_sizes[-1] if len(chunk_sizes) else 0, dtype=np.int32)
    _find_inside(tables.inside, ids, chunk_sizes, codes)
    scratch = new_scratch()
    at = np.int64(0)
    num_rows = 0
    while num_rows < TOGETHER and at < len(codes):
        at = _fill_row(ids, codes, at, tables, scratch, num_rows)
        num_rows += scratch.sizes[num_rows] > 0
    for row in range(num_rows):
        scratch.rows[row] = row
    while num_rows > 0:
        turn = 0
        while turn < num_rows:
            row = scratch.rows[turn]
            if merge_once(scratch.tokens, scratch.keys, scratch.alive, row, tables.pairs, tables.results):
                turn += 1
                continue
            _empty_row(ids, scratch, row)
            at = _fill_row(ids, codes, at, tables, scratch, row)
            if scratch.sizes[row] == 0:
                num_rows -= 1
                scratch.rows[turn] = scratch.rows[num_rows]
    return _gather(ids, chunk_sizes, out, out_sizes)


@leaf
def _gather(ids, chunk_sizes, out, out_sizes):
    """What is left of chunks, without gaps."""
    size = np.int64(0)
    at = np.int64(0)
    for chunk in range(len(chunk_sizes)):
        while at < chunk_sizes[chunk]:
            out[size] = ids[at]
            size += ids[at] != _GONE
            at += 1
        out_sizes[chunk] = size
    return size
