"""Merge the bytes of a word by ranks: the pair of lowest rank first, the leftmost of equals.

Words of up to ``SCAN_SYMBOLS`` bytes run the textbook loop, which scans for the lowest rank, without a branch that depends
on what is found; several words take turns, so that one merges while the others wait for memory. A longer word is cut into
such pieces, joined at verified seams: if the two tokens at a seam stay apart when encoded together, the concatenation is
the exact encoding; if not, the neighbourhood is encoded again, wider, until it is. (The merges of a text, seen from one part
of it, are those of the part alone until the first that crosses its ends; so if the pieces T1 T2 and T2 T3 encode to just
these tokens, T1 T2 T3 does. The observation is that of GitHub's ``rust-gems/bpe``.) So a word of any length costs linear
time, but where merges cascade over more than ``SCAN_SYMBOLS`` bytes: there a heap of (rank, position) takes over, and as
long as they do, as in a million equal letters, the next piece is as long as what was encoded again.
Measured as part of ``benchmarks``, *encode*.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels._llvm import LANES, PREFIXES, leading_zeros, least_lane, prefetch, prefix_mask, trailing_zeros

SCAN_SYMBOLS = 48
TOGETHER = 8
"""Short words that take turns."""

_CASCADE = 16 * SCAN_SYMBOLS
"""Bytes encoded again at a seam from which on the next piece is that long."""

NO_RANK = np.int32(2**31 - 1)
MOST_IDS = (1 << 21) - 1
"""Ids, and merges, that a pair table can hold."""

_LOWER = np.int64(2**32 - 1)
_NOBODY = np.int32(MOST_IDS)  # an id that belongs to no pair
_AT_BITS = np.uint32(6)
_AT = np.uint32(63)
_NO_KEY = np.uint32(2**32 - 64)

_ID_BITS = np.uint64(21)
_RANK_BITS = np.uint64(22)
_RANK = np.uint64((1 << 22) - 1)
_K1 = np.uint64(0x9E3779B97F4A7C15)


class MergeTables(NamedTuple):
    """A vocabulary as the encoder needs it.

    ``byte_ids [shape=(256,), dtype=int32]``: id of each byte, or -1 if it has none (such bytes are left out).
    ``pairs [shape=(capacity + PREFIXES,), dtype=uint64]``: open addressing, the first entries once more behind the last, so
    that ``PREFIXES`` can be looked at together; from the top 21 bits the left id, 21 the right id, 22 the rank plus one.
    ``byte_pairs [shape=(65536,), dtype=int32]``: the rank of ``byte << 8 | byte``, or ``NO_RANK``.
    ``results [shape=(n_merges,), dtype=int32]``: the id that each merge makes.
    ``token_values [dtype=uint8]``, ``token_offsets [dtype=int64]``: the bytes of each id.
    """

    byte_ids: NDArray[np.int32]
    pairs: NDArray[np.uint64]
    byte_pairs: NDArray[np.int32]
    results: NDArray[np.int32]
    token_values: NDArray[np.uint8]
    token_offsets: NDArray[np.int64]


@leaf
def _pair_slot(key, pairs):
    return key * _K1 >> np.uint64(leading_zeros(np.uint64(len(pairs))) + 1)


@njit
def pair_table(left, right, ranks):
    """The ``pairs`` of ``MergeTables``, for merges and their ranks.

    A pair given twice keeps the rank that is given later, as in ``tokenizers``.
    """
    one = np.uint64(1)
    capacity = 16
    while capacity < 2 * len(left):
        capacity *= 2
    mask = np.uint64(capacity - 1)
    pairs = np.zeros(capacity + PREFIXES, dtype=np.uint64)
    for i in range(len(left)):
        key = np.uint64(left[i]) << _ID_BITS | np.uint64(right[i])
        slot = _pair_slot(key, pairs)
        while pairs[slot] != 0 and pairs[slot] >> _RANK_BITS != key:
            slot = (slot + one) & mask
        pairs[slot] = key << _RANK_BITS | np.uint64(ranks[i] + 1)
    pairs[capacity:] = pairs[:PREFIXES]
    return pairs


@leaf
def fetch_rank(pairs, left, right):
    """Start loading the place of a pair."""
    prefetch(pairs, np.uintp(_pair_slot(np.uint64(left) << _ID_BITS | np.uint64(right), pairs)))


@leaf
def find_rank(pairs, left, right):
    """The rank of a pair, or ``NO_RANK``."""
    key = np.uint64(left) << _ID_BITS | np.uint64(right)
    slot = np.uintp(_pair_slot(key, pairs))
    mask = np.uintp(len(pairs) - PREFIXES - 1)
    while True:
        empty = prefix_mask(pairs, slot, np.uint64(0), np.uint64(0))
        found = prefix_mask(pairs, slot, key, _RANK_BITS) & ~empty
        if found | empty != 0:
            break
        slot = (slot + np.uintp(PREFIXES)) & mask
    rank = np.int32(pairs[slot + np.uintp(trailing_zeros(found | empty))] & _RANK)
    return NO_RANK if found == 0 else rank - np.int32(1)


@njit
def ranks_of_bytes(pairs, byte_ids):
    """The rank of any two bytes; see ``MergeTables``."""
    result = np.full(65_536, NO_RANK, dtype=np.int32)
    for first in range(256):
        for second in range(256):
            if byte_ids[first] >= 0 and byte_ids[second] >= 0:
                result[first << 8 | second] = find_rank(pairs, byte_ids[first], byte_ids[second])
    return result


class Scratch(NamedTuple):
    """What short words are merged in, a row of ``LANES`` places for each of the ``TOGETHER``.

    Symbols stay where they are, in the places 1 to n of ``tokens [dtype=int32]``, between two that belong to no pair; a bit
    of ``alive [shape=(TOGETHER,), dtype=uint64]`` is set for each place that still holds one. ``keys [dtype=uint32]`` at
    place i: rank of the pair of i and the next symbol alive, above ``i`` itself; ``_NO_KEY`` or more for no merge.
    ``sizes``, ``words``, ``rows`` ``[shape=(TOGETHER,), dtype=int64]``: of a row, n and its word; the rows at work.
    """

    tokens: NDArray[np.int32]
    keys: NDArray[np.uint32]
    alive: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    words: NDArray[np.int64]
    rows: NDArray[np.int64]


@njit
def new_scratch():
    """An empty ``Scratch``."""
    return Scratch(
        np.full(TOGETHER * LANES, _NOBODY, dtype=np.int32),
        np.full(TOGETHER * LANES, _NO_KEY, dtype=np.uint32),
        np.zeros(TOGETHER, dtype=np.uint64),
        np.zeros(TOGETHER, dtype=np.int64),
        np.zeros(TOGETHER, dtype=np.int64),
        np.zeros(TOGETHER, dtype=np.int64),
    )


@leaf
def key_of(rank, at):
    """What a pair is merged by: its rank, then its place."""
    return np.uint32(np.uint32(rank) << _AT_BITS | np.uint32(at))


@leaf
def ready(scratch, row, size):
    """The symbols and keys of a word are in place."""
    scratch.keys[row * LANES] = _NO_KEY
    scratch.tokens[row * LANES + size + 1] = _NOBODY
    scratch.alive[row] = (np.uint64(1) << np.uint64(size + 2)) - np.uint64(1)
    scratch.sizes[row] = size


@leaf
def merge_once(tokens, keys, alive, row, pairs, results):
    """One merge of the word in a row; False if there is none left. A merge moves no symbol but the two."""
    one = np.uint64(1)
    base = np.uintp(row * LANES)
    lowest = least_lane(keys, base)
    if lowest >= _NO_KEY:
        return False
    here = alive[row]
    at = np.uint64(lowest & _AT)
    above = here & ~((np.uint64(2) << at) - one)
    gone = np.uintp(trailing_zeros(above))
    above &= above - one
    after = np.uintp(trailing_zeros(above))
    before = np.uintp(63 - leading_zeros(here & ((one << at) - one)))
    alive[row] = here & ~(one << gone)
    token = results[lowest >> _AT_BITS]
    tokens[base + at] = token
    keys[base + gone] = _NO_KEY
    keys[base + before] = key_of(find_rank(pairs, tokens[base + before], token), before)
    keys[base + at] = key_of(find_rank(pairs, token, tokens[base + after]), at)
    return True


@leaf
def take(scratch, row, ids, num_ids):
    """Append to ``ids[:num_ids]`` the symbols left in a row; returns the new number."""
    one = np.uint64(1)
    left = scratch.alive[row] & ~(one << np.uint64(scratch.sizes[row] + 1))
    left &= left - one
    while left != 0:
        ids[num_ids] = scratch.tokens[row * LANES + trailing_zeros(left)]
        num_ids += 1
        left &= left - one
    return num_ids


@leaf
def _spell(text, start, stop, tables, scratch, row):
    """Put the bytes of a word in a row, those without an id left out."""
    byte_ids = tables.byte_ids
    byte_pairs = tables.byte_pairs
    tokens = scratch.tokens
    keys = scratch.keys
    base = row * LANES
    size = 0
    last = np.uintp(0)
    for at in range(start, stop):
        byte = np.uintp(text[at])
        token = byte_ids[byte]
        if token >= 0:
            keys[base + size] = key_of(byte_pairs[last << np.uintp(8) | byte], size)
            size += 1
            tokens[base + size] = token
            last = byte
    ready(scratch, row, size)


@leaf
def merge_short_words(text, starts, stops, num_words, tables, scratch, ids, sizes):
    """The ids of some words of at most ``SCAN_SYMBOLS`` bytes each.

    Parameters
    ----------
    text
        ``[dtype=uint8]``
    starts, stops
        Where each word starts and stops. ``[dtype=int64]``, ``num_words`` of each are looked at.
    tables
        The vocabulary.
    scratch
        Of ``new_scratch``.
    ids, sizes
        Filled: row i with the ids of word i, and their number.
        ``[shape=(n_words, SCAN_SYMBOLS), dtype=int32]``, ``[shape=(n_words,), dtype=int64]``
    """
    tokens = scratch.tokens
    keys = scratch.keys
    alive = scratch.alive
    rows = scratch.rows
    pairs = tables.pairs
    results = tables.results
    num_rows = min(TOGETHER, num_words)
    for row in range(num_rows):
        rows[row] = row
        scratch.words[row] = row
        _spell(text, starts[row], stops[row], tables, scratch, row)
    next_word = num_rows
    while num_rows > 0:
        turn = 0
        while turn < num_rows:
            row = rows[turn]
            if merge_once(tokens, keys, alive, row, pairs, results):
                turn += 1
                continue
            word = scratch.words[row]
            sizes[word] = take(scratch, row, ids[word], 0)
            if next_word < num_words:
                scratch.words[row] = next_word
                _spell(text, starts[next_word], stops[next_word], tables, scratch, row)
                next_word += 1
            else:
                num_rows -= 1
                rows[turn] = rows[num_rows]


@njit
def merge_long(ids, size, pairs, results):
    """Merge ``ids[:size]`` in place with a linked list and a heap of ``rank << 32 | position``; returns the new size.

    Memory: 8 bytes a symbol, and up to 16 for the heap.
    """
    previous = np.arange(-1, size - 1, dtype=np.int32)
    following = np.arange(1, size + 1, dtype=np.int32)
    heap = np.empty(2 * size + 2, dtype=np.int64)
    heap_size = 0
    for i in range(size - 1):
        found = find_rank(pairs, ids[i], ids[i + 1])
        if found != NO_RANK:
            heap_size = _push(heap, heap_size, found, i)
    while heap_size > 0:
        found = np.int32(heap[0] >> 32)
        at = heap[0] & _LOWER
        heap_size = _pop(heap, heap_size)
        after = following[at]
        # Stale if the symbol here was merged away or changed, or its neighbour did: the pair is another one now.
        if ids[at] < 0 or after >= size or find_rank(pairs, ids[at], ids[after]) != found:
            continue
        ids[at] = results[found]
        ids[after] = -1
        after = following[after]
        following[at] = after
        if after < size:
            previous[after] = at
            found = find_rank(pairs, ids[at], ids[after])
            if found != NO_RANK:
                heap_size = _push(heap, heap_size, found, at)
        before = previous[at]
        if before >= 0:
            found = find_rank(pairs, ids[before], ids[at])
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
    key = np.int64(rank) << 32 | at
    child = size
    while child > 0:
        parent = (child - 1) >> 1
        if heap[parent] <= key:
            break
        heap[child] = heap[parent]
        child = parent
    heap[child] = key
    return size + 1


@leaf
def _pop(heap, size):
    size -= 1
    key = heap[size]
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if key <= heap[child]:
            break
        heap[parent] = heap[child]
        parent = child
    heap[parent] = key
    return size


@leaf
def merge_row(scratch, pairs, results):
    """All merges of the word in the first row."""
    while merge_once(scratch.tokens, scratch.keys, scratch.alive, 0, pairs, results):
        pass


@njit
def merge_some(ids, size, pairs, results, scratch):
    """Merge ``ids[:size]`` in place; returns the new size."""
    if size > SCAN_SYMBOLS:
        return merge_long(ids, size, pairs, results)
    for i in range(size):
        scratch.tokens[i + 1] = ids[i]
        if i > 0:
            scratch.keys[i] = key_of(find_rank(pairs, ids[i - 1], ids[i]), i)
    ready(scratch, 0, size)
    merge_row(scratch, pairs, results)
    return take(scratch, 0, ids, 0)


@leaf
def spell_into(tables, tokens, start, stop, buffer, size):
    """Byte ids of ``tokens[start:stop]`` appended to ``buffer``; returns its new size."""
    for i in range(start, stop):
        for at in range(tables.token_offsets[tokens[i]], tables.token_offsets[tokens[i] + 1]):
            buffer[size] = tables.byte_ids[tables.token_values[at]]
            size += 1
    return size


@njit
def join_at(tables, ids, seam, size, scratch):
    """Make ``ids[:size]`` exact where ``ids[:seam]`` and ``ids[seam:size]`` each are.

    Returns the new size, and how many bytes were encoded again.
    """
    reach_left = 1
    reach_right = 1
    work = 0
    while 0 < seam < size:
        start = max(seam - reach_left, 0)
        stop = min(seam + reach_right, size)
        num_bytes = 0
        for i in range(start, stop):
            num_bytes += tables.token_offsets[ids[i] + 1] - tables.token_offsets[ids[i]]
        work += num_bytes
        buffer = np.empty(num_bytes, dtype=np.int32)
        spell_into(tables, ids, start, stop, buffer, 0)
        joined = merge_some(buffer, num_bytes, tables.pairs, tables.results, scratch)
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
            return size + change, work
        if not left_holds:
            reach_left *= 2
        if not right_holds:
            reach_right *= 2
    return size, work


@njit
def merge_word(text, start, stop, tables, ids, size, scratch):
    """Append the ids of one word.

    Parameters
    ----------
    text, start, stop
        The word's bytes. ``[dtype=uint8]``
    tables
        The vocabulary.
    ids, size
        Ids go to ``ids[size:]``, which has room for one a byte. ``[dtype=int32]``
    scratch
        Of ``new_scratch``.

    Returns
    -------
    int
        The new size.

    Examples
    --------
    With the merges (a, b) and (ab, c), in this order, ``abcab`` is cut into ``abc`` and ``ab``.
    """
    word = ids[size:]
    num_ids = 0
    work = 0
    while start < stop:
        seam = num_ids
        if work < _CASCADE:
            end = min(start + SCAN_SYMBOLS, stop)
            _spell(text, start, end, tables, scratch, 0)
            merge_row(scratch, tables.pairs, tables.results)
            num_ids = take(scratch, 0, word, num_ids)
        else:
            end = min(start + work, stop)
            for at in range(start, end):
                if tables.byte_ids[text[at]] >= 0:
                    word[num_ids] = tables.byte_ids[text[at]]
                    num_ids += 1
            num_ids = seam + merge_some(word[seam:], num_ids - seam, tables.pairs, tables.results, scratch)
        num_ids, work = join_at(tables, word, seam, num_ids, scratch)
        start = end
    return size + num_ids


@njit
def mark_met(text, start, stops, tables, met):
    """Mark the merges whose pairs stand side by side at any time while words are merged, rank by rank.

    Parameters
    ----------
    text, start, stops
        Words, as of ``encode_words``.
    tables
        The vocabulary.
    met
        Made true where they do, and left alone elsewhere. ``[shape=(n_merges,), dtype=bool]``
    """
    for stop in stops:
        ids = np.empty(stop - start, dtype=np.int32)
        size = 0
        for at in range(start, stop):
            if tables.byte_ids[text[at]] >= 0:
                ids[size] = tables.byte_ids[text[at]]
                size += 1
        _mark_in_word(ids, size, tables.pairs, tables.results, met)
        start = stop


@njit
def _mark_in_word(ids, size, pairs, results, met):
    """As ``merge_long``; pairs are looked at when all merges of a rank are done."""
    previous = np.arange(-1, size - 1)
    following = np.arange(1, size + 1)
    heap = np.empty(2 * size + 2, dtype=np.int64)
    heap_size = 0
    changed = np.empty(2 * size + 2, dtype=np.int64)  # places whose pair is another one since the last rank
    num_changed = 0
    for at in range(size):
        changed[num_changed] = at
        num_changed += 1
        found = find_rank(pairs, ids[at], ids[at + 1]) if at + 1 < size else NO_RANK
        if found != NO_RANK:
            heap_size = _push(heap, heap_size, found, at)
    rank = np.int64(-1)
    while num_changed > 0 or heap_size > 0:
        if heap_size == 0 or heap[0] >> 32 != rank:
            for at in changed[:num_changed]:
                if ids[at] >= 0 and following[at] < size:
                    found = find_rank(pairs, ids[at], ids[following[at]])
                    if found != NO_RANK:
                        met[found] = True
            num_changed = 0
            if heap_size == 0:
                break
        rank = heap[0] >> 32
        at = heap[0] & _LOWER
        heap_size = _pop(heap, heap_size)
        after = following[at]
        if ids[at] < 0 or after >= size or find_rank(pairs, ids[at], ids[after]) != rank:
            continue
        ids[at] = results[rank]
        ids[after] = -1
        following[at] = following[after]
        if following[at] < size:
            previous[following[at]] = at
        for place in (at, previous[at]):
            if place >= 0:
                changed[num_changed] = place
                num_changed += 1
                if following[place] < size:
                    found = find_rank(pairs, ids[place], ids[following[place]])
                    if found != NO_RANK:
                        heap_size = _push(heap, heap_size, found, place)
