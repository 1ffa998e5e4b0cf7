"""Which documents are held out: decided by the hash of their id, so for ever the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.arrow import rows_of
from pipeline.kernels.keys import hash_rows, permute_keys


def document_keys(ids: pa.LargeStringArray) -> NDArray[np.uint64]:
    """A 64-bit hash of each id; equal ids have equal keys. ``[shape=(n,), dtype=uint64]``."""
    rows = rows_of(ids)
    keys: NDArray[np.uint64] = hash_rows(rows.values, rows.offsets, 0)
    return keys


def is_held_out(keys: NDArray[np.uint64], fraction: float, seed: int) -> NDArray[np.bool_]:
    """True for about ``fraction`` of the keys, another choice for another seed."""
    threshold = np.uint64(int(fraction * 2.0**64))
    chosen: NDArray[np.bool_] = permute_keys(keys, seed) < threshold
    return chosen
