"""Merging by ranks gives what merging pair by pair gives: scanned, with a heap, and in pieces that are joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels import ranks
from pipeline.kernels.keys import PADDING
from pipeline.kernels.ranks import (
    MOST_IDS,
    NO_RANK,
    SCAN_SYMBOLS,
    TOGETHER,
    MergeTables,
    find_rank,
    merge_long,
    merge_short_words,
    merge_word,
    new_scratch,
    pair_table,
    ranks_of_bytes,
)
from tests import reference, strategies

Merges = Sequence[tuple[int, int]]

ALPHABET = b"abc"


def plain(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The Python function behind a kernel, which reads the module's constants anew."""
    return getattr(kernel, "py_func", kernel)


def pairs_of(merges: Merges) -> Any:
    return pair_table(*np.array(merges, dtype=np.int64).reshape(-1, 2).T.copy(), np.arange(len(merges)))


def tables_of(merges: Merges) -> MergeTables:
    """Bytes a, b and c have the ids 0, 1 and 2; the n-th merge makes the id 3 + n."""
    byte_ids = np.full(256, -1, dtype=np.int32)
    byte_ids[list(ALPHABET)] = np.arange(3)
    pairs = pairs_of(merges)
    tokens = [b"a", b"b", b"c"]
    for a, b in merges:
        tokens.append(tokens[a] + tokens[b])
    return MergeTables(
        byte_ids,
        pairs,
        ranks_of_bytes(pairs, byte_ids),
        np.arange(3, 3 + len(merges), dtype=np.int32),
        np.frombuffer(b"".join(tokens), dtype=np.uint8),
        np.cumsum([0, *map(len, tokens)], dtype=np.int64),
    )


def ids_of(word: bytes) -> list[int]:
    return [ALPHABET.index(byte) for byte in word if byte in ALPHABET]


def expected_ids(word: bytes, merges: Merges) -> list[int]:
    return reference.encode(ids_of(word), {pair: (rank, 3 + rank) for rank, pair in enumerate(merges)})


def merged(word: bytes, tables: MergeTables, merge: Callable[..., int] = merge_word) -> list[int]:
    """The ids of a word in the middle of a text, written behind others; nothing around them may be touched."""
    text = np.frombuffer(b"ab" + word + b"c" + bytes(PADDING), dtype=np.uint8)
    ids = np.full(3 + len(word) + 2, -7, dtype=np.int32)
    size = merge(text, 2, 2 + len(word), tables, ids, 3, new_scratch())
    assert set(ids[:3].tolist()) == set(ids[3 + len(word) :].tolist()) == {-7}
    return ids[3:size].tolist()  # type: ignore[no-any-return]


abc_words = st.text("abc!", max_size=60).map(str.encode)
long_words = st.builds(
    lambda parts: b"".join(part * times for part, times in parts)[:400],
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"ab", b"abc", b"cab", b"aab"]), st.integers(1, 40)), min_size=1),
)


# --- the table of pairs -----------------------------------------------------------------------------------------------

ids = st.one_of(st.integers(0, 9), st.integers(MOST_IDS - 9, MOST_IDS - 1), st.integers(0, MOST_IDS - 1))


@given(st.lists(st.tuples(ids, ids), max_size=60), st.lists(st.tuples(ids, ids), max_size=20))
def test_ranks_are_found_and_nothing_else(merges: Merges, others: Merges) -> None:
    """In a table as full as it gets; of a pair given twice, as by ``tokenizers``, the later rank."""
    pairs = pairs_of(merges)
    expected = {pair: rank for rank, pair in enumerate(merges)}
    for left, right in [*merges, *others, *((b, a) for a, b in merges)]:
        assert find_rank(pairs, left, right) == expected.get((left, right), NO_RANK)


def test_as_many_merges_as_there_may_be() -> None:
    """Compiled: the whole way up to the highest rank. As plain Python, some thousands have to do."""
    count = MOST_IDS if hasattr(pair_table, "py_func") else 3_000
    left = np.arange(MOST_IDS - count, MOST_IDS, dtype=np.int64)
    right = left[::-1].copy()
    pairs = pair_table(left, right, np.arange(len(left)))
    for rank in (0, 1, count // 2, count - 1):
        assert find_rank(pairs, left[rank], right[rank]) == rank
    assert find_rank(pairs, left[0], left[0]) == NO_RANK


@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 2))), st.sets(st.sampled_from(ALPHABET)))
def test_ranks_of_two_bytes(merges: set[tuple[int, int]], letters: set[int]) -> None:
    byte_ids = np.full(256, -1, dtype=np.int32)
    for letter in letters:
        byte_ids[letter] = ALPHABET.index(letter)
    pairs = pairs_of(list(merges))
    found = ranks_of_bytes(pairs, byte_ids)
    expected = {
        ALPHABET[a] << 8 | ALPHABET[b]: rank for rank, (a, b) in enumerate(merges) if {ALPHABET[a], ALPHABET[b]} <= letters
    }
    assert {int(at): int(found[at]) for at in np.flatnonzero(found != NO_RANK)} == expected


# --- words ------------------------------------------------------------------------------------------------------------


@given(strategies.merge_lists(), st.one_of(abc_words, long_words))
def test_ids_are_those_of_the_reference(merges: Merges, word: bytes) -> None:
    assert merged(word, tables_of(merges)) == expected_ids(word, merges)


@given(strategies.merge_lists(), st.text("abc!", min_size=SCAN_SYMBOLS - 2, max_size=SCAN_SYMBOLS + 2).map(str.encode))
def test_words_where_one_piece_becomes_two(merges: Merges, word: bytes) -> None:
    assert merged(word, tables_of(merges)) == expected_ids(word, merges)


@given(strategies.merge_lists(), st.lists(st.text("abc!", max_size=SCAN_SYMBOLS).map(str.encode), max_size=3 * TOGETHER))
def test_words_that_take_turns(merges: Merges, words: list[bytes]) -> None:
    text = np.frombuffer(b"".join(words) + bytes(PADDING), dtype=np.uint8)
    stops = np.cumsum([len(word) for word in words], dtype=np.int64)
    starts = np.append(np.int64(0), stops)[:-1]
    ids = np.full((len(words) + 1, SCAN_SYMBOLS), -7, dtype=np.int32)
    sizes = np.full(len(words) + 1, -7, dtype=np.int64)
    scratch = new_scratch()
    for _ in range(2):  # the second time with what the first one left in the scratch
        merge_short_words(text, starts, stops, len(words), tables_of(merges), scratch, ids, sizes)
        assert [row[:size].tolist() for row, size in zip(ids, sizes[:-1], strict=False)] == [
            expected_ids(word, merges) for word in words
        ]
    assert set(ids[-1].tolist()) == {-7} == {int(sizes[-1])}


@given(strategies.merge_lists(), st.one_of(abc_words, long_words))
def test_the_heap_gives_what_the_scan_gives(merges: Merges, word: bytes) -> None:
    tables = tables_of(merges)
    ids = np.array(ids_of(word), dtype=np.int32)
    size = merge_long(ids, len(ids), tables.pairs, tables.results)
    assert ids[:size].tolist() == expected_ids(word, merges)


def trained(corpus: bytes, num_merges: int) -> Merges:
    """Merges as training makes them: each token in one way, later than its parts."""
    words = [(ids_of(corpus), 1)]
    merges: list[tuple[int, int]] = []
    while len(merges) < num_merges and (found := reference.best_pair(words, {})):
        merges.append(found[0])
        words = [(reference.merge_all(words[0][0], found[0], 2 + len(merges)), 1)]
    return merges


@given(
    st.one_of(st.builds(trained, long_words, st.integers(1, 40)), strategies.merge_lists()),
    long_words,
    st.integers(1, 9),
    st.sampled_from([1, 8, 1_000]),
)
def test_pieces_join_to_the_exact_encoding(merges: Merges, word: bytes, piece_bytes: int, cascade: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "SCAN_SYMBOLS", piece_bytes)
        patch.setattr(ranks, "_CASCADE", cascade)  # from which on pieces grow
        found_ids = merged(word, tables_of(merges), plain(merge_word))
    assert found_ids == expected_ids(word, merges)


@pytest.mark.parametrize("num_bytes", [100, 1_000, 5_000])
def test_one_byte_at_the_end_changes_every_token_before_it(num_bytes: int) -> None:
    """Pairs from the right: a join has to go back to the very start of the word, beyond what a scan holds."""
    merges = [(2, 1), *((0, 3 + n) for n in range(num_bytes))]
    word = b"a" * num_bytes
    assert merged(word + b"cb", tables_of(merges)) == [3 + num_bytes]
    assert merged(word + b"b", tables_of(merges)) == [0] * num_bytes + [1]


@pytest.mark.parametrize(("run", "rest"), [(0, 0), (31, 7), (5_001, 50)])
def test_a_run_of_one_letter_between_others(run: int, rest: int) -> None:
    """Tokens of 2, 4, 8, … 131,072 letters; runs are merged from the left, so the largest come first."""
    merges = [(0, 0), *((2 + n, 2 + n) for n in range(1, 17)), (1, 2)]
    run_ids, left = [], run
    while left:
        exponent = min(left.bit_length() - 1, 17)
        run_ids.append(2 + exponent if exponent else 0)
        left -= 1 << exponent
    assert merged(b"bc" * rest + b"a" * run + b"bc" * rest, tables_of(merges)) == [20] * rest + run_ids + [20] * rest


def test_the_example() -> None:
    merges = [(0, 1), (3, 2)]
    assert merged(b"abcab", tables_of(merges)) == [4, 3]


@pytest.mark.parametrize("word", [b"", b"a", b"!", b"!" * 100])
def test_words_without_a_pair(word: bytes) -> None:
    assert merged(word, tables_of([(0, 1)])) == [0] * word.count(b"a")


def test_bytes_beside_one_that_is_left_out_become_neighbours() -> None:
    assert merged(b"!a!!b!c", tables_of([(0, 1)])) == [3, 2]
