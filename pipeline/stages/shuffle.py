"""The order of packed documents: a keyed permutation of their keys, or the order of the input.

Both are cut into buckets, so that packing holds one bucket at a time; which bucket a document belongs to depends neither
on shards nor on workers.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.arrow import take_rows
from pipeline.kernels.keys import permute_keys

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
