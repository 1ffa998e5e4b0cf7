"""Words to ids: a bounded cache in front of the encoders.

A word of up to 15 bytes is its own key; its ids, up to four, lie beside it in half a cache line. Longer words, and those of
more ids, have their bytes and ids in arenas. When the table is half full, or an arena is full, the cache starts again,
empty. Entries of a group of words are fetched together, so that memory works while keys are made.

Measured in ``benchmarks`` as *encode*.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels._llvm import trailing_zeros
from pipeline.kernels.keys import LONG, fetch_entries, hash_lanes
from pipeline.kernels.ranks import SCAN_SYMBOLS, MergeTables, merge_short_word, merge_word
from pipeline.kernels.vocabulary import VocabularyTrie, fewest_word, greedy_word

MERGE, GREEDY, FEWEST = 0, 1, 2
"""Modes of an encoder: by the ranks of the merges, the longest token first, the fewest tokens."""

GROUP = 64
LONGEST_CACHED = 255

_IN_PLACE = 4  # ids that an entry has room for
_IN_ARENA = np.uint64(15)  # in place of their number: they are in the arena
_NUM_IDS = np.uint64(0xF0) << np.uint64(56)  # the bits of an entry's second lane that hold their number
_LONG_ENTRY = np.uint64(0xF0)  # in the arena, and a length that no short word has
_S32 = np.uint64(32)
_S56 = np.uint64(56)
_S60 = np.uint64(60)
_LOWER = np.uint64(0xFFFFFFFF)
_OFFSET = np.uint64((1 << 56) - 1)


class Encoder(NamedTuple):
    """How words become ids: a mode, and what it needs (``trie`` for GREEDY and FEWEST, ``merges`` for MERGE)."""

    mode: int
    merges: MergeTables
    trie: VocabularyTrie


class WordCache(NamedTuple):
    """Encoded words.

    ``entries [shape=(capacity, 4), dtype=uint64]``: a word's key (two lanes) and its ids, two in each of the other lanes,
    or their place and number in ``ids [dtype=int32]``; the capacity is a power of two.
    Of a short word, the number of ids is in the top half byte of the second lane, ``_IN_ARENA`` if they are elsewhere. Of
    a long word the second lane holds, below ``_LONG_ENTRY``, its place in ``arena [dtype=uint8]``: length, then bytes.
    ``used [shape=(3,), dtype=int64]``: taken entries, bytes and ids.
    """

    entries: NDArray[np.uint64]
    arena: NDArray[np.uint8]
    ids: NDArray[np.int32]
    used: NDArray[np.int64]


@leaf
def _holds(entries, slot, low, high, text, start, length, arena):
    """Whether an entry is that of a word."""
    if entries[slot, 0] != low:
        return False
    other = entries[slot, 1]
    if high >> _S56 != LONG:
        return other & ~_NUM_IDS == high
    if other >> _S56 != _LONG_ENTRY:
        return False
    place = np.int64(other & _OFFSET)
    if np.int64(arena[place]) != length:
        return False
    for i in range(length):
        if text[start + i] != arena[place + 1 + i]:
            return False
    return True


@njit
def _encode_word(text, start, stop, encoder, ids, size, ranks):
    if encoder.mode == GREEDY:
        return greedy_word(text, start, stop, encoder.trie, ids, size)
    if encoder.mode == FEWEST:
        return fewest_word(text, start, stop, encoder.trie, ids, size)
    return merge_word(text, start, stop, encoder.merges, ids, size, ranks)


@leaf
def _remember(entries, arena, cached_ids, used, slot, low, high, text, start, length, ids, first, num_ids):
    """Put a word and its ids into a free entry. If there is no room, all entries become free, and the word is not kept."""
    if length > LONGEST_CACHED:
        return
    is_long = high >> _S56 == LONG
    in_place = num_ids <= _IN_PLACE and not is_long
    num_bytes = length + 1 if is_long else 0
    num_placed = 0 if in_place else num_ids
    if 2 * used[0] >= len(entries) or used[1] + num_bytes > len(arena) or used[2] + num_placed > len(cached_ids):
        for i in range(len(entries)):
            entries[i, 1] = 0
        for i in range(len(used)):
            used[i] = 0
        return
    used[0] += 1
    entries[slot, 0] = low
    if in_place:
        entries[slot, 1] = high | np.uint64(num_ids) << _S60
        for i in range(2):
            lane = np.uint64(0)
            if 2 * i < num_ids:
                lane = np.uint64(ids[first + 2 * i])
            if 2 * i + 1 < num_ids:
                lane |= np.uint64(ids[first + 2 * i + 1]) << _S32
            entries[slot, 2 + i] = lane
        return
    place = used[2]
    for i in range(num_ids):
        cached_ids[place + i] = ids[first + i]
    used[2] += num_ids
    entries[slot, 2] = np.uint64(place)
    entries[slot, 3] = np.uint64(num_ids)
    if not is_long:
        entries[slot, 1] = high | _IN_ARENA << _S60
        return
    place = used[1]
    arena[place] = length
    for i in range(length):
        arena[place + 1 + i] = text[start + i]
    used[1] += num_bytes
    entries[slot, 1] = _LONG_ENTRY << _S56 | np.uint64(place)


@njit
def move_entries(old, new):
    """Copy the entries of a cache to a larger, empty table: ``[shape=(capacity, 4), dtype=uint64]`` both."""
    mask = np.uint64(len(new) - 1)
    shift = np.uint64(64 - trailing_zeros(np.uint64(len(new))))
    one = np.uint64(1)
    for at in range(len(old)):
        high = old[at, 1]
        if high == 0:
            continue
        high = LONG << _S56 if high >> _S56 == _LONG_ENTRY else high & ~_NUM_IDS
        slot = hash_lanes(old[at, 0], high) >> shift
        while new[slot, 1] != 0:
            slot = (slot + one) & mask
        for i in range(4):
            new[slot, i] = old[at, i]


@njit
def encode_words(text, start, stops, doc_stops, encoder, cache, ids, doc_sizes):
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
    encoder
        Mode and vocabulary.
    cache
        Used and filled.
    ids
        Filled with the ids; has room for one a byte of the words and four more. ``[dtype=int32]``
    doc_sizes
        Filled with the number of ids up to the end of each document. ``[shape=(n_docs,), dtype=int64]``

    Returns
    -------
    int
        How many ids there are.
    """
    entries = cache.entries
    arena = cache.arena
    cached_ids = cache.ids
    used = cache.used
    by_merges = encoder.mode == MERGE
    byte_ids = encoder.merges.byte_ids
    pairs = encoder.merges.pairs
    byte_pairs = encoder.merges.byte_pairs
    results = encoder.merges.results
    mask = np.uint64(len(entries) - 1)
    one = np.uint64(1)
    lows = np.empty(GROUP, dtype=np.uint64)
    highs = np.empty(GROUP, dtype=np.uint64)
    slots = np.empty(GROUP, dtype=np.uint64)
    ranks = np.empty(SCAN_SYMBOLS + 1, dtype=np.int32)
    size = 0
    doc = 0
    for first in range(0, len(stops), GROUP):
        group = min(GROUP, len(stops) - first)
        fetch_entries(text, start, stops[first : first + group], entries, lows, highs, slots)
        for i in range(group):
            stop = stops[first + i]
            while doc < len(doc_stops) and doc_stops[doc] <= start:
                doc_sizes[doc] = size
                doc += 1
            low = lows[i]
            high = highs[i]
            slot = slots[i]
            length = stop - start
            while entries[slot, 1] != 0 and not _holds(entries, slot, low, high, text, start, length, arena):
                slot = (slot + one) & mask
            if entries[slot, 1] == 0:
                old = size
                if by_merges and length <= SCAN_SYMBOLS:
                    size = merge_short_word(text, start, stop, byte_ids, pairs, byte_pairs, results, ids, size, ranks)
                else:
                    size = _encode_word(text, start, stop, encoder, ids, size, ranks)
                _remember(entries, arena, cached_ids, used, slot, low, high, text, start, length, ids, old, size - old)
                start = stop
                continue
            third = entries[slot, 2]
            fourth = entries[slot, 3]
            num_ids = entries[slot, 1] >> _S60
            if num_ids < _IN_ARENA:  # four stores whatever their number, rather than a branch
                ids[size] = np.int32(third & _LOWER)
                ids[size + 1] = np.int32(third >> _S32)
                ids[size + 2] = np.int32(fourth & _LOWER)
                ids[size + 3] = np.int32(fourth >> _S32)
                size += np.int64(num_ids)
            else:
                place = np.int64(third)
                for j in range(np.int64(fourth)):
                    ids[size + j] = cached_ids[place + j]
                size += np.int64(fourth)
            start = stop
    while doc < len(doc_stops):
        doc_sizes[doc] = size
        doc += 1
    return size
