"""Merge the bytes of a word by ranks: the pair of lowest rank first, the leftmost of equals.

Short words run the textbook loop, which scans for the lowest rank; words of more than ``SCAN_SYMBOLS`` bytes use a heap of
(rank, position). A word longer than ``CHUNK_BYTES`` is cut into chunks that are encoded apart and joined at verified seams:
if the two tokens at a seam stay apart when encoded together, the concatenation is the exact encoding; if not, the
neighbourhood is encoded again, wider, until it is. (Every token of a trained vocabulary has one derivation, so a sequence
is the encoding of its bytes iff each adjacent pair is: the observation behind GitHub's ``rust-gems/bpe``.) So a document of
any length without a blank costs linear time and constant extra memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels._llvm import trailing_zeros

SCAN_SYMBOLS = 48
CHUNK_BYTES = 4096
NO_RANK = np.int32(2**31 - 1)
MOST_IDS = 1 << 21
"""Ids, and merges, that a pair table can hold."""

_ID_BITS = np.uint64(21)
_RANK_BITS = np.uint64(22)
_RANK = np.uint64((1 << 22) - 1)
_K1 = np.uint64(0x9E3779B97F4A7C15)


class MergeTables(NamedTuple):
    """A vocabulary as the encoder needs it.

    ``byte_ids [shape=(256,), dtype=int32]``: id of each byte, or -1 if it has none (such bytes are left out).
    ``pairs [shape=(capacity,), dtype=uint64]``: open addressing; from the top 21 bits the left id, 21 the right id, 22 the
    rank plus one. So small that it stays in the second-level cache.
    ``byte_pairs [shape=(65536,), dtype=int32]``: the rank of ``byte << 8 | byte``, or ``NO_RANK``.
    ``results [shape=(n_merges,), dtype=int32]``: the id that each merge makes.
    ``token_values [dtype=uint8]``, ``token_offsets [dtype=int64]``: the bytes of each id.
    ``one_derivation``: every token is made by exactly one merge, so that long words may be cut into chunks.
    """

    byte_ids: NDArray[np.int32]
    pairs: NDArray[np.uint64]
    byte_pairs: NDArray[np.int32]
    results: NDArray[np.int32]
    token_values: NDArray[np.uint8]
    token_offsets: NDArray[np.int64]
    one_derivation: bool


@leaf
def _pair_slot(key, pairs):
    return key * _K1 >> np.uint64(64 - trailing_zeros(np.uint64(len(pairs))))


@njit
def fill_pairs(pairs, left, right):
    """Enter merges, by rank, into an empty pair table. A pair given twice keeps its later rank, as in ``tokenizers``."""
    mask = np.uint64(len(pairs) - 1)
    one = np.uint64(1)
    for rank in range(len(left)):
        key = np.uint64(left[rank]) << _ID_BITS | np.uint64(right[rank])
        slot = _pair_slot(key, pairs)
        while pairs[slot] != 0 and pairs[slot] >> _RANK_BITS != key:
            slot = (slot + one) & mask
        pairs[slot] = key << _RANK_BITS | np.uint64(rank + 1)


@leaf
def _find_rank(pairs, left, right):
    """The rank of a pair, or ``NO_RANK``."""
    mask = np.uint64(len(pairs) - 1)
    one = np.uint64(1)
    key = np.uint64(left) << _ID_BITS | np.uint64(right)
    slot = _pair_slot(key, pairs)
    while True:
        found = pairs[slot]
        if found == 0:  # before the comparison: the pair (0, 0) has the key 0
            return NO_RANK
        if found >> _RANK_BITS == key:
            return np.int32(found & _RANK) - np.int32(1)
        slot = (slot + one) & mask


@njit
def ranks_of_bytes(pairs, byte_ids):
    """The rank of any two bytes; see ``MergeTables``."""
    result = np.full(65_536, NO_RANK, dtype=np.int32)
    for first in range(256):
        for second in range(256):
            if byte_ids[first] >= 0 and byte_ids[second] >= 0:
                result[first << 8 | second] = _find_rank(pairs, byte_ids[first], byte_ids[second])
    return result


@leaf
def _merge_short(ids, first, size, pairs, results, ranks):
    """Merge ``ids[first:first + size]`` in place by scanning for the lowest rank; returns the new size.

    ``ranks``: those of each two neighbours; used up.
    """
    while size > 1:
        best = 0
        lowest = ranks[0]
        for i in range(1, size - 1):
            if ranks[i] < lowest:
                lowest = ranks[i]
                best = i
        if lowest == NO_RANK:
            break
        at = first + best
        ids[at] = results[lowest]
        size -= 1
        for i in range(best + 1, size):
            ids[first + i] = ids[first + i + 1]
            ranks[i] = ranks[i + 1]
        if best > 0:
            ranks[best - 1] = _find_rank(pairs, ids[at - 1], ids[at])
        if best < size - 1:
            ranks[best] = _find_rank(pairs, ids[at], ids[at + 1])
    return size


@njit
def _merge_long(ids, size, pairs, results):
    """Merge ``ids[:size]`` in place with a linked list and a heap of ``(rank, position)``; returns the new size."""
    previous = np.arange(-1, size - 1, dtype=np.int32)
    following = np.arange(1, size + 1, dtype=np.int32)
    heap = np.empty((2 * size + 2, 2), dtype=np.int64)
    heap_size = 0
    for i in range(size - 1):
        found = _find_rank(pairs, ids[i], ids[i + 1])
        if found != NO_RANK:
            heap_size = _push(heap, heap_size, found, i)
    while heap_size > 0:
        found = np.int32(heap[0, 0])
        at = np.int64(heap[0, 1])
        heap_size = _pop(heap, heap_size)
        after = following[at]
        # Stale if the symbol here was merged away or changed, or its neighbour did: the pair is another one now.
        if ids[at] < 0 or after >= size or _find_rank(pairs, ids[at], ids[after]) != found:
            continue
        ids[at] = results[found]
        ids[after] = -1
        after = following[after]
        following[at] = after
        if after < size:
            previous[after] = at
            found = _find_rank(pairs, ids[at], ids[after])
            if found != NO_RANK:
                heap_size = _push(heap, heap_size, found, at)
        before = previous[at]
        if before >= 0:
            found = _find_rank(pairs, ids[before], ids[at])
            if found != NO_RANK:
                heap_size = _push(heap, heap_size, found, before)
    kept = 0
    for i in range(size):
        if ids[i] >= 0:
            ids[kept] = ids[i]
            kept += 1
    return kept


@leaf
def _push(heap, size, rank, at):
    child = size
    while child > 0:
        parent = (child - 1) >> 1
        if heap[parent, 0] < rank or (heap[parent, 0] == rank and heap[parent, 1] <= at):
            break
        heap[child, 0] = heap[parent, 0]
        heap[child, 1] = heap[parent, 1]
        child = parent
    heap[child, 0] = rank
    heap[child, 1] = at
    return size + 1


@leaf
def _pop(heap, size):
    size -= 1
    rank = heap[size, 0]
    at = heap[size, 1]
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        if child + 1 < size and (
            heap[child + 1, 0] < heap[child, 0]
            or (heap[child + 1, 0] == heap[child, 0] and heap[child + 1, 1] < heap[child, 1])
        ):
            child += 1
        if rank < heap[child, 0] or (rank == heap[child, 0] and at <= heap[child, 1]):
            break
        heap[parent, 0] = heap[child, 0]
        heap[parent, 1] = heap[child, 1]
        parent = child
    heap[parent, 0] = rank
    heap[parent, 1] = at
    return size


@njit
def _merge(ids, size, pairs, results, ranks):
    if size > SCAN_SYMBOLS:
        return _merge_long(ids, size, pairs, results)
    for i in range(size - 1):
        ranks[i] = _find_rank(pairs, ids[i], ids[i + 1])
    return _merge_short(ids, 0, size, pairs, results, ranks)


@leaf
def _spell_into(tables, tokens, start, stop, buffer, size):
    """Byte ids of ``tokens[start:stop]`` appended to ``buffer``; returns its new size."""
    for i in range(start, stop):
        for at in range(tables.token_offsets[tokens[i]], tables.token_offsets[tokens[i] + 1]):
            buffer[size] = tables.byte_ids[tables.token_values[at]]
            size += 1
    return size


@njit
def _join(tables, ids, seam, size, ranks):
    """Make ``ids[:size]`` exact where ``ids[:seam]`` and ``ids[seam:size]`` each are; returns the new size."""
    reach = 1
    while 0 < seam < size:
        start = max(seam - reach, 0)
        stop = min(seam + reach, size)
        num_bytes = 0
        for i in range(start, stop):
            num_bytes += tables.token_offsets[ids[i] + 1] - tables.token_offsets[ids[i]]
        buffer = np.empty(num_bytes, dtype=np.int32)
        _spell_into(tables, ids, start, stop, buffer, 0)
        joined = _merge(buffer, num_bytes, tables.pairs, tables.results, ranks)
        # The outermost tokens must have come out as they were (or be the word's own ends): then the seams beside them hold.
        left_holds = start == 0 or buffer[0] == ids[start]
        right_holds = stop == size or buffer[joined - 1] == ids[stop - 1]
        if left_holds and right_holds:
            change = joined - (stop - start)
            if change < 0:
                for i in range(stop, size):
                    ids[i + change] = ids[i]
            elif change > 0:
                for i in range(size - 1, stop - 1, -1):
                    ids[i + change] = ids[i]
            ids[start : start + joined] = buffer[:joined]
            return size + change
        reach *= 2
    return size


@leaf
def merge_short_word(text, start, stop, byte_ids, pairs, byte_pairs, results, ids, first, ranks):
    """As ``merge_word``, of a word of at most ``SCAN_SYMBOLS`` bytes, with the arrays themselves; ``first`` is the size."""
    size = 0
    last = np.int64(0)
    for at in range(start, stop):
        byte = np.int64(text[at])
        token = byte_ids[byte]
        if token >= 0:
            ids[first + size] = token
            if size > 0:
                ranks[size - 1] = byte_pairs[last << 8 | byte]
            last = byte
            size += 1
    return first + _merge_short(ids, first, size, pairs, results, ranks)


@njit
def _merge_chunk(text, start, stop, tables, ids, size, ranks):
    first = size
    for at in range(start, stop):
        token = tables.byte_ids[text[at]]
        if token >= 0:
            ids[size] = token
            size += 1
    return first + _merge(ids[first:size], size - first, tables.pairs, tables.results, ranks)


@njit
def merge_word(text, start, stop, tables, ids, size, ranks):
    """Append the ids of one word.

    Parameters
    ----------
    text, start, stop
        The word's bytes. ``[dtype=uint8]``
    tables
        The vocabulary.
    ids, size
        Ids go to ``ids[size:]``, which has room for one a byte. ``[dtype=int32]``
    ranks
        Scratch. ``[shape=(SCAN_SYMBOLS + 1,), dtype=int32]``

    Returns
    -------
    int
        The new size.

    Examples
    --------
    With the merges (a, b) and (ab, c), in this order, ``abcab`` is cut into ``abc`` and ``ab``.
    """
    if stop - start <= SCAN_SYMBOLS:
        return merge_short_word(
            text, start, stop, tables.byte_ids, tables.pairs, tables.byte_pairs, tables.results, ids, size, ranks
        )
    if stop - start <= CHUNK_BYTES or not tables.one_derivation:
        return _merge_chunk(text, start, stop, tables, ids, size, ranks)
    first = size
    for at in range(start, stop, CHUNK_BYTES):
        seam = size
        size = _merge_chunk(text, at, min(at + CHUNK_BYTES, stop), tables, ids, size, ranks)
        size = first + _join(tables, ids[first:], seam - first, size - first, ranks)
    return size
