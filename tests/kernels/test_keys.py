"""Keys and hashes: what they are, and that they stay so for ever."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels.keys import (
    LONG,
    PADDING,
    SHORT_BYTES,
    hash_lanes,
    hash_rows,
    key_lanes,
    load_lane,
    mix,
    partition_of,
    permute_keys,
)
from tests import reference, strategies

uint64s = st.integers(0, 2**64 - 1)
seeds = st.integers(0, 2**63 - 1)

GOLDEN_HASHES = [
    0x33FE8BD4F9C57863,
    0x31C5DDD69984DAB5,
    0xAF0C33555E8D0970,
    0xCCA1069433542E26,
    0xB57EC72D0279EEC6,
    0xD5218ABB08F79817,
]
GOLDEN_KEYS = [0x258DF7E7E8404716, 0x6DB5B055DD64AB6B, 0x7ADC8AA2E1C0B00]
GOLDEN_PARTITION = 170


def key(word: bytes, before: bytes = b"", after: bytes = b"") -> tuple[int, int]:
    values = np.frombuffer(before + word + after + bytes(PADDING), dtype=np.uint8)
    low, high = key_lanes(values, len(before), len(before) + len(word))
    return int(low), int(high)


def partition(word: bytes, num_partitions: int) -> int:
    low, high = map(np.uint64, key(word))
    return int(partition_of(np.uint64(hash_lanes(low, high)), num_partitions))


def hashes(rows: list[bytes], seed: int) -> list[int]:
    values = np.frombuffer(b"".join(rows) + bytes(PADDING), dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return hash_rows(values, offsets, seed).tolist()


@given(st.binary(max_size=20), st.integers(0, 28))
def test_load_lane_is_little_endian(data: bytes, at: int) -> None:
    at = min(at, len(data) + PADDING - 8)
    values = np.frombuffer(data + bytes(PADDING), dtype=np.uint8)
    assert int(load_lane(values, at)) == int.from_bytes(values[at : at + 8].tobytes(), "little")


@given(uint64s)
def test_mix_is_the_finalizer_of_splitmix64_and_a_bijection(value: int) -> None:
    mixed = int(mix(np.uint64(value)))
    assert mixed == reference.mix(value)
    assert reference.unmix(mixed) == value


@given(st.binary(max_size=SHORT_BYTES))
def test_a_short_word_can_be_read_back_from_its_key(word: bytes) -> None:
    low, high = key(word)
    assert high >> 56 == len(word)
    assert (low.to_bytes(8, "little") + high.to_bytes(8, "little"))[: len(word)] == word


@given(strategies.words, st.binary(max_size=9), st.binary(max_size=9))
def test_a_key_depends_on_the_word_alone(word: bytes, before: bytes, after: bytes) -> None:
    assert key(word, before, after) == key(word)


@given(st.binary(min_size=SHORT_BYTES + 1, max_size=70))
def test_a_long_word_has_nothing_but_the_mark_in_its_second_lane(word: bytes) -> None:
    assert key(word)[1] == int(LONG) << 56


@given(st.sets(st.binary(max_size=40), max_size=40))
def test_different_words_have_different_keys(words: set[bytes]) -> None:
    assert len({key(word) for word in words}) == len(words)


@pytest.mark.parametrize(("length", "other"), [*itertools.pairwise([0, 1, 7, 8, 9, 15, 16, 17, 23, 24, 25])])
def test_zero_bytes_count(length: int, other: int) -> None:
    assert key(bytes(length)) != key(bytes(other))


@pytest.mark.parametrize("num_partitions", [1, 2, 7, 64])
def test_partitions_are_in_range_and_balanced(num_partitions: int) -> None:
    parts = [partition(f"word {n}".encode(), num_partitions) for n in range(6_400)]
    sizes = np.bincount(parts, minlength=num_partitions)
    assert len(sizes) == num_partitions
    expected = 6_400 / num_partitions
    assert np.abs(sizes - expected).max() < 6 * expected**0.5 or num_partitions == 1


@given(st.lists(strategies.words, max_size=30, unique=True), seeds)
def test_row_hashes_are_distinct_and_depend_on_the_row_alone(rows: list[bytes], seed: int) -> None:
    found = hashes(rows, seed)
    assert len(set(found)) == len(rows)
    assert found == [hashes([row], seed)[0] for row in rows]


def test_another_seed_gives_other_hashes() -> None:
    assert not set(hashes([b"a", b"b"], 0)) & set(hashes([b"a", b"b"], 1))


@given(st.lists(uint64s, max_size=50, unique=True), seeds)
def test_permuted_keys_stay_distinct(keys: list[int], seed: int) -> None:
    permuted = permute_keys(np.array(keys, dtype=np.uint64), seed)
    assert len(set(permuted.tolist())) == len(keys)


def test_permutation_spreads_neighbours_over_the_range() -> None:
    top_bytes = permute_keys(np.arange(4_096, dtype=np.uint64), 7) >> np.uint64(60)
    sizes = np.bincount(top_bytes.astype(np.int64), minlength=16)
    assert sizes.min() > 180
    assert sizes.max() < 340


def test_hashes_never_change() -> None:
    """Partitions, held-out documents and the order of packed rows of finished runs depend on these."""
    assert (
        hashes([b"", b"the", b"12345678", b"fifteen bytes!!", b"sixteen  bytes!!", b"a longer word than that"], 0)
        == GOLDEN_HASHES
    )
    assert permute_keys(np.array([0, 1, 2**64 - 1], dtype=np.uint64), 0).tolist() == GOLDEN_KEYS
    assert partition(b" the", 1_000) == GOLDEN_PARTITION
