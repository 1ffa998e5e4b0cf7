"""The merge learner finds the merges that counting every pair anew finds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels.cells import END, seen_bytes, words_to_cells
from pipeline.kernels.merges import learn_merges
from tests import reference, strategies

few_letters = st.text("abc", min_size=1, max_size=8).map(str.encode)
edge_counts = st.one_of(
    st.integers(1, 9),
    st.integers(2**31 - 3, 2**31 + 3),
    st.integers(2**32 - 3, 2**32 + 3),
    st.sampled_from([2**16, 2**33 - 1, 2**45]),
)
"""Of words: with 31 bits, with more, and with those that a cell would read as another word's."""


def cells_of(counts: Mapping[bytes, int], alphabet: bytes) -> np.ndarray:
    byte_ids = np.full(256, -1, dtype=np.int32)
    byte_ids[list(alphabet)] = np.arange(len(alphabet))
    values = np.frombuffer(b"".join(counts) + b"\0", dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, counts)], dtype=np.int64)
    return words_to_cells(values, offsets, np.array(list(counts.values()), dtype=np.int64), byte_ids)


def learn(
    counts: Mapping[bytes, int],
    alphabet: bytes,
    *,
    num_merges: int = 1_000,
    min_count: int = 1,
    max_length: int = 0,
    special: bytes = b"",
) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Merges, their counts and result ids; a special token, if there is one, has the id after the alphabet."""
    num_ids = len(alphabet) + bool(special)
    pairs, merge_counts, results = learn_merges(
        cells_of(counts, alphabet),
        np.array(list(counts.values()), dtype=np.int64),
        num_ids,
        num_ids + num_merges,
        min_count,
        max_length,
        np.array([*alphabet] + [-1] * bool(special), dtype=np.int64),
        np.array([num_ids - 1] * bool(special), dtype=np.int64),
        np.frombuffer(special + b"\0", dtype=np.uint8),
        np.array([0, len(special)][: 1 + bool(special)], dtype=np.int64),
    )
    return [(a, b) for a, b in pairs.tolist()], merge_counts.tolist(), results.tolist()


def learn_naively(
    counts: Mapping[bytes, int], alphabet: bytes, num_merges: int, min_count: int
) -> tuple[list[tuple[int, int]], list[int]]:
    words = [([alphabet.index(byte) for byte in word if byte in alphabet], count) for word, count in counts.items()]
    pairs: list[tuple[int, int]] = []
    merge_counts: list[int] = []
    while len(pairs) < num_merges:
        found = reference.best_pair(words, {})
        if found is None or found[1] < min_count:
            break
        pairs.append(found[0])
        merge_counts.append(found[1])
        words = [(reference.merge_all(ids, found[0], len(alphabet) + len(pairs) - 1), count) for ids, count in words]
    return pairs, merge_counts


@given(
    st.dictionaries(st.binary(max_size=6), edge_counts, max_size=6),
    st.binary(max_size=5).map(lambda data: bytes(dict.fromkeys(data))),
)
def test_cells_hold_ids_between_ends_and_the_count_of_their_word(counts: dict[bytes, int], alphabet: bytes) -> None:
    cells = cells_of(counts, alphabet).tolist()
    ids = [(cell & 0xFFFFFFFF ^ 1 << 31) - (1 << 31) for cell in cells]  # the lower half, with its sign
    weights = [cell >> 32 for cell in cells]
    expected = [[alphabet.index(byte) for byte in word if byte in alphabet] + [END] for word in counts]
    assert ids == [END, *itertools.chain.from_iterable(expected)]
    held = [weight if weight >= 0 else list(counts.values())[~weight] for weight in weights]
    assert held[1:] == [count for part, count in zip(expected, counts.values(), strict=True) for _ in part]


@given(strategies.word_counts, st.integers(0, 30), st.integers(1, 12), st.permutations(list(b"abcd ")))
def test_merges_are_those_of_the_reference(
    counts: dict[bytes, int], num_merges: int, min_count: int, alphabet: list[int]
) -> None:
    pairs, merge_counts, results = learn(counts, bytes(alphabet), num_merges=num_merges, min_count=min_count)
    assert (pairs, merge_counts) == learn_naively(counts, bytes(alphabet), num_merges, min_count)
    assert results == list(range(5, 5 + len(pairs)))


@given(strategies.word_counts)
def test_bytes_without_an_id_are_left_out(counts: dict[bytes, int]) -> None:
    pairs, merge_counts, _ = learn(counts, b"ac")
    assert (pairs, merge_counts) == learn_naively(counts, b"ac", 1_000, 1)


@given(st.dictionaries(few_letters, edge_counts, min_size=1, max_size=8))
def test_counts_that_a_cell_has_no_room_for(counts: dict[bytes, int]) -> None:
    """Beside one another in a corpus: counts below, at and above what fits beside an id."""
    pairs, merge_counts, _ = learn(counts, b"abc")
    assert (pairs, merge_counts) == learn_naively(counts, b"abc", 1_000, 1)


@pytest.mark.parametrize("count", [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62])
def test_a_count_at_the_edge_of_a_cell(count: int) -> None:
    counts = {b"abc": count, b"bc": 1, b"ab": 2}
    assert learn(counts, b"abc")[:2] == ([(0, 1), (3, 2), (1, 2)], [count + 2, count, 1])


@given(strategies.word_counts, st.integers(0, 30), st.integers(1, 12))
def test_a_higher_least_count_gives_the_start_of_all_merges(counts: dict[bytes, int], num_merges: int, least: int) -> None:
    """What the trainer relies on when it raises it: pairs that are not listed are missed by no other."""
    pairs, merge_counts, _ = learn(counts, b"abcd ", num_merges=num_merges)
    kept = sum(count >= least for count in merge_counts)
    assert learn(counts, b"abcd ", num_merges=num_merges, min_count=least)[:2] == (pairs[:kept], merge_counts[:kept])


@given(st.text("ab", min_size=40, max_size=400), st.integers(1, 40))
def test_long_words_whose_positions_are_fetched_ahead(text: str, num_merges: int) -> None:
    counts = {text.encode(): 3, text[::-1].encode() + b"c": 1}
    pairs, merge_counts, _ = learn(counts, b"abc", num_merges=num_merges)
    assert (pairs, merge_counts) == learn_naively(counts, b"abc", num_merges, 1)


@given(strategies.word_counts, st.integers(1, 8))
def test_only_pairs_of_merges_are_held_below_the_greatest_length(counts: dict[bytes, int], max_length: int) -> None:
    pairs, _, _ = learn(counts, b"abcd ", max_length=max_length)
    lengths = [1] * 5
    for a, b in pairs:
        lengths.append(lengths[a] + lengths[b])
    assert all(length < max_length or length == 2 for length in lengths[5:])


def test_wikipedia_example() -> None:
    pairs, merge_counts, _ = learn({b"aaabdaaabac": 1}, b"abcd", num_merges=3)
    assert pairs == [(0, 0), (0, 1), (4, 5)]
    assert merge_counts == [4, 2, 2]


@pytest.mark.parametrize("length", [2, 3, 17, 64, 1_001])
def test_runs_of_one_letter(length: int) -> None:
    pairs, merge_counts, _ = learn({b"a" * length: 1}, b"a")
    assert (pairs, merge_counts) == learn_naively({b"a" * length: 1}, b"a", 1_000, 1)


def test_a_merge_that_spells_a_special_token_gets_its_id() -> None:
    pairs, _, results = learn({b"abc": 3}, b"abc", special=b"ab")
    assert pairs == [(0, 1), (3, 2)]
    assert results == [3, 4]


def test_no_words_and_no_room() -> None:
    assert learn({}, b"ab") == ([], [], [])
    assert learn({b"ab": 9}, b"ab", num_merges=0) == ([], [], [])


@given(st.binary(max_size=50))
def test_bytes_that_occur(text: bytes) -> None:
    assert np.flatnonzero(seen_bytes(np.frombuffer(text, dtype=np.uint8))).tolist() == sorted(set(text))
