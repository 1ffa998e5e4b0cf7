"""Words to ids: a bounded cache in front of the encoders.

A word of up to 15 bytes is its own key; its ids, up to four, lie beside it in half a cache line. Longer words, and those of
more ids, have their bytes and ids in arenas. When the table is half full, or an arena is full, the cache starts again,
empty. Words go through in groups, in three passes: look all up, with new words put into free entries; encode the new ones
together; copy the ids of all. So memory fetches many entries, and encodes many words, at the same time.

Time: linear in the words. Measured on one core (``benchmarks``, *encode*), 200 MB of mixed text, with splitting: 123 MB/s of
it new to the cache and 197 MB/s the second time with 32,768 tokens, 106 and 144 MB/s with 131,072.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels._llvm import trailing_zeros
from pipeline.kernels.keys import LONG, fetch_entries, hash_lanes
from pipeline.kernels.ranks import SCAN_SYMBOLS, MergeTables, merge_short_words, merge_word, new_scratch
from pipeline.kernels.vocabulary import VocabularyTrie, fewest_word, greedy_word

MERGE, GREEDY, FEWEST = 0, 1, 2
"""Modes of an encoder: by the ranks of the merges, the longest token first, the fewest tokens."""

GROUP = 256
"""Words that go through together."""

LONGEST_CACHED = 255

FETCHED = 64  # entries fetched at the same time
UNCACHED = np.uint64(2**64 - 1)  # in place of the entry of a longer word

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
    ``used [shape=(4,), dtype=int64]``: taken entries, bytes and ids; how often all were forgotten.
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
def _encode_word(text, start, stop, encoder, ids, size, scratch):
    if encoder.mode == GREEDY:
        return greedy_word(text, start, stop, encoder.trie, ids, size)
    if encoder.mode == FEWEST:
        return fewest_word(text, start, stop, encoder.trie, ids, size)
    return merge_word(text, start, stop, encoder.merges, ids, size, scratch)


@leaf
def look_up(text, start, stops, cache, slots, missing, lows, highs):
    """Find the entries of some words, and take free ones for new words, which then lack their ids.

    ``slots [dtype=uint64]`` is filled with the entry of each word, ``missing [dtype=int64]`` with the new words. Returns how
    many words were looked up before there was no room for another, and how many of them are new.
    """
    entries = cache.entries
    arena = cache.arena
    used = cache.used
    mask = np.uint64(len(entries) - 1)
    one = np.uint64(1)
    num_missing = 0
    ids_used = used[2]
    for first in range(0, len(stops), FETCHED):
        fetched = min(FETCHED, len(stops) - first)
        fetch_entries(text, start, stops[first : first + fetched], entries, lows, highs, slots[first:])
        for i in range(fetched):
            stop = stops[first + i]
            length = stop - start
            low = lows[i]
            high = highs[i]
            slot = slots[first + i]
            while entries[slot, 1] != 0 and not _holds(entries, slot, low, high, text, start, length, arena):
                slot = (slot + one) & mask
            slots[first + i] = slot
            if entries[slot, 1] == 0:
                is_long = high >> _S56 == LONG
                num_bytes = length + 1 if is_long else 0
                if length > LONGEST_CACHED or length > len(cache.ids) or num_bytes > len(arena):
                    slots[first + i] = UNCACHED
                    start = stop
                    continue
                ids_used += length
                place = used[1]
                if 2 * used[0] >= len(entries) or place + num_bytes > len(arena) or ids_used > len(cache.ids):
                    return first + i, num_missing
                if is_long:
                    arena[place] = length
                    for at in range(length):
                        arena[place + 1 + at] = text[start + at]
                    high = _LONG_ENTRY << _S56 | np.uint64(place)
                used[0] += 1
                used[1] += num_bytes
                entries[slot, 0] = low
                entries[slot, 1] = high
                missing[num_missing] = first + i
                num_missing += 1
            start = stop
    return len(stops), num_missing


@leaf
def remember(cache, slot, ids, num_ids):
    """Put the ids of a new word, ``ids[:num_ids]``, into its entry."""
    entries = cache.entries
    if num_ids <= _IN_PLACE and entries[slot, 1] >> _S56 != _LONG_ENTRY:
        entries[slot, 1] |= np.uint64(num_ids) << _S60
        for i in range(2):
            lane = np.uint64(0)
            if 2 * i < num_ids:
                lane = np.uint64(ids[2 * i])
            if 2 * i + 1 < num_ids:
                lane |= np.uint64(ids[2 * i + 1]) << _S32
            entries[slot, 2 + i] = lane
        return
    place = cache.used[2]
    for i in range(num_ids):
        cache.ids[place + i] = ids[i]
    cache.used[2] += num_ids
    entries[slot, 1] |= _IN_ARENA << _S60
    entries[slot, 2] = np.uint64(place)
    entries[slot, 3] = np.uint64(num_ids)


@leaf
def copy_ids(entries, cached_ids, slot, ids, size):
    """Append the ids of an entry; returns the new size."""
    third = entries[slot, 2]
    fourth = entries[slot, 3]
    num_ids = entries[slot, 1] >> _S60
    if num_ids < _IN_ARENA:  # four stores whatever their number, rather than a branch
        ids[size] = np.int32(third & _LOWER)
        ids[size + 1] = np.int32(third >> _S32)
        ids[size + 2] = np.int32(fourth & _LOWER)
        ids[size + 3] = np.int32(fourth >> _S32)
        return size + np.int64(num_ids)
    place = np.int64(third)
    for j in range(np.int64(fourth)):
        ids[size + j] = cached_ids[place + j]
    return size + np.int64(fourth)


@leaf
def forget(cache):
    """All entries become free."""
    for i in range(len(cache.entries)):
        cache.entries[i, 1] = 0
    for i in range(3):
        cache.used[i] = 0
    cache.used[3] += 1


@njit
def _encode_missing(text, start, stops, missing, encoder, cache, slots, more, scratch):
    """Encode new words: short ones by merges together, others one by one; ``more`` has room for the ids of any of them."""
    starts_short = np.empty(len(missing), dtype=np.int64)
    stops_short = np.empty(len(missing), dtype=np.int64)
    slots_short = np.empty(len(missing), dtype=np.uint64)
    num_short = 0
    for word in missing:
        word_start = start if word == 0 else stops[word - 1]
        if encoder.mode == MERGE and stops[word] - word_start <= SCAN_SYMBOLS:
            starts_short[num_short] = word_start
            stops_short[num_short] = stops[word]
            slots_short[num_short] = slots[word]
            num_short += 1
        else:
            remember(cache, slots[word], more, _encode_word(text, word_start, stops[word], encoder, more, 0, scratch))
    ids = np.empty((num_short, SCAN_SYMBOLS), dtype=np.int32)
    sizes = np.empty(num_short, dtype=np.int64)
    merge_short_words(text, starts_short, stops_short, num_short, encoder.merges, scratch, ids, sizes)
    for word in range(num_short):
        remember(cache, slots_short[word], ids[word], sizes[word])


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
    """Encode words, in order. Should it raise, the cache may hold words without their ids, and must not be used again.

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
    slots = np.empty(GROUP, dtype=np.uint64)
    missing = np.empty(GROUP, dtype=np.int64)
    lows = np.empty(FETCHED, dtype=np.uint64)
    highs = np.empty(FETCHED, dtype=np.uint64)
    entries = cache.entries
    cached_ids = cache.ids
    scratch = new_scratch()
    size = 0
    doc = 0
    word = 0
    while word < len(stops):
        group = stops[word : word + GROUP]
        num_words, num_missing = look_up(text, start, group, cache, slots, missing, lows, highs)
        if num_words == 0:
            forget(cache)
        if num_missing > 0:
            _encode_missing(text, start, group, missing[:num_missing], encoder, cache, slots, ids[size:], scratch)
        for i in range(num_words):
            while doc < len(doc_stops) and doc_stops[doc] <= start:
                doc_sizes[doc] = size
                doc += 1
            slot = slots[i]
            if slot == UNCACHED:
                size = _encode_word(text, start, group[i], encoder, ids, size, scratch)
                start = group[i]
                continue
            size = copy_ids(entries, cached_ids, slot, ids, size)
            start = group[i]
        word += num_words
    while doc < len(doc_stops):
        doc_sizes[doc] = size
        doc += 1
    return size
