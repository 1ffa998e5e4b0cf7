"""The order of packed documents: a keyed permutation of their keys, or the order of the input.

Both are cut into buckets, so that packing holds one bucket at a time; which bucket a document belongs to depends neither
on shards nor on workers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.arrow import batches_by_group, take_rows
from pipeline.kernels.keys import permute_keys
from pipeline.stages.scratch import Runs

_SMALL_BUCKET = 128 << 20
_LARGE_BUCKET = 1 << 30
_MANY_BUCKETS = 1024
_SHUFFLE_TWEAK = 0x5368756666


def num_buckets(text_bytes: int) -> int:
    """How many buckets a split of this much text gets: of 128 MiB each, and larger ones from 128 GiB on."""
    return max(1, -(-text_bytes // _LARGE_BUCKET), min(_MANY_BUCKETS, -(-text_bytes // _SMALL_BUCKET)))


def shuffle_keys(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Where each document stands in the shuffled order: ascending. uint64 in and out."""
    permuted: NDArray[np.uint64] = permute_keys(keys, seed ^ _SHUFFLE_TWEAK)
    return permuted


def buckets_of_keys(keys: NDArray[np.uint64], buckets: int) -> NDArray[np.int64]:
    """The bucket of each shuffled key: equal ranges of the keys, in order."""
    return ((keys >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)).astype(np.int64)


def buckets_of_bytes(starts: NDArray[np.int64], total: int, buckets: int) -> NDArray[np.int64]:
    """The bucket of each document in input order, from the byte of the split's text at which it starts."""
    return starts // (-(-max(total, 1) // buckets))


def sort_rows(rows: pa.Table) -> tuple[pa.Table, int]:
    """Encoded documents by ascending key, equal keys in input order; and how many share a key with the one before."""
    keys = rows.column("key").to_numpy()
    order = np.argsort(keys, kind="stable")
    repeated = int((np.diff(keys[order]) == 0).sum()) if len(keys) else 0
    return take_rows(rows, order), repeated


class BucketRows:
    """Encoded documents on their way to their buckets: in memory, or, as soon as there is too much, in scratch files.

    Parameters
    ----------
    schema
        ``schema.token_rows``.
    num_buckets
        How many buckets there are.
    max_bytes
        How much is kept in memory; about three times as much is needed while it is sorted by bucket.
    """

    def __init__(self, schema: pa.Schema, num_buckets: int, max_bytes: int) -> None:
        self._schema = schema
        self._num_buckets = num_buckets
        self._max_bytes = max_bytes
        self._runs = Runs(schema)
        self._clear()

    def _clear(self) -> None:
        self._rows: list[pa.Array] = []
        self._keys: list[NDArray[np.uint64]] = [np.empty(0, dtype=np.uint64)]
        self._buckets: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        self._num_bytes = 0

    def add(self, keys: NDArray[np.uint64], ids: pa.LargeListArray, buckets: NDArray[np.int64]) -> None:
        """Some documents: their keys, ids and buckets. ``[shape=(n,)]`` each."""
        self._rows.append(ids.cast(self._schema.field("ids").type))
        self._keys.append(keys)
        self._buckets.append(buckets)
        self._num_bytes += ids.nbytes + keys.nbytes + buckets.nbytes
        if self._num_bytes > self._max_bytes:
            self._runs.add(self._by_bucket(), f"{self._num_bytes:,} bytes of encoded documents")
            self._clear()
            pa.default_memory_pool().release_unused()

    def _by_bucket(self) -> Iterator[pa.RecordBatch]:
        ids = pa.chunked_array(self._rows, type=self._schema.field("ids").type)
        table = pa.table([pa.array(np.concatenate(self._keys)), ids], schema=self._schema)
        return batches_by_group(table, np.concatenate(self._buckets), self._num_buckets)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """A batch for each bucket, in order; in it the documents in the order in which they came."""
        if not len(self._runs):
            yield from self._by_bucket()
            return
        last_run = self._by_bucket()
        for runs in self._runs.groups(self._num_buckets):
            yield self._joined([*runs, next(last_run)])

    def _joined(self, batches: list[pa.RecordBatch]) -> pa.RecordBatch:
        table = pa.Table.from_batches(batches, schema=self._schema)
        return table.combine_chunks().to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], schema=self._schema)
