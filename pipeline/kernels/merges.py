"""Learn BPE merges from weighted words: exact, without a hash table and without counts to keep up to date.

The idea: a token is new in exactly one merge, so *all* positions of a pair (x, new) arise in that one step. They are
written once, side by side, into an append-only arena; a pair is a range of it. A heap holds an upper bound of each
pair's count, for a pair's count never rises; the pair on top is counted anew by walking its own positions, and goes
back if the bound was too high. A bound that holds is the true maximum, ties included.

Time: each merge visits the positions of its pair; each stale bound visits its own. Memory: 8 bytes a symbol for the
text, 4 for each position ever written. What a visit costs is a cache miss, so all it asks for lies in one line.

Measured on one core (``benchmarks``, *merge*): 32,768 tokens from 965,000 words in 1.0 s, 131,072 in 1.5 s; 4,096 tokens
from 10 MB in words as long as documents in 0.85 s.

Order: highest count first, then the smaller left id, then the smaller right id (the order of ``tokenizers``).
"""

from __future__ import annotations

import numpy as np

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels._llvm import prefetch

END = np.int32(-1)
"""Stands before the first and after each word: pairs do not cross it."""

_DEAD = np.int32(-2)
_MOST_INT32 = 2**31 - 1
_LOWER = 0xFFFFFFFF
_AHEAD = np.uintp(16)
"""Positions between the one that is looked at and the one whose cell is fetched."""


@leaf
def _id(cell):
    return np.int32(cell << 32 >> 32)  # with its sign


@leaf
def _cell(token, weight):
    return np.int64(weight) << 32 | (np.int64(token) & _LOWER)


@leaf
def _weight(cell, counts):
    weight = cell >> 32
    return weight if weight >= 0 else counts[~weight]


@njit
def seen_bytes(values):
    """Which bytes occur at all. ``values [dtype=uint8]``; ``[shape=(256,), dtype=bool]`` out."""
    seen = np.zeros(256, dtype=np.bool_)
    for byte in values:
        seen[byte] = True
    return seen


@njit
def words_to_cells(values, offsets, counts, byte_ids):
    """Words as ids with ``END`` around each; beside each id, in the same 8 bytes, how often its word occurs.

    Bytes whose id is negative are left out; their neighbours become adjacent, as in ``tokenizers``.

    Returns
    -------
    cells
        In the lower half the id, or ``END``. In the upper half the word's count, or, if that has more than 31 bits, the
        complement of the word's index in ``counts``. ``[shape=(n,), dtype=int64]``
    """
    num_words = len(offsets) - 1
    cells = np.empty(offsets[num_words] - offsets[0] + num_words + 1, dtype=np.int64)
    cells[0] = _cell(END, 0)
    at = 1
    for word in range(num_words):
        weight = counts[word] if counts[word] <= _MOST_INT32 else np.int64(~word)
        for i in range(offsets[word], offsets[word + 1]):
            token = byte_ids[values[i]]
            if token >= 0:
                cells[at] = _cell(token, weight)
                at += 1
        cells[at] = _cell(END, weight)
        at += 1
    return cells[:at]


@leaf
def _is_before(count_a, a, count_b, b, left, right):
    """Whether pair ``a`` is merged before pair ``b``."""
    if count_a != count_b:
        return count_a > count_b
    if left[a] != left[b]:
        return left[a] < left[b]
    return right[a] < right[b]


@leaf
def _sift_up(heap_counts, heap_pairs, at, left, right):
    count = heap_counts[at]
    pair = heap_pairs[at]
    while at > 0:
        parent = (at - 1) >> 1
        if not _is_before(count, pair, heap_counts[parent], heap_pairs[parent], left, right):
            break
        heap_counts[at] = heap_counts[parent]
        heap_pairs[at] = heap_pairs[parent]
        at = parent
    heap_counts[at] = count
    heap_pairs[at] = pair


@leaf
def _sift_down(heap_counts, heap_pairs, at, size, left, right):
    count = heap_counts[at]
    pair = heap_pairs[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _is_before(
            heap_counts[child + 1], heap_pairs[child + 1], heap_counts[child], heap_pairs[child], left, right
        ):
            child += 1
        if not _is_before(heap_counts[child], heap_pairs[child], count, pair, left, right):
            break
        heap_counts[at] = heap_counts[child]
        heap_pairs[at] = heap_pairs[child]
        at = child
    heap_counts[at] = count
    heap_pairs[at] = pair


@njit
def _grown(array, used, extra):
    """The array itself, or a copy with more room, so that ``extra`` more values fit."""
    if used + extra <= len(array):
        return array
    result = np.empty(max(used + extra, len(array) * 3 // 2), dtype=array.dtype)
    result[:used] = array[:used]
    return result


@leaf
def _spells(a, b, left_of, right_of, byte_of, wanted, stack):
    """Whether the bytes of two tokens, expanded through their merges, are ``wanted``."""
    stack[0] = b
    stack[1] = a
    depth = 2
    at = 0
    while depth > 0:
        depth -= 1
        token = stack[depth]
        if left_of[token] < 0:
            if at >= len(wanted) or byte_of[token] != wanted[at]:
                return False
            at += 1
        else:
            stack[depth] = right_of[token]
            stack[depth + 1] = left_of[token]
            depth += 2
    return at == len(wanted)


@njit
def _initial_pairs(cells, counts, byte_of):
    """Every pair of adjacent symbols: ids, count, and its positions as a range of the arena, ascending."""
    slots = np.full(65_536, -1, dtype=np.int32)  # by the two bytes: ids may be many, where there are special tokens
    sizes = np.zeros(65_536, dtype=np.int64)
    id_of = np.empty(256, dtype=np.int32)
    for token in range(len(byte_of)):
        if byte_of[token] >= 0:
            id_of[byte_of[token]] = token
    for at in range(1, len(cells) - 1):
        if _id(cells[at]) >= 0 and _id(cells[at + 1]) >= 0:
            sizes[byte_of[_id(cells[at])] << 8 | byte_of[_id(cells[at + 1])]] += 1
    num_pairs = 0
    num_positions = np.int64(0)
    for key in range(len(sizes)):
        if sizes[key] > 0:
            slots[key] = num_pairs
            num_pairs += 1
            num_positions += sizes[key]
    left = np.empty(num_pairs, dtype=np.int32)
    right = np.empty(num_pairs, dtype=np.int32)
    pair_counts = np.zeros(num_pairs, dtype=np.int64)
    starts = np.empty(num_pairs, dtype=np.int64)
    lengths = np.zeros(num_pairs, dtype=np.int64)
    start = np.int64(0)
    for key in range(len(sizes)):
        slot = slots[key]
        if slot >= 0:
            left[slot] = id_of[key >> 8]
            right[slot] = id_of[key & 0xFF]
            starts[slot] = start
            start += sizes[key]
    # Three times the room: to grow would hold both copies, and memory that is not touched is not used.
    positions = np.empty(3 * num_positions, dtype=np.int32)
    for at in range(1, len(cells) - 1):
        if _id(cells[at]) >= 0 and _id(cells[at + 1]) >= 0:
            slot = slots[byte_of[_id(cells[at])] << 8 | byte_of[_id(cells[at + 1])]]
            positions[starts[slot] + lengths[slot]] = at
            lengths[slot] += 1
            pair_counts[slot] += _weight(cells[at], counts)
    return left, right, pair_counts, starts, lengths, positions, num_positions


@leaf
def _recount(cells, counts, positions, start, stop, a, b, length_a):
    """How many of ``positions[start:stop]`` the pair still stands at, moved to the front, and its count there."""
    live = 0
    count = np.int64(0)
    for i in range(np.uintp(start), np.uintp(stop)):
        prefetch(cells, np.uintp(positions[min(i + _AHEAD, np.uintp(stop - 1))]))
        at = np.uintp(positions[i])
        cell = cells[at]
        if _id(cell) == a and _id(cells[at + np.uintp(length_a)]) == b:
            positions[np.uintp(start + live)] = at
            live += 1
            count += _weight(cell, counts)
    return live, count


@njit
def learn_merges(
    cells,
    counts,
    num_ids,
    vocab_size,
    min_count,
    max_length,
    byte_of,
    special_ids,
    special_values,
    special_offsets,
):
    """Learn merges until the vocabulary is full or no pair is frequent enough.

    Parameters
    ----------
    cells
        From ``words_to_cells``; overwritten.
    counts
        Occurrences of each word. ``[shape=(n_words,), dtype=int64]``
    num_ids
        Ids in use before the first merge; new tokens get the ids from here on.
    vocab_size
        Stop at this many ids.
    min_count
        A pair rarer than this is not merged; at least 1.
    max_length
        A pair that arises during training is skipped unless its length in bytes is *below* this (the rule of
        ``tokenizers``); 0 for no limit.
    byte_of
        The byte an initial id stands for, or -1. ``[shape=(num_ids,), dtype=int64]``
    special_ids, special_values, special_offsets
        Special tokens whose bytes a merge might spell: such a merge yields the special's id, not a new one. Ascending by
        their number of bytes.

    Returns
    -------
    (merges, merge_counts, result_ids)
        ``merges [shape=(n, 2), dtype=int32]``, ``merge_counts [dtype=int64]``, ``result_ids [dtype=int32]``.

    Examples
    --------
    The word ``aaabdaaabac`` (Wikipedia's example), ids in byte order: first ``(a, a)``, seen in 4 windows, overlapping
    ones included. Then ``(a, b)`` and ``(aa, a)`` occur twice each, and ``(a, b)`` has the smaller left id. Then
    ``(aa, ab)``, twice.
    """
    left, right, pair_counts, starts, lengths, positions, used_positions = _initial_pairs(cells, counts, byte_of)
    num_pairs = len(left)

    heap_counts = np.empty(max(2 * num_pairs, 16), dtype=np.int64)
    heap_pairs = np.empty(len(heap_counts), dtype=np.int32)
    heap_size = 0
    for pair in range(num_pairs):
        if pair_counts[pair] >= min_count:
            heap_counts[heap_size] = pair_counts[pair]
            heap_pairs[heap_size] = pair
            heap_size += 1
            _sift_up(heap_counts, heap_pairs, heap_size - 1, left, right)

    most = max(vocab_size, num_ids)
    left_of = np.full(most, -1, dtype=np.int32)
    right_of = np.full(most, -1, dtype=np.int32)
    length_of = np.ones(most, dtype=np.int64)
    special_lengths = np.diff(special_offsets)
    stack = np.empty(most + 2, dtype=np.int32)

    # Of each new token: what stands to its left and right, by neighbour id.
    weight_left = np.zeros(most, dtype=np.int64)
    weight_right = np.zeros(most, dtype=np.int64)
    num_left = np.zeros(most, dtype=np.int64)
    num_right = np.zeros(most, dtype=np.int64)
    touched_left = np.empty(most, dtype=np.int32)
    touched_right = np.empty(most, dtype=np.int32)

    merges = np.empty((max(vocab_size - num_ids, 0) + len(special_ids), 2), dtype=np.int32)
    merge_counts = np.empty(len(merges), dtype=np.int64)
    result_ids = np.empty(len(merges), dtype=np.int32)
    num_merges = 0
    merged = np.empty(16, dtype=np.int32)

    while num_ids < vocab_size and heap_size > 0:
        bound = heap_counts[0]
        pair = heap_pairs[0]
        a = left[pair]
        b = right[pair]
        start = starts[pair]
        length_a = length_of[a]

        # Count the pair anew, dropping positions where it no longer stands.
        live, count = _recount(cells, counts, positions, start, start + lengths[pair], a, b, length_a)
        lengths[pair] = live
        if count < bound and count >= min_count:
            heap_counts[0] = count
            _sift_down(heap_counts, heap_pairs, 0, heap_size, left, right)
            continue
        heap_size -= 1
        heap_counts[0] = heap_counts[heap_size]
        heap_pairs[0] = heap_pairs[heap_size]
        if heap_size > 0:
            _sift_down(heap_counts, heap_pairs, 0, heap_size, left, right)
        if count < min_count:
            continue

        new = num_ids
        length = length_a + length_of[b]
        for i in range(np.searchsorted(special_lengths, length), np.searchsorted(special_lengths, length + 1)):
            wanted = special_values[special_offsets[i] : special_offsets[i + 1]]
            if _spells(a, b, left_of, right_of, byte_of, wanted, stack):
                new = special_ids[i]
        left_of[new] = a
        right_of[new] = b
        length_of[new] = length
        merges[num_merges, 0] = a
        merges[num_merges, 1] = b
        merge_counts[num_merges] = count
        result_ids[num_merges] = new
        num_merges += 1
        if new == num_ids:
            num_ids += 1

        # Rewrite the text. A token's id stands in its first and in its last place; places between are dead.
        merged = _grown(merged, 0, live)
        num_merged = 0
        for i in range(start, start + live):
            prefetch(cells, np.uintp(positions[min(i + 16, start + live - 1)]))
            at = positions[i]
            middle = at + length_a
            if _id(cells[at]) == a and _id(cells[middle]) == b:
                first = cells[at] & ~_LOWER | new
                cells[middle - 1] = _cell(_DEAD, 0)
                cells[middle] = _cell(_DEAD, 0)
                cells[at] = first
                cells[at + length - 1] = _cell(new, 0)
                merged[num_merged] = at
                num_merged += 1

        # What the new token stands beside: first how often, then where.
        num_touched_left = 0
        num_touched_right = 0
        for i in range(num_merged):
            at = merged[i]
            weight = _weight(cells[at], counts)
            neighbour = _id(cells[at + length])
            if neighbour >= 0:
                if num_right[neighbour] == 0:
                    touched_right[num_touched_right] = neighbour
                    num_touched_right += 1
                num_right[neighbour] += 1
                weight_right[neighbour] += weight
            neighbour = _id(cells[at - 1])
            if neighbour >= 0 and neighbour != new:  # (new, new) is counted from its left side
                if num_left[neighbour] == 0:
                    touched_left[num_touched_left] = neighbour
                    num_touched_left += 1
                num_left[neighbour] += 1
                weight_left[neighbour] += weight

        extra = num_touched_left + num_touched_right
        left = _grown(left, num_pairs, extra)
        right = _grown(right, num_pairs, extra)
        starts = _grown(starts, num_pairs, extra)
        lengths = _grown(lengths, num_pairs, extra)
        heap_counts = _grown(heap_counts, heap_size, extra)
        heap_pairs = _grown(heap_pairs, heap_size, extra)
        positions = _grown(positions, used_positions, 2 * num_merged)

        # From here on num_left and num_right hold where the neighbour's next position goes, or -1 for a skipped pair.
        for side in range(2):
            touched = touched_right if side == 0 else touched_left
            sizes = num_right if side == 0 else num_left
            weights = weight_right if side == 0 else weight_left
            for i in range(num_touched_right if side == 0 else num_touched_left):
                neighbour = touched[i]
                if weights[neighbour] < min_count or (max_length > 0 and length + length_of[neighbour] >= max_length):
                    sizes[neighbour] = -1
                    continue
                left[num_pairs] = new if side == 0 else neighbour
                right[num_pairs] = neighbour if side == 0 else new
                starts[num_pairs] = used_positions
                lengths[num_pairs] = sizes[neighbour]
                heap_counts[heap_size] = weights[neighbour]
                heap_pairs[heap_size] = num_pairs
                heap_size += 1
                _sift_up(heap_counts, heap_pairs, heap_size - 1, left, right)
                num_pairs += 1
                used_positions += sizes[neighbour]
                sizes[neighbour] = starts[num_pairs - 1]
        for i in range(num_merged):
            at = merged[i]
            neighbour = _id(cells[at + length])
            if neighbour >= 0 and num_right[neighbour] >= 0:
                positions[num_right[neighbour]] = at
                num_right[neighbour] += 1
            neighbour = _id(cells[at - 1])
            if neighbour >= 0 and neighbour != new and num_left[neighbour] >= 0:
                positions[num_left[neighbour]] = at - length_of[neighbour]
                num_left[neighbour] += 1
        for i in range(num_touched_right):
            num_right[touched_right[i]] = 0
            weight_right[touched_right[i]] = 0
        for i in range(num_touched_left):
            num_left[touched_left[i]] = 0
            weight_left[touched_left[i]] = 0

    return merges[:num_merges], merge_counts[:num_merges], result_ids[:num_merges]
