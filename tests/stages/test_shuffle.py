"""The order of documents, and the buckets it is cut into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrow import list_array
from pipeline.jobs.parts import write_parts
from pipeline.jobs.tasks import Job, Outputs
from pipeline.schema import token_rows
from pipeline.stages.shuffle import BucketRows, buckets_of_bytes, buckets_of_keys, num_buckets, shuffle_keys, sort_rows

NO_SPEC: Any = None
MIB = 1 << 20
GIB = 1 << 30

key_lists = st.lists(st.integers(0, 2**64 - 1), max_size=40)


@pytest.mark.parametrize(
    ("text_bytes", "buckets"),
    [
        (0, 1),
        (1, 1),
        (128 * MIB, 1),
        (128 * MIB + 1, 2),
        (GIB, 8),
        (128 * GIB, 1_024),
        (1_024 * GIB, 1_024),
        (1_024 * GIB + 1, 1_025),
        (10_000 * GIB, 10_000),
    ],
)
def test_num_buckets(text_bytes: int, buckets: int) -> None:
    assert num_buckets(text_bytes) == buckets


@given(st.integers(0, 1 << 45), st.integers(0, 1 << 45))
def test_more_text_never_has_fewer_buckets_nor_larger_than_allowed(a: int, b: int) -> None:
    assert num_buckets(min(a, b)) <= num_buckets(max(a, b))
    assert a / num_buckets(a) <= GIB


@given(key_lists, st.integers(0, 2**63 - 1))
def test_shuffled_keys_are_a_permutation_that_depends_on_the_key_alone(keys: list[int], seed: int) -> None:
    shuffled = shuffle_keys(np.array(keys, dtype=np.uint64), seed).tolist()
    assert len(set(shuffled)) == len(set(keys))
    assert shuffled == [shuffle_keys(np.array([key], dtype=np.uint64), seed).tolist()[0] for key in keys]


def test_another_seed_is_another_order() -> None:
    keys = np.arange(1_000, dtype=np.uint64)
    orders = [np.argsort(shuffle_keys(keys, seed)) for seed in (0, 1)]
    assert (orders[0] == orders[1]).mean() < 0.05
    assert (orders[0] == np.arange(1_000)).mean() < 0.05


@given(key_lists, st.integers(1, 2_000))
def test_buckets_are_equal_ranges_of_the_keys_in_order(keys: list[int], buckets: int) -> None:
    keys = sorted(keys)
    found = buckets_of_keys(np.array(keys, dtype=np.uint64), buckets).tolist()
    assert found == [(key >> 32) * buckets >> 32 for key in keys]
    assert found == sorted(found)
    assert all(0 <= bucket < buckets for bucket in found)


@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=30), st.integers(1, 50))
def test_buckets_of_the_input_order(sizes: list[int], buckets: int) -> None:
    starts = np.cumsum([0, *sizes])
    found = buckets_of_bytes(starts[:-1], int(starts[-1]), buckets).tolist()
    assert found[0] == 0
    assert found == sorted(found)
    assert found[-1] < buckets
    width = -(-int(starts[-1]) // buckets)
    assert all(bucket * width <= start < (bucket + 1) * width for bucket, start in zip(found, starts.tolist(), strict=False))


def test_no_text_at_all() -> None:
    assert buckets_of_bytes(np.zeros(2, dtype=np.int64), 0, 3).tolist() == [0, 0]


@given(st.lists(st.integers(0, 5), max_size=30))
def test_rows_are_sorted_and_equal_keys_keep_their_order(keys: list[int]) -> None:
    table = pa.table(
        {
            "key": pa.array(keys, type=pa.uint64()),
            "ids": pa.array([[n] for n in range(len(keys))], type=pa.large_list(pa.uint16())),
        }
    )
    rows, repeated = sort_rows(table)
    assert rows.column("ids").to_pylist() == [[n] for _, n in sorted((key, n) for n, key in enumerate(keys))]
    assert rows.column("key").to_pylist() == sorted(keys)
    assert repeated == len(keys) - len(set(keys))
    assert rows.schema == table.schema


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 6), st.lists(st.integers(0, 9), max_size=5)), max_size=8), max_size=8),
    st.sampled_from([0, 100, 10**9]),
)
def test_rows_come_back_by_bucket_in_their_order(batches: list[list[tuple[int, list[int]]]], max_bytes: int) -> None:
    """With any memory: what is kept, what is in scratch files, and what is in both."""
    schema = token_rows(np.uint16)
    rows, key = BucketRows(schema, 7, max_bytes), 0
    expected: list[list[tuple[int, list[int]]]] = [[] for _ in range(7)]
    for batch in batches:
        keys = np.arange(key, key + len(batch), dtype=np.uint64)
        for (bucket, ids), number in zip(batch, keys.tolist(), strict=True):
            expected[bucket].append((number, ids))
        key += len(batch)
        ids = pa.array([ids for _, ids in batch], type=pa.large_list(pa.field("item", pa.uint16(), nullable=False)))
        rows.add(keys, ids, np.array([bucket for bucket, _ in batch], dtype=np.int64))
    found = list(rows.batches())
    assert [list(zip(*batch.to_pydict().values(), strict=True)) for batch in found] == expected
    assert all(batch.schema.equals(schema) for batch in found)


def test_a_file_has_the_same_bytes_with_any_memory(tmp_path: Path) -> None:
    """Slices share buffers with their neighbours; what is written must not tell."""
    schema = token_rows(np.uint16)
    hashes = set()
    for max_bytes in (0, 1_000, 1 << 30):
        rows, random = BucketRows(schema, 64, max_bytes), np.random.default_rng(1)
        for _ in range(20):
            lengths = random.integers(0, 9, 30)
            values = pa.array(random.integers(0, 1 << 16, lengths.sum(), dtype=np.uint16))
            ids = list_array(values, np.concatenate([[0], np.cumsum(lengths)]))
            rows.add(random.integers(0, 1 << 63, 30, dtype=np.uint64), ids, random.integers(0, 64, 30))
        outputs = Outputs(Job(NO_SPEC, str(tmp_path / str(max_bytes))))
        write_parts(outputs, "rows.arrow", schema, rows.batches())
        hashes.add(tuple(entry["sha256"] for entry in outputs.entries))
    assert len(hashes) == 1
