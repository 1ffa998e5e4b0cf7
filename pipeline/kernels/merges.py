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
from pipeline.kernels.arena import grown
from pipeline.kernels.cells import DEAD, LOWER, cell_of, token_of, weight_of
from pipeline.kernels.pair_heap import sift_down, sift_up

_AHEAD = np.uintp(16)
"""Positions between the one that is looked at and the one whose cell is fetched."""


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
        if token_of(cells[at]) >= 0 and token_of(cells[at + 1]) >= 0:
            sizes[byte_of[token_of(cells[at])] << 8 | byte_of[token_of(cells[at + 1])]] += 1
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
        if token_of(cells[at]) >= 0 and token_of(cells[at + 1]) >= 0:
            slot = slots[byte_of[token_of(cells[at])] << 8 | byte_of[token_of(cells[at + 1])]]
            positions[starts[slot] + lengths[slot]] = at
            lengths[slot] += 1
            pair_counts[slot] += weight_of(cells[at], counts)
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
        if token_of(cell) == a and token_of(cells[at + np.uintp(length_a)]) == b:
            positions[np.uintp(start + live)] = at
            live += 1
            count += weight_of(cell, counts)
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
            sift_up(heap_counts, heap_pairs, heap_size - 1, left, right)

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
            sift_down(heap_counts, heap_pairs, 0, heap_size, left, right)
            continue
        heap_size -= 1
        heap_counts[0] = heap_counts[heap_size]
        heap_pairs[0] = heap_pairs[heap_size]
        if heap_size > 0:
            sift_down(heap_counts, heap_pairs, 0, heap_size, left, right)
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
        merged = grown(merged, 0, live)
        num_merged = 0
        for i in range(start, start + live):
            prefetch(cells, np.uintp(positions[min(i + 16, start + live - 1)]))
            at = positions[i]
            middle = at + length_a
            if token_of(cells[at]) == a and token_of(cells[middle]) == b:
                first = cells[at] & ~LOWER | new
                cells[middle - 1] = cell_of(DEAD, 0)
                cells[middle] = cell_of(DEAD, 0)
                cells[at] = first
                cells[at + length - 1] = cell_of(new, 0)
                merged[num_merged] = at
                num_merged += 1

        # What the new token stands beside: first how often, then where.
        num_touched_left = 0
        num_touched_right = 0
        for i in range(num_merged):
            at = merged[i]
            weight = weight_of(cells[at], counts)
            neighbour = token_of(cells[at + length])
            if neighbour >= 0:
                if num_right[neighbour] == 0:
                    touched_right[num_touched_right] = neighbour
                    num_touched_right += 1
                num_right[neighbour] += 1
                weight_right[neighbour] += weight
            neighbour = token_of(cells[at - 1])
            if neighbour >= 0 and neighbour != new:  # (new, new) is counted from its left side
                if num_left[neighbour] == 0:
                    touched_left[num_touched_left] = neighbour
                    num_touched_left += 1
                num_left[neighbour] += 1
                weight_left[neighbour] += weight

        extra = num_touched_left + num_touched_right
        left = grown(left, num_pairs, extra)
        right = grown(right, num_pairs, extra)
        starts = grown(starts, num_pairs, extra)
        lengths = grown(lengths, num_pairs, extra)
        heap_counts = grown(heap_counts, heap_size, extra)
        heap_pairs = grown(heap_pairs, heap_size, extra)
        positions = grown(positions, used_positions, 2 * num_merged)

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
                sift_up(heap_counts, heap_pairs, heap_size - 1, left, right)
                num_pairs += 1
                used_positions += sizes[neighbour]
                sizes[neighbour] = starts[num_pairs - 1]
        for i in range(num_merged):
            at = merged[i]
            neighbour = token_of(cells[at + length])
            if neighbour >= 0 and num_right[neighbour] >= 0:
                positions[num_right[neighbour]] = at
                num_right[neighbour] += 1
            neighbour = token_of(cells[at - 1])
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
