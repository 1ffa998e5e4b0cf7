"""Rows of unequal length."""

from __future__ import annotations

import numpy as np

from pipeline.kernels._jit import njit


@njit
def gather_rows(values, offsets, order):
    """The rows ``order [dtype=int64]`` names, in that order.

    ``values`` between ``offsets [shape=(n + 1,), dtype=int64]``; returns values and offsets of the result.

    Examples
    --------
    Rows ``[1, 2], [3]`` in order ``1, 0, 1``: values 3, 1, 2, 3, offsets 0, 1, 3, 4.
    """
    new_offsets = np.zeros(len(order) + 1, dtype=np.int64)
    for i in range(len(order)):
        new_offsets[i + 1] = new_offsets[i] + offsets[order[i] + 1] - offsets[order[i]]
    result = np.empty(new_offsets[-1], dtype=values.dtype)
    for i in range(len(order)):
        at = new_offsets[i]
        for j in range(offsets[order[i]], offsets[order[i] + 1]):
            result[at] = values[j]
            at += 1
    return result, new_offsets
