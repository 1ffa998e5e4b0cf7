"""The word table counts as a dict does, however often it grows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels.count import WordTable, count_words, export_words, rehash_into
from pipeline.kernels.keys import PADDING
from tests import reference, strategies


def empty_table(capacity: int, arena_bytes: int) -> WordTable:
    return WordTable(
        np.zeros((capacity, 4), dtype=np.uint64), np.zeros(arena_bytes, dtype=np.uint8), np.zeros(2, dtype=np.int64)
    )


def count(words: list[bytes], table: WordTable) -> WordTable:
    """Count words, moving to a table with twice the room whenever the kernel stops."""
    values = np.frombuffer(b"".join(words) + bytes(PADDING), dtype=np.uint8)
    stops = np.cumsum([len(word) for word in words], dtype=np.int64)
    start = done = 0
    while done < len(words):
        num_done = int(count_words(values, start, stops[done:], table))
        done += num_done
        start = int(stops[done - 1]) if done else 0
        if done < len(words):
            larger = empty_table(2 * len(table.entries), 2 * len(table.arena) + 300)
            rehash_into(table, larger)
            table = larger
    return table


def export(table: WordTable, num_partitions: int = 1) -> tuple[dict[bytes, int], dict[bytes, int]]:
    """Counts and partitions by word."""
    values, offsets, counts, partitions = export_words(table, num_partitions)
    words = [values[a:b].tobytes() for a, b in itertools.pairwise(offsets)]
    assert len(set(words)) == len(words) == table.used[0]
    return dict(zip(words, counts.tolist(), strict=True)), dict(zip(words, partitions.tolist(), strict=True))


@given(strategies.word_lists, st.sampled_from([2, 8, 256]), st.sampled_from([0, 40, 4_096]))
def test_counts_are_those_of_the_reference(words: list[bytes], capacity: int, arena_bytes: int) -> None:
    words = words + words[::2]
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
