"""One partition's side of training in rounds: apply the proposed merges, tell the neighbours, take some back.

The text is that of ``cells.py``, the position lists are those of ``merges.py``: all positions of a pair arise in one step
and are written once, into an append-only arena. New is that a merge may be taken back: the positions it was applied at
are kept until the round is settled, and they are all it takes to restore the text.

A round's proposed pairs all existed before it, so a token that the round makes is in none of them: it stays where it was
made until the round is settled. What stands beside it may still change, for a later member of the round may make a new
token there. So lists are written when the round is settled, from what then stands there; a place between two new
tokens belongs to the later one, for only it knows the other as a neighbour.

Examples
--------
The word ``abcab``, ids 0, 1, 2, count 5, one round with the pairs (a, b) to 3 and (b, c) to 4. The first makes ``3 c 3``: to
the left of 3 stands c (5), to the right c (5). The second finds no ``b c`` any more. Were the first pair (b, c) instead,
it would make ``a 4 a b``, the second ``a 4 5``: neighbours of 4 are a and a; of 5, to the left, 4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels._llvm import prefetch
from pipeline.kernels.arena import grown
from pipeline.kernels.cells import DEAD, END, LOWER, cell_of, token_of, weight_of
from pipeline.kernels.pair_index import NO_PLACE, find_key, new_index, pair_key, put_key, with_room

_AHEAD = np.uintp(16)
"""Positions between the one that is looked at and the one whose cell is fetched."""

_NO_PAIR = np.int32(-1)


class Text(NamedTuple):
    """The words of a partition, and what its kernels count in.

    ``cells [dtype=int64]``, ``counts [shape=(n_words,), dtype=int64]``: see ``words_to_cells``. ``spans [dtype=int32]``: how
    many cells a token takes. By neighbour, for the time of a call, row 0 for the right side, all ``[shape=(2, n_ids)]``:
    ``weights [dtype=int64]``, else zero; ``touched [dtype=int32]``; ``pair_of [dtype=int32]``, else -1.
    """

    cells: NDArray[np.int64]
    counts: NDArray[np.int64]
    spans: NDArray[np.int32]
    weights: NDArray[np.int64]
    touched: NDArray[np.int32]
    pair_of: NDArray[np.int32]


class Members(NamedTuple):
    """The merges of a round, in order: pair numbers, pairs and the ids they make. Each ``[shape=(k,), dtype=int32]``."""

    pairs: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    results: NDArray[np.int32]


class Neighbours(NamedTuple):
    """What stands beside the new token of each member: ids, and the summed counts of the words they stand there in.

    ``ids [dtype=int32]``, ``weights [dtype=int64]``; member j has ``offsets[2 * j]`` to ``offsets[2 * j + 1]`` at its right,
    from there to ``offsets[2 * j + 2]`` at its left. ``offsets [shape=(2 * k + 1,), dtype=int64]``. A token beside its like
    is counted at the right of the left one.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.int64]
    offsets: NDArray[np.int64]


class Lists(NamedTuple):
    """Where pairs stand: pair i at ``positions[starts[i] : starts[i] + lengths[i]]``, ascending; ``used[0]`` are taken."""

    positions: NDArray[np.int32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int32]
    used: NDArray[np.int64]


class LocalPairs(NamedTuple):
    """Every pair of adjacent tokens, how often, at how many places, and an index of them.

    ``left``, ``right [dtype=int32]``, ``weights``, ``sizes [dtype=int64]``, ``table``: see ``pair_index.py``.
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    weights: NDArray[np.int64]
    sizes: NDArray[np.int64]
    table: NDArray[np.uint64]


@njit
def compact(cells, spans):
    """Move the tokens together, in place, each to one cell; returns the cells that are left. ``spans`` become 1."""
    size = 1
    at = 1
    while at < len(cells):
        token = token_of(cells[at])
        cells[size] = cells[at]
        size += 1
        at += spans[token] if token >= 0 else 1
    spans[:] = 1
    return cells[:size].copy()


@njit
def merge_everywhere(cells, left, right, new):
    """Merge a pair, in place, in cells that hold each token in one; returns the cells that are left.

    For a token that the text holds already: it may take another number of cells there, so lists and spans are of no use.
    """
    size = 0
    at = 0
    while at < len(cells):
        cells[size] = cells[at]
        at += 1
        if at < len(cells) and token_of(cells[size]) == left and token_of(cells[at]) == right:
            cells[size] = cell_of(new, cells[size] >> 32)
            at += 1
        size += 1
    return cells[:size].copy()


@leaf
def _count_known(cells, counts, index, weights, sizes, at):
    """Count the pairs from ``at`` on, up to the first that is not in the index; returns where it stands, or the end."""
    while at < len(cells) - 1:
        a = token_of(cells[at])
        b = token_of(cells[at + 1])
        if a >= 0 and b >= 0:
            place = find_key(index, pair_key(a, b))
            if place == NO_PLACE:
                return at
            pair = np.uintp(index[place])
            weights[pair] += weight_of(cells[at], counts)
            sizes[pair] += 1
        at += 1
    return at


@njit
def count_pairs(cells, counts):
    """Every pair of adjacent tokens, each in one cell, as ``LocalPairs``."""
    left = np.empty(1024, dtype=np.int32)
    right = np.empty(1024, dtype=np.int32)
    weights = np.zeros(1024, dtype=np.int64)
    sizes = np.zeros(1024, dtype=np.int64)
    index = new_index(1024)
    num_pairs = 0
    at = 1
    while True:
        at = _count_known(cells, counts, index, weights, sizes, at)
        if at >= len(cells) - 1:
            break
        index = with_room(index, num_pairs, 1)
        left = grown(left, num_pairs, 1)
        right = grown(right, num_pairs, 1)
        weights = grown(weights, num_pairs, 1)
        sizes = grown(sizes, num_pairs, 1)
        left[num_pairs] = token_of(cells[at])
        right[num_pairs] = token_of(cells[at + 1])
        weights[num_pairs] = 0
        sizes[num_pairs] = 0
        index[put_key(index, pair_key(left[num_pairs], right[num_pairs]))] = np.uint64(num_pairs)
        num_pairs += 1
    return LocalPairs(left[:num_pairs], right[:num_pairs], weights[:num_pairs], sizes[:num_pairs], index)


@leaf
def _list_known(cells, index, number_of, positions, starts, lengths):
    """Write the positions of all pairs that have a number, and the lengths of their lists."""
    for at in range(1, len(cells) - 1):
        a = token_of(cells[at])
        b = token_of(cells[at + 1])
        if a >= 0 and b >= 0:
            pair = number_of[np.uintp(index[find_key(index, pair_key(a, b))])]
            if pair >= 0:
                positions[starts[pair] + lengths[pair]] = at
                lengths[pair] += 1


@njit
def list_positions(cells, local, left, right, num_pairs):
    """Write the positions of pairs ``left[i]``, ``right[i]``, numbered i; room for the lists of ``num_pairs``.

    ``cells`` hold each token in one cell, ``local`` is what ``count_pairs`` said of them.
    """
    number_of = np.full(len(local.left), _NO_PAIR, dtype=np.int32)
    starts = np.zeros(num_pairs, dtype=np.int64)
    lengths = np.zeros(num_pairs, dtype=np.int32)
    used = np.zeros(1, dtype=np.int64)
    for pair in range(len(left)):
        place = find_key(local.table, pair_key(left[pair], right[pair]))
        starts[pair] = used[0]
        if place != NO_PLACE:
            number_of[np.int64(local.table[place])] = pair
            used[0] += local.sizes[np.int64(local.table[place])]
    # Three times the room: to grow would hold both copies, and memory that is not touched is not used.
    positions = np.empty(3 * used[0] + 16, dtype=np.int32)
    _list_known(cells, local.table, number_of, positions, starts, lengths)
    return Lists(positions, starts, lengths, used)


@leaf
def _touch(weights, touched, size, neighbour, weight):
    if weights[neighbour] == 0:
        touched[size] = neighbour
        size += 1
    weights[neighbour] += weight
    return size


@leaf
def _apply_member(text, positions, start, stop, a, b, new, merged, num_merged):
    """Apply one merge to the text.

    Appends where to ``merged``, and counts the neighbours in ``text.weights``. Returns the new number of ``merged``, and how
    many neighbours were touched at the right and at the left.
    """
    cells = text.cells
    counts = text.counts
    span_a = np.uintp(text.spans[a])
    span = span_a + np.uintp(text.spans[b])
    weight_right = text.weights[0]
    weight_left = text.weights[1]
    touched_right = text.touched[0]
    touched_left = text.touched[1]
    num_right = 0
    num_left = 0
    one = np.uintp(1)
    last = np.uintp(stop - 1)
    both = np.int64(0)
    for i in range(np.uintp(start), np.uintp(stop)):
        prefetch(cells, np.uintp(positions[min(i + _AHEAD, last)]))
        at = np.uintp(positions[i])
        middle = at + span_a
        cell = cells[at]
        if token_of(cell) != a or token_of(cells[middle]) != b:
            continue
        # A token's id stands in its first and in its last place; places between are dead.
        cells[middle - one] = cell_of(DEAD, 0)
        cells[middle] = cell_of(DEAD, 0)
        cells[at] = cell & ~LOWER | new
        cells[at + span - one] = cell_of(new, 0)
        merged[num_merged] = at
        num_merged += 1
        weight = weight_of(cell, counts)
        neighbour = token_of(cells[at + span])
        if neighbour >= 0:
            num_right = _touch(weight_right, touched_right, num_right, neighbour, weight)
        neighbour = token_of(cells[at - one])
        if neighbour == new:
            both += weight  # when the token to the left was made, this one was an ``a`` still
        elif neighbour >= 0:
            num_left = _touch(weight_left, touched_left, num_left, neighbour, weight)
    if both > 0:
        num_right = _touch(weight_right, touched_right, num_right, a, -both)
        num_right = _touch(weight_right, touched_right, num_right, new, both)
    return num_merged, num_right, num_left


@leaf
def _take_back(cells, spans, merged, start, stop, a, b):
    """Restore the text where a pair was merged."""
    span_a = spans[a]
    span = span_a + spans[b]
    for i in range(start, stop):
        at = merged[i]
        weight = cells[at] >> 32
        cells[at + span_a - 1] = cell_of(a, 0)
        cells[at] = cell_of(a, weight)
        cells[at + span - 1] = cell_of(b, 0)
        cells[at + span_a] = cell_of(b, weight)


@leaf
def _write_lists(text, lists, merged, span, right, left, first_pair, beside):
    """Write where a merge made pairs: of its token and each of ``right``, then of each of ``left`` and its token.

    They are numbered from ``first_pair`` on.

    ``merged``: where the merge was applied; ``beside [shape=(2 * len(merged),), dtype=int32]`` is for the time between.
    """
    cells = text.cells
    spans = text.spans
    pair_right = text.pair_of[0]
    pair_left = text.pair_of[1]
    positions = lists.positions
    starts = lists.starts
    lengths = lists.lengths
    pair = first_pair
    for neighbour in right:
        pair_right[neighbour] = pair
        pair += 1
    for neighbour in left:
        pair_left[neighbour] = pair
        pair += 1
    for pair in range(first_pair, first_pair + len(right) + len(left)):
        lengths[pair] = 0
    for i in range(len(merged)):
        prefetch(cells, np.uintp(merged[min(i + 16, len(merged) - 1)]))
        at = merged[i]
        neighbour = token_of(cells[at + span])
        pair = pair_right[neighbour] if neighbour >= 0 else _NO_PAIR
        beside[2 * i] = pair
        if pair >= 0:
            lengths[pair] += 1
        neighbour = token_of(cells[at - 1])
        pair = pair_left[neighbour] if neighbour >= 0 else _NO_PAIR
        beside[2 * i + 1] = pair
        if pair >= 0:
            lengths[pair] += 1
    used = lists.used[0]
    for pair in range(first_pair, first_pair + len(right) + len(left)):
        starts[pair] = used
        used += lengths[pair]
        lengths[pair] = 0
    lists.used[0] = used
    for i in range(len(merged)):
        pair = beside[2 * i]
        if pair >= 0:
            positions[starts[pair] + lengths[pair]] = merged[i]
            lengths[pair] += 1
        pair = beside[2 * i + 1]
        if pair >= 0:
            positions[starts[pair] + lengths[pair]] = merged[i] - spans[left[pair - first_pair - len(right)]]
            lengths[pair] += 1
    for neighbour in right:
        pair_right[neighbour] = _NO_PAIR
    for neighbour in left:
        pair_left[neighbour] = _NO_PAIR


@njit
def _with_room(lists, num_positions, num_pairs):
    used = lists.used[0]
    return Lists(
        grown(lists.positions, used, num_positions),
        grown(lists.starts, len(lists.starts), max(num_pairs - len(lists.starts), 0)),
        grown(lists.lengths, len(lists.lengths), max(num_pairs - len(lists.lengths), 0)),
        lists.used,
    )


@njit
def apply_members(text, lists, members):
    """Apply the merges of a round, in order.

    Returns
    -------
    (neighbours, merged, merged_offsets)
        ``Neighbours``, each as it was right after its member; where each member was applied, ``merged [dtype=int32]``, which
        may be longer than that, ``merged_offsets [shape=(k + 1,), dtype=int64]``.
    """
    num_members = len(members.left)
    size = np.int64(0)
    for j in range(num_members):
        size += lists.lengths[members.pairs[j]]
    merged = np.empty(size, dtype=np.int32)
    merged_offsets = np.zeros(num_members + 1, dtype=np.int64)
    ids = np.empty(1024, dtype=np.int32)
    weights = np.empty(1024, dtype=np.int64)
    offsets = np.zeros(2 * num_members + 1, dtype=np.int64)
    size = np.int64(0)
    for j in range(num_members):
        pair = members.pairs[j]
        a = members.left[j]
        b = members.right[j]
        new = members.results[j]
        start = lists.starts[pair]
        text.spans[new] = text.spans[a] + text.spans[b]
        end, num_right, num_left = _apply_member(
            text, lists.positions, start, start + lists.lengths[pair], a, b, new, merged, merged_offsets[j]
        )
        merged_offsets[j + 1] = end
        ids = grown(ids, size, num_right + num_left)
        weights = grown(weights, size, num_right + num_left)
        for side in range(2):
            for i in range(num_right if side == 0 else num_left):
                neighbour = text.touched[side, i]
                if text.weights[side, neighbour] != 0:
                    ids[size] = neighbour
                    weights[size] = text.weights[side, neighbour]
                    text.weights[side, neighbour] = 0
                    size += 1
            offsets[2 * j + side + 1] = size
    return Neighbours(ids[:size].copy(), weights[:size].copy(), offsets), merged, merged_offsets


@leaf
def _rename(cells, merged, span, new):
    """Give a round's token, at all its places, another id."""
    for i in range(len(merged)):
        prefetch(cells, np.uintp(merged[min(i + 16, len(merged) - 1)]))
        at = merged[i]
        cells[at] = cells[at] & ~LOWER | new
        cells[at + span - 1] = cell_of(new, 0)


@njit
def settle_members(text, lists, members, merged, merged_offsets, kept, results, new_ids, new_offsets):
    """Take back the members of a round that are not kept, and write the lists of the pairs that the others made.

    Parameters
    ----------
    text, lists, members
        As ``apply_members`` left them.
    merged, merged_offsets
        What ``apply_members`` returned.
    kept, results
        Which members stay, ascending, and the ids their tokens have from now on: those they had or lower ones.
        ``[shape=(m,), dtype=int32]`` both
    new_ids, new_offsets
        For each of these, in the form of ``Neighbours``, the neighbours whose pairs with its token get lists. The pairs are
        numbered in this order, from ``new_offsets[0]`` on, and so the ids of ``new_offsets[i]`` are at
        ``new_ids[new_offsets[i] - new_offsets[0]]``. ``[dtype=int32]``, ``[shape=(2 * m + 1,), dtype=int64]``

    Returns
    -------
    Lists
        The same, or with more room.
    """
    num_kept = len(kept)
    for j in range(len(members.left) - 1, -1, -1):
        if num_kept > 0 and kept[num_kept - 1] == j:
            num_kept -= 1
            continue
        start, stop = merged_offsets[j], merged_offsets[j + 1]
        _take_back(text.cells, text.spans, merged, start, stop, members.left[j], members.right[j])
    beside = np.empty(0, dtype=np.int32)
    for i in range(len(kept)):
        j = kept[i]
        here = merged[merged_offsets[j] : merged_offsets[j + 1]]
        span = text.spans[members.results[j]]
        if results[i] != members.results[j]:
            text.spans[results[i]] = span
            _rename(text.cells, here, span, results[i])
        first, middle, last = new_offsets[2 * i], new_offsets[2 * i + 1], new_offsets[2 * i + 2]
        if first == last:
            continue
        if 2 * len(here) > len(beside):
            beside = np.empty(4 * len(here), dtype=np.int32)
        lists = _with_room(lists, 2 * len(here), last)
        right = new_ids[first - new_offsets[0] : middle - new_offsets[0]]
        left = new_ids[middle - new_offsets[0] : last - new_offsets[0]]
        _write_lists(text, lists, here, span, right, left, first, beside)
    return lists


@njit
def replay_members(text, lists, members, new_ids, new_offsets):
    """Apply merges that are settled already, one after the other, with the lists that these merges need, and no other.

    ``new_ids``, ``new_offsets``: as in ``settle_members``, of all members.
    """
    beside = np.empty(0, dtype=np.int32)
    merged = np.empty(0, dtype=np.int32)
    for j in range(len(members.left)):
        pair = members.pairs[j]
        a = members.left[j]
        b = members.right[j]
        new = members.results[j]
        start = lists.starts[pair]
        length = np.int64(lists.lengths[pair])
        if length > len(merged):
            merged = np.empty(2 * length, dtype=np.int32)
            beside = np.empty(4 * length, dtype=np.int32)
        text.spans[new] = text.spans[a] + text.spans[b]
        num_merged, num_right, num_left = _apply_member(
            text, lists.positions, start, start + length, a, b, new, merged, np.int64(0)
        )
        for i in range(num_right):
            text.weights[0, text.touched[0, i]] = 0
        for i in range(num_left):
            text.weights[1, text.touched[1, i]] = 0
        first, middle, last = new_offsets[2 * j], new_offsets[2 * j + 1], new_offsets[2 * j + 2]
        if first < last:
            lists = _with_room(lists, 2 * num_merged, last)
            right = new_ids[first - new_offsets[0] : middle - new_offsets[0]]
            left = new_ids[middle - new_offsets[0] : last - new_offsets[0]]
            _write_lists(text, lists, merged[:num_merged], text.spans[new], right, left, first, beside)


@njit
def ids_in_text(cells, num_ids):
    """Which ids occur in the cells, each token in one: ``[shape=(num_ids,), dtype=bool]``."""
    result = np.zeros(num_ids, dtype=np.bool_)
    for cell in cells:
        if token_of(cell) != END:
            result[token_of(cell)] = True
    return result
