"""Words to ids: a bounded cache in front of exact merging.

Short words run the textbook loop (merge the pair of lowest rank, leftmost first); words of more than ``SCAN_SYMBOLS``
bytes use a heap of (rank, position). A word longer than ``CHUNK_BYTES`` is cut into chunks that are encoded apart and
joined at verified seams: if the two tokens at a seam stay apart when encoded together, the concatenation is the exact
encoding; if not, the neighbourhood is encoded again, wider, until it is. (Every token of a trained vocabulary has one
derivation, so a sequence is the encoding of its bytes iff each adjacent pair is: the observation behind GitHub's
``rust-gems/bpe``.) So a document of any length without a blank costs linear time and constant extra memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import njit
from pipeline.kernels.keys import LONG, hash_lanes, key_lanes

SCAN_SYMBOLS = 48
CHUNK_BYTES = 4096
LONGEST_CACHED = 255

_S32 = np.uint64(32)
_S56 = np.uint64(56)
_LOWER = np.uint64(0xFFFFFFFF)
_OFFSET = np.uint64((1 << 56) - 1)
_NO_RANK = np.int64(1 << 62)
_PROBES = 8


class MergeTables(NamedTuple):
    """A vocabulary as the encoder needs it.

    ``byte_ids [shape=(256,), dtype=int32]``: id of each byte, or -1 if it has none (such bytes are left out).
    ``pairs [shape=(capacity, 2), dtype=uint64]``: open addressing; ``left << 32 | right`` plus one, then
    ``rank << 32 | id``.
    ``token_values [dtype=uint8]``, ``token_offsets [dtype=int64]``: the bytes of each id.
    ``one_derivation``: every token is made by exactly one merge, so that long words may be cut into chunks.
    """

    byte_ids: NDArray[np.int32]
    pairs: NDArray[np.uint64]
    token_values: NDArray[np.uint8]
    token_offsets: NDArray[np.int64]
    one_derivation: bool


class WordCache(NamedTuple):
    """Encoded words. ``entries [shape=(capacity, 4), dtype=uint64]``: key (two lanes), then up to two ids in place, or
    the place of more in ``ids``; the number of ids is in the top half of the last. ``used``: taken bytes and ids.
    """

    entries: NDArray[np.uint64]
    arena: NDArray[np.uint8]
    ids: NDArray[np.int32]
    used: NDArray[np.int64]


@njit
def _pair_slot(key, mask):
    return hash_lanes(key, np.uint64(0)) & mask


@njit
def fill_pairs(pairs, left, right, ranks, ids):
    """Enter merges into an empty pair table. A pair given twice keeps its later rank, as in ``tokenizers``."""
    mask = np.uint64(len(pairs) - 1)
    one = np.uint64(1)
    for i in range(len(left)):
        key = (np.uint64(left[i]) << _S32 | np.uint64(right[i])) + one
        slot = _pair_slot(key, mask)
        while pairs[slot, 0] != 0 and pairs[slot, 0] != key:
            slot = (slot + one) & mask
        pairs[slot, 0] = key
        pairs[slot, 1] = np.uint64(ranks[i]) << _S32 | np.uint64(ids[i])


@njit
def _find_pair(pairs, left, right):
    """``rank << 32 | id`` of a pair, or ``_NO_RANK``."""
    mask = np.uint64(len(pairs) - 1)
    one = np.uint64(1)
    key = (np.uint64(left) << _S32 | np.uint64(right)) + one
    slot = _pair_slot(key, mask)
    while True:
        found = pairs[slot, 0]
        if found == key:
            return np.int64(pairs[slot, 1])
        if found == 0:
            return _NO_RANK
        slot = (slot + one) & mask


@njit
def _merge_short(ids, size, pairs, ranks):
    """Merge ``ids[:size]`` in place by scanning for the lowest rank; returns the new size. ``ranks`` is scratch."""
    for i in range(size - 1):
        ranks[i] = _find_pair(pairs, ids[i], ids[i + 1])
    while size > 1:
        best = 0
        for i in range(1, size - 1):
            if ranks[i] < ranks[best]:
                best = i
        if ranks[best] == _NO_RANK:
            break
        ids[best] = np.int32(ranks[best] & 0xFFFFFFFF)
        size -= 1
        for i in range(best + 1, size):
            ids[i] = ids[i + 1]
            ranks[i] = ranks[i + 1]
        if best > 0:
            ranks[best - 1] = _find_pair(pairs, ids[best - 1], ids[best])
        if best < size - 1:
            ranks[best] = _find_pair(pairs, ids[best], ids[best + 1])
    return size


@njit
def _merge_long(ids, size, pairs):
    """Merge ``ids[:size]`` in place with a linked list and a heap of ``(rank, position)``; returns the new size."""
    previous = np.arange(-1, size - 1, dtype=np.int32)
    following = np.arange(1, size + 1, dtype=np.int32)
    heap = np.empty((2 * size + 2, 2), dtype=np.int64)
    heap_size = 0
    for i in range(size - 1):
        found = _find_pair(pairs, ids[i], ids[i + 1])
        if found != _NO_RANK:
            heap_size = _push(heap, heap_size, found, i)
    while heap_size > 0:
        found = heap[0, 0]
        at = np.int64(heap[0, 1])
        heap_size = _pop(heap, heap_size)
        after = following[at]
        # Stale if the symbol here was merged away or changed, or its neighbour did: the pair is another one now.
        if ids[at] < 0 or after >= size or _find_pair(pairs, ids[at], ids[after]) != found:
            continue
        ids[at] = np.int32(found & 0xFFFFFFFF)
        ids[after] = -1
        after = following[after]
        following[at] = after
        if after < size:
            previous[after] = at
            found = _find_pair(pairs, ids[at], ids[after])
            if found != _NO_RANK:
                heap_size = _push(heap, heap_size, found, at)
        before = previous[at]
        if before >= 0:
            found = _find_pair(pairs, ids[before], ids[at])
            if found != _NO_RANK:
                heap_size = _push(heap, heap_size, found, before)
    kept = 0
    for i in range(size):
        if ids[i] >= 0:
            ids[kept] = ids[i]
            kept += 1
    return kept


@njit
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


@njit
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
def _merge(ids, size, pairs, ranks):
    if size <= SCAN_SYMBOLS:
        return _merge_short(ids, size, pairs, ranks)
    return _merge_long(ids, size, pairs)


@njit
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
        joined = _merge(buffer, num_bytes, tables.pairs, ranks)
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


@njit
def _encode_chunk(text, start, stop, tables, ids, size, ranks):
    first = size
    for at in range(start, stop):
        token = tables.byte_ids[text[at]]
        if token >= 0:
            ids[size] = token
            size += 1
    return first + _merge(ids[first:size], size - first, tables.pairs, ranks)


@njit
def _encode_word(text, start, stop, tables, ids, size, ranks):
    """Append the ids of one word to ``ids``, which has room for a token a byte; returns the new size."""
    if stop - start <= CHUNK_BYTES or not tables.one_derivation:
        return _encode_chunk(text, start, stop, tables, ids, size, ranks)
    first = size
    for at in range(start, stop, CHUNK_BYTES):
        seam = size
        size = _encode_chunk(text, at, min(at + CHUNK_BYTES, stop), tables, ids, size, ranks)
        size = first + _join(tables, ids[first:], seam - first, size - first, ranks)
    return size


@njit
def _same_bytes(text, start, length, cache, offset):
    if np.int64(cache.arena[offset]) != length:
        return False
    for i in range(length):
        if text[start + i] != cache.arena[offset + 1 + i]:
            return False
    return True


@njit
def encode_words(text, start, stops, doc_stops, tables, cache, ids, doc_sizes):
    """Encode words one after the other.

    Parameters
    ----------
    text
        Padded text. ``[dtype=uint8]``
    start
        Where the first word starts.
    stops
        Where each word stops and the next starts. ``[shape=(n_words,), dtype=int64]``
    doc_stops
        Where documents stop: those from ``start`` to the last word's stop. ``[shape=(n_docs,), dtype=int64]``
    tables
        The vocabulary.
    cache
        Used and filled; when it is full it starts again, empty. Never changes a result.
    ids
        Filled with the ids; at least as long as the text of the words. ``[dtype=int32]``
    doc_sizes
        Filled with the number of ids up to the end of each document. ``[shape=(n_docs,), dtype=int64]``

    Returns
    -------
    int
        How many ids were written.
    """
    entries = cache.entries
    mask = np.uint64(len(entries) - 1)
    one = np.uint64(1)
    ranks = np.empty(SCAN_SYMBOLS + 1, dtype=np.int64)
    size = 0
    doc = 0
    for word in range(len(stops)):
        stop = stops[word]
        while doc < len(doc_stops) and doc_stops[doc] <= start:
            doc_sizes[doc] = size
            doc += 1
        length = stop - start
        if length > LONGEST_CACHED:
            size = _encode_word(text, start, stop, tables, ids, size, ranks)
            start = stop
            continue
        low, high = key_lanes(text, start, stop)
        is_long = high >> _S56 == LONG
        home = hash_lanes(low, high) & mask
        slot = home
        free = home
        is_hit = False
        for _ in range(_PROBES):
            other = entries[slot, 1]
            if other == 0:
                free = slot
                break
            if entries[slot, 0] == low and (
                other == high
                or (is_long and other >> _S56 == LONG and _same_bytes(text, start, length, cache, np.int64(other & _OFFSET)))
            ):
                is_hit = True
                break
            slot = (slot + one) & mask
        if is_hit:
            first = entries[slot, 2]
            second = entries[slot, 3]
            num_ids = np.int64(second >> _S32)
            if num_ids <= 2:
                ids[size] = np.int32(first & _LOWER)
                if num_ids == 2:
                    ids[size + 1] = np.int32(second & _LOWER)
            else:
                place = np.int64(first)
                for i in range(num_ids):
                    ids[size + i] = cache.ids[place + i]
            size += num_ids
            start = stop
            continue
        first_id = size
        size = _encode_word(text, start, stop, tables, ids, size, ranks)
        num_ids = size - first_id
        if cache.used[0] + length + 1 > len(cache.arena) or cache.used[1] + num_ids > len(cache.ids):
            entries[:] = 0
            cache.used[:] = 0
            free = home
        if is_long:
            place = cache.used[0]
            cache.arena[place] = length
            cache.arena[place + 1 : place + 1 + length] = text[start:stop]
            cache.used[0] += length + 1
            high |= np.uint64(place)
        entries[free, 0] = low
        entries[free, 1] = high
        entries[free, 3] = np.uint64(num_ids) << _S32
        if num_ids <= 2:
            if num_ids > 0:
                entries[free, 2] = np.uint64(ids[first_id])
            if num_ids == 2:
                entries[free, 3] |= np.uint64(ids[first_id + 1])
        else:
            entries[free, 2] = np.uint64(cache.used[1])
            for i in range(num_ids):
                cache.ids[cache.used[1] + i] = ids[first_id + i]
            cache.used[1] += num_ids
        start = stop
    while doc < len(doc_stops):
        doc_sizes[doc] = size
        doc += 1
    return size
