"""A partition tells its neighbours and takes merges back as if each word were a list of ids."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels.cells import END, words_to_cells
from pipeline.kernels.pair_index import NO_PLACE, drop_key, find_again, find_key, new_index, pair_key, put_key, with_room
from pipeline.kernels.partition import (
    Lists,
    Members,
    Neighbours,
    Text,
    apply_members,
    compact,
    count_pairs,
    list_positions,
    merge_everywhere,
    settle_members,
)
from pipeline.kernels.rounds import Tokens, add_initial_tokens, add_merges, hash_spellings
from tests import reference
from tests.kernels.test_merges import edge_counts

Word = tuple[int, ...]
Pair = tuple[int, int]
NUM_IDS = 40
LETTERS = 3

words = st.dictionaries(
    st.lists(st.integers(0, LETTERS - 1), min_size=1, max_size=20).map(tuple), edge_counts, min_size=1, max_size=5
)


@st.composite
def rounds(draw: st.DrawFn) -> list[tuple[list[Pair], list[int]]]:
    """Of some rounds the pairs of ids there are before it, each once, and which of its members are kept."""
    ids = LETTERS
    result = []
    for _ in range(draw(st.integers(1, 4))):
        pair = st.tuples(st.integers(0, ids - 1), st.integers(0, ids - 1))
        pairs = draw(st.lists(pair, min_size=1, max_size=5, unique=True))
        kept: list[int] = []
        skipped: list[Pair] = []
        for member, (a, b) in enumerate(pairs[: draw(st.integers(1, len(pairs)))]):
            overlaps = any(c == b or d == a for c, d in skipped)
            if overlaps or draw(st.booleans()):
                skipped.append((a, b))
            else:
                kept.append(member)
        result.append((pairs, kept))
        ids += len(kept)
    return result


def text_of(counts: Mapping[Word, int]) -> Text:
    symbols = np.array([token for word in counts for token in word], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, counts)], dtype=np.int64)
    weights = np.array(list(counts.values()), dtype=np.int64)
    cells = words_to_cells(symbols, offsets, weights, np.arange(NUM_IDS, dtype=np.int32))
    return Text(
        cells,
        weights,
        np.ones(NUM_IDS, dtype=np.int32),
        np.zeros((2, NUM_IDS), dtype=np.int64),
        np.empty((2, NUM_IDS), dtype=np.int32),
        np.full((2, NUM_IDS), -1, dtype=np.int32),
    )


def words_in(cells: np.ndarray, spans: np.ndarray) -> list[list[int]]:
    """The words of a text; a token's id must stand in its first and in its last cell."""
    ids = [(cell & 0xFFFFFFFF ^ 1 << 31) - (1 << 31) for cell in cells.tolist()]
    result: list[list[int]] = [[]]
    at = 1
    while at < len(ids):
        if ids[at] == END:
            result.append([])
            at += 1
        else:
            result[-1].append(ids[at])
            assert ids[at + spans[ids[at]] - 1] == ids[at]
            at += spans[ids[at]]
    return result[:-1]


def neighbours_of(words: Sequence[Sequence[int]], weights: Sequence[int], new: int) -> tuple[Counter[int], Counter[int]]:
    """What stands after and before a token; its like only after."""
    after, before = Counter[int](), Counter[int]()
    for word, weight in zip(words, weights, strict=True):
        for left, right in itertools.pairwise(word):
            if left == new:
                after[right] += weight
            elif right == new:
                before[left] += weight
    return after, before


def told(neighbours: Neighbours, member: int, side: int) -> dict[int, int]:
    start, stop = neighbours.offsets[2 * member + side : 2 * member + side + 2]
    ids = neighbours.ids[start:stop].tolist()
    assert len(set(ids)) == len(ids)
    return dict(zip(ids, neighbours.weights[start:stop].tolist(), strict=True))


def listed(text: Text, lists: Lists, number: int, left: int, right: int) -> int:
    """How many of a pair's positions it stands at; no place is listed twice."""
    positions = lists.positions[lists.starts[number] : lists.starts[number] + lists.lengths[number]].tolist()
    assert positions == sorted(set(positions))
    ids = [(cell & 0xFFFFFFFF ^ 1 << 31) - (1 << 31) for cell in text.cells.tolist()]
    return sum(ids[at] == left and ids[at + text.spans[left]] == right for at in positions)


@given(words, rounds())
def test_rounds_of_merges_of_which_some_are_taken_back(
    counts: dict[Word, int], rounds: list[tuple[list[Pair], list[int]]]
) -> None:
    text = text_of(counts)
    weights = list(counts.values())
    now = [list(word) for word in counts]
    tracked = [*itertools.product(range(LETTERS), repeat=2)]
    left, right = np.array(tracked, dtype=np.int32).T
    lists = list_positions(
        text.cells,
        count_pairs(text.cells, text.counts),
        np.ascontiguousarray(left),
        np.ascontiguousarray(right),
        len(tracked),
    )
    ids = LETTERS
    for all_pairs, all_kept in rounds:
        pairs = [pair for pair in all_pairs if pair in tracked]
        kept = [pairs.index(all_pairs[member]) for member in all_kept if all_pairs[member] in tracked]
        results = [ids + member for member in range(len(pairs))]
        columns = [[tracked.index(pair) for pair in pairs], [a for a, _ in pairs], [b for _, b in pairs], results]
        members = Members(*(np.array(column, dtype=np.int32) for column in columns))
        neighbours, *merged = apply_members(text, lists, members)
        applied = now
        for member, (pair, new) in enumerate(zip(pairs, results, strict=True)):
            applied = [reference.merge_all(word, pair, new) for word in applied]
            after, before = neighbours_of(applied, weights, new)
            assert told(neighbours, member, 0) == after
            assert told(neighbours, member, 1) == before
        assert words_in(text.cells, text.spans) == applied

        new_ids: list[int] = []
        new_offsets = [len(tracked)]
        for number, member in enumerate(kept):
            new = ids + number
            now = [reference.merge_all(word, pairs[member], new) for word in now]
            for side, found in enumerate(neighbours_of(now, weights, new)):
                new_ids += found
                tracked += [(neighbour, new) if side else (new, neighbour) for neighbour in found]
                new_offsets.append(len(tracked))
        kept_results = range(ids, ids + len(kept))
        arrays = [np.array(array, dtype=np.int32) for array in (kept, kept_results, new_ids)]
        lists = settle_members(text, lists, members, *merged, *arrays, np.array(new_offsets, dtype=np.int64))
        ids += len(kept)
        assert words_in(text.cells, text.spans) == now
        standing = Counter(pair for word in now for pair in itertools.pairwise(word))
        for number, pair in enumerate(tracked):
            assert listed(text, lists, number, *pair) == standing[pair]
        assert not text.weights.any()
        assert (text.pair_of == -1).all()

    cells = compact(text.cells, text.spans)
    assert words_in(cells, text.spans) == now
    assert (text.spans == 1).all()
    again = merge_everywhere(cells, 0, 1, 2)
    assert words_in(again, text.spans) == [reference.merge_all(word, (0, 1), 2) for word in now]


@given(words)
def test_pairs_of_neighbours(counts: dict[Word, int]) -> None:
    text = text_of(counts)
    local = count_pairs(text.cells, text.counts)
    weights, sizes = Counter[Pair](), Counter[Pair]()
    for word, count in counts.items():
        for pair in itertools.pairwise(word):
            weights[pair] += count
            sizes[pair] += 1
    pairs = list(zip(local.left.tolist(), local.right.tolist(), strict=True))
    assert dict(zip(pairs, local.weights.tolist(), strict=True)) == weights
    assert dict(zip(pairs, local.sizes.tolist(), strict=True)) == sizes


def test_more_pairs_than_there_was_room_for() -> None:
    size = 1_500
    symbols = np.arange(size, dtype=np.int32)
    ids = np.arange(size, dtype=np.int32)
    cells = words_to_cells(symbols, np.array([0, size], dtype=np.int64), np.array([7], dtype=np.int64), ids)
    local = count_pairs(cells, np.array([7], dtype=np.int64))
    assert local.left.tolist() == list(range(size - 1))
    assert set(local.weights.tolist()) == {7}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=60), st.integers(0, 60))
def test_the_index_of_pairs(pairs: list[Pair], num_dropped: int) -> None:
    """Also of equal keys, which are put in one behind the other, and taken out in the opposite order."""
    table = new_index(0)
    for number, (left, right) in enumerate(pairs):
        table = with_room(table, number, 1)
        table[put_key(table, pair_key(np.int32(left), np.int32(right)))] = number
    table = with_room(table, len(pairs), 0).copy()
    first = max(len(pairs) - num_dropped, 0)
    for number in range(len(pairs) - 1, first - 1, -1):
        key = pair_key(np.int32(pairs[number][0]), np.int32(pairs[number][1]))
        place = find_key(table, key)
        while table[place] != number:
            place = find_again(table, key, place)
        drop_key(table, place)
    for pair in set(pairs) | {(6, 6)}:
        key = pair_key(np.int32(pair[0]), np.int32(pair[1]))
        found = []
        place = find_key(table, key)
        while place != NO_PLACE:
            found.append(int(table[place]))
            place = find_again(table, key, place)
        assert sorted(found) == [number for number in range(first) if pairs[number] == pair]


def tokens_of(spellings: Sequence[str], num_ids: int) -> Tokens:
    tokens = Tokens(
        np.full(num_ids, -1, dtype=np.int32),
        np.full(num_ids, -1, dtype=np.int32),
        np.zeros(num_ids, dtype=np.int64),
        np.zeros(num_ids, dtype=np.uint64),
        np.zeros(num_ids, dtype=np.uint64),
        np.zeros(num_ids, dtype=np.bool_),
        np.zeros(num_ids, dtype=np.bool_),
        np.frombuffer("".join(spellings).encode("utf-32-le"), dtype=np.uint32),
        np.cumsum([0, *map(len, spellings)], dtype=np.int64),
        new_index(num_ids),
        np.zeros(1, dtype=np.int64),
    )
    add_initial_tokens(tokens)
    return tokens


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12))
def test_a_token_is_found_by_its_spelling(pairs: list[Pair]) -> None:
    spellings = ["a", "b", "aba", "Ġ", "<s>"]
    initial = list(spellings)
    merges: list[tuple[int, int, int]] = []
    for a, b in pairs:
        left, right = a % len(spellings), b % len(spellings)
        chars = spellings[left] + spellings[right]
        if chars not in spellings:
            spellings.append(chars)
        merges.append((left, right, spellings.index(chars)))
    columns = np.array(merges, dtype=np.int32).reshape(-1, 3).T
    tokens = tokens_of(initial, 20)
    assert add_merges(tokens, *columns, 20) == (len(merges), True)
    assert tokens.num_ids[0] == len(spellings)
    assert tokens.lengths[: len(spellings)].tolist() == list(map(len, spellings))

    wrong = columns.copy()
    if merges:
        wrong[2, -1] += 1
        assert add_merges(tokens_of(initial, 20), *wrong, 20) == (len(merges) - 1, False)


def test_equal_hashes_of_unequal_spellings() -> None:
    """A hash modulo 2**64 of a Thue-Morse word and of its complement is the same, whatever the base."""
    order = 11
    bits = [bin(number).count("1") % 2 for number in range(1 << order)]
    words = ["".join("ab"[bit ^ flip] for bit in bits) for flip in (0, 1)]
    tokens = tokens_of(["x", "y", words[0], words[1]], 8)
    assert tokens.hashes[2] == tokens.hashes[3]
    halves = [word[at : at + 1024] for word in words for at in (0, 1024)]
    tokens = tokens_of([*halves[:2], words[0], words[1]], 8)
    for left, right, result in [(0, 1, 2), (1, 0, 3)]:
        merge = [np.array([value], dtype=np.int32) for value in (left, right, result)]
        assert add_merges(tokens, *merge, 8) == (1, True)


@given(st.lists(st.sampled_from(["a", "b", "ab", "ba", "aba"]), min_size=1, max_size=6))
def test_the_hash_of_a_row_is_that_of_its_characters(row: list[str]) -> None:
    spellings = ["a", "b", "ab", "ba", "aba"]
    tokens = tokens_of(spellings, 8)
    known = tokens.lengths, tokens.hashes, tokens.powers
    ids = [spellings.index(piece) for piece in row], [spellings.index(char) for char in "".join(row)]
    symbols = np.array([*ids[0], *ids[1]], dtype=np.int32)
    offsets = np.array([0, len(ids[0]), len(symbols)], dtype=np.int64)
    lengths, hashes = hash_spellings(symbols, offsets, *known)
    assert lengths.tolist() == [len("".join(row))] * 2
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("length", [2, 3, 4, 17, 64])
def test_a_run_of_one_letter(length: int) -> None:
    text = text_of({(0,) * length: 5})
    local = count_pairs(text.cells, text.counts)
    lists = list_positions(text.cells, local, np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int32), 1)
    none = np.zeros(1, dtype=np.int32)
    members = Members(none, none, none, np.array([5], dtype=np.int32))
    neighbours, merged, merged_offsets = apply_members(text, lists, members)
    assert merged[: merged_offsets[1]].tolist() == list(range(1, length, 2))
    expected = {5: 5 * (length // 2 - 1)} if length > 3 else {}
    assert told(neighbours, 0, 0) == expected | ({0: 5} if length % 2 else {})
    assert told(neighbours, 0, 1) == {}
