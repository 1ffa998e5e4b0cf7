"""The merge learner finds the merges that counting every pair anew finds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels.merges import END, learn_merges, words_to_symbols
from tests import reference, strategies


def symbols_of(words: list[bytes], alphabet: bytes) -> tuple[list[int], list[int]]:
    byte_ids = np.full(256, -1, dtype=np.int32)
    byte_ids[list(alphabet)] = np.arange(len(alphabet))
    values = np.frombuffer(b"".join(words) + b"\0", dtype=np.uint8)
    symbols, word_of = words_to_symbols(values, np.cumsum([0, *map(len, words)], dtype=np.int64), byte_ids)
    return symbols.tolist(), word_of.tolist()


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
    symbols, word_of = symbols_of(list(counts), alphabet)
    num_ids = len(alphabet) + bool(special)
    pairs, merge_counts, results = learn_merges(
        np.array(symbols, dtype=np.int32),
        np.array(word_of, dtype=np.int32),
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


@given(st.lists(st.binary(max_size=6), max_size=6), st.binary(max_size=5).map(lambda data: bytes(dict.fromkeys(data))))
def test_symbols_stand_between_ends_and_know_their_word(words: list[bytes], alphabet: bytes) -> None:
    symbols, word_of = symbols_of(words, alphabet)
    expected = [[alphabet.index(byte) for byte in word if byte in alphabet] for word in words]
    groups = [list(group) for is_end, group in itertools.groupby(symbols, lambda s: s == END) if not is_end]
    assert groups == [ids for ids in expected if ids]
    assert symbols.count(int(END)) == len(words) + 1
    assert word_of == [0] + [n for n, ids in enumerate(expected) for _ in [*ids, END]]


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


@given(strategies.large_word_counts)
def test_counts_above_32_bits(counts: dict[bytes, int]) -> None:
    pairs, merge_counts, _ = learn(counts, b"abc")
    assert (pairs, merge_counts) == learn_naively(counts, b"abc", 1_000, 1)


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


def test_runs_of_one_letter() -> None:
    pairs, merge_counts, _ = learn({b"a" * 17: 1}, b"a")
    assert (pairs, merge_counts) == learn_naively({b"a" * 17: 1}, b"a", 1_000, 1)


def test_a_merge_that_spells_a_special_token_gets_its_id() -> None:
    pairs, _, results = learn({b"abc": 3}, b"abc", special=b"ab")
    assert pairs == [(0, 1), (3, 2)]
    assert results == [3, 4]


def test_no_words_and_no_room() -> None:
    assert learn({}, b"ab") == ([], [], [])
    assert learn({b"ab": 9}, b"ab", num_merges=0) == ([], [], [])
