"""The word table counts as a dict does, however often it grows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels.count import GROUP, WordTable, count_words, export_words, rehash_into
from pipeline.kernels.keys import PADDING, key_lanes
from tests import reference, strategies


def empty_table(capacity: int, arena_bytes: int) -> WordTable:
    return WordTable(
        np.zeros((capacity, 4), dtype=np.uint64), np.zeros(arena_bytes, dtype=np.uint8), np.zeros(3, dtype=np.int64)
    )


def count(words: list[bytes], table: WordTable) -> WordTable:
    """Count words, moving to a table with more room in whatever is full whenever the kernel stops."""
    values = np.frombuffer(b"".join(words) + bytes(PADDING), dtype=np.uint8)
    stops = np.cumsum([len(word) for word in words], dtype=np.int64)
    start = done = 0
    while done < len(words):
        num_done = int(count_words(values, start, stops[done:], table))
        done += num_done
        start = int(stops[done - 1]) if done else 0
        if done < len(words):
            entries, arena, used = table
            if used[0] >= len(entries) // 2:
                table = WordTable(np.zeros((2 * len(entries), 4), dtype=np.uint64), arena, used)
                rehash_into(entries, table.entries)
            else:
                table = WordTable(entries, np.concatenate([arena, np.zeros(len(arena) + 300, dtype=np.uint8)]), used)
    return table


def hash_of(word: bytes) -> int:
    """The first lane of a long word's key."""
    values = np.frombuffer(word + bytes(PADDING), dtype=np.uint8)
    return int(key_lanes(values, 0, len(word))[0])


def export(table: WordTable, num_partitions: int = 1) -> tuple[dict[bytes, int], dict[bytes, int]]:
    """Counts and partitions by word."""
    values, offsets, counts, partitions = export_words(table, num_partitions)
    words = [values[a:b].tobytes() for a, b in itertools.pairwise(offsets)]
    assert len(set(words)) == len(words) == table.used[0]
    return dict(zip(words, counts.tolist(), strict=True)), dict(zip(words, partitions.tolist(), strict=True))


@given(strategies.word_lists, st.sampled_from([2, 8, 256]), st.sampled_from([0, 40, 4_096]))
def test_counts_are_those_of_the_reference(words: list[bytes], capacity: int, arena_bytes: int) -> None:
    words = (words + words[::2]) * 3  # more than one group of words
    assert export(count(words, empty_table(capacity, arena_bytes)))[0] == reference.count_words(words)


@given(strategies.word_lists, strategies.word_lists)
def test_a_table_goes_on_counting(first: list[bytes], second: list[bytes]) -> None:
    table = count(second, count(first, empty_table(4, 0)))
    assert export(table)[0] == reference.count_words(first + second)


@given(strategies.word_lists, st.integers(1, 9))
def test_partitions_depend_neither_on_order_nor_on_the_table(words: list[bytes], num_partitions: int) -> None:
    one = export(count(words, empty_table(2, 0)), num_partitions)[1]
    other = export(count(words[::-1], empty_table(1_024, 20_000)), num_partitions)[1]
    assert one == other
    assert set(one.values()) <= set(range(num_partitions))


def test_words_that_share_a_slot_stay_apart() -> None:
    words = [bytes([n]) for n in range(256)]
    assert export(count(words * 2, empty_table(2, 0)))[0] == dict.fromkeys(words, 2)


@pytest.mark.parametrize("num_words", [GROUP - 1, GROUP, GROUP + 1, 3 * GROUP])
@pytest.mark.parametrize("length", [2, 15, 16])
def test_a_table_grows_in_the_middle_of_a_group(num_words: int, length: int) -> None:
    words = [f"{n:>{length}}".encode()[-length:] for n in range(10, 10 + num_words)]
    assert export(count(words * 2, empty_table(2, 0)))[0] == reference.count_words(words * 2)


def test_long_words_with_the_same_hash_stay_apart() -> None:
    words = reference.words_of_one_hash(6)
    assert len({hash_of(word) for word in words}) == 1
    assert export(count(words * 3, empty_table(2, 0)))[0] == dict.fromkeys(words, 3)


def test_words_made_of_what_a_table_holds_stay_apart() -> None:
    """Short words whose bytes are the lanes of long ones, and words that differ in their zeros alone."""
    long = bytes(range(65, 85))
    low = hash_of(long).to_bytes(8, "little")
    words = [long, low, *(low + bytes(n) for n in range(1, 8)), *(bytes(n) for n in range(1, 20)), low + b"\xff" * 7]
    assert export(count(words * 2, empty_table(2, 0)))[0] == dict.fromkeys(words, 2)


def test_all_words_of_a_table_are_found_again_in_a_larger_one() -> None:
    words = [b"%d" % n for n in range(500)] + [b"a longer word, %d" % n for n in range(500)]
    table = count(words, empty_table(2_048, 20_000))
    for factor in (2, 16):
        larger = WordTable(np.zeros((factor * 2_048, 4), dtype=np.uint64), table.arena, table.used.copy())
        rehash_into(table.entries, larger.entries)
        assert export(count(words, larger))[0] == dict.fromkeys(words, 2)


@pytest.mark.parametrize("length", [15, 16])
def test_the_kernel_stops_before_it_is_more_than_half_full(length: int) -> None:
    words = [bytes([n]) * length for n in range(5)]
    table = empty_table(4, 1_000)
    values = np.frombuffer(b"".join(words) + bytes(PADDING), dtype=np.uint8)
    assert count_words(values, 0, np.arange(1, 6, dtype=np.int64) * length, table) == 2
    assert table.used[0] == 2


def test_the_kernel_stops_when_the_arena_is_full_and_leaves_it_intact() -> None:
    words = [b"a" * 20, b"b" * 20, b"a" * 20]
    table = empty_table(64, 39)
    values = np.frombuffer(b"".join(words) + bytes(PADDING), dtype=np.uint8)
    assert count_words(values, 0, np.array([20, 40, 60]), table) == 1
    assert export(table)[0] == {b"a" * 20: 1}


def test_counts_go_beyond_32_bits() -> None:
    table = count([b"a", b"b" * 30], empty_table(8, 100))
    table.entries[table.entries[:, 1] != 0, 2] = 2**32
    assert export(count([b"a", b"b" * 30], table))[0] == {b"a": 2**32 + 1, b"b" * 30: 2**32 + 1}
