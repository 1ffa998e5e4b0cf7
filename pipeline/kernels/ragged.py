"""Rows of unequal length: where lines start, and ranges side by side."""

from __future__ import annotations

import numpy as np

from pipeline.kernels._jit import njit
from pipeline.kernels._llvm import BLOCK, range_mask, trailing_zeros


@njit
def gather_ranges(values, starts, stops):
    """The ranges ``values[starts[i]:stops[i]]``, one after the other, as rows.

    ``starts``, ``stops`` ``[shape=(n,), dtype=int64]``; returns values and offsets of the rows.

    Examples
    --------
    Of ``[1, 2, 3, 4]`` the ranges 0 to 1 and 2 to 4: values 1, 3, 4, offsets 0, 1, 3.
    """
    offsets = np.zeros(len(starts) + 1, dtype=np.int64)
    for i in range(len(starts)):
        offsets[i + 1] = offsets[i] + stops[i] - starts[i]
    result = np.empty(offsets[-1], dtype=values.dtype)
    for i in range(len(starts)):
        new_start = np.uintp(offsets[i])
        start = np.uintp(starts[i])
        for at in range(np.uintp(stops[i] - starts[i])):  # unsigned: LLVM copies many at a time
            result[new_start + at] = values[start + at]
    return result, offsets


@njit
def line_starts(text, num_bytes):
    """Where the lines of ``text[:num_bytes]`` start. ``text`` is padded; ``[shape=(n_lines,), dtype=int64]``.

    Examples
    --------
    Of ``a``, a line end, ``b``: 0 and 2; with one more line end, still 0 and 2.
    """
    one = np.uint64(1)
    line_end = np.uint8(10)
    starts = np.empty(1024, dtype=np.int64)
    num_lines = 0
    start = 0
    for first in range(0, num_bytes, BLOCK):
        if num_lines + BLOCK + 1 > len(starts):
            larger = np.empty(2 * len(starts), dtype=np.int64)
            larger[:num_lines] = starts[:num_lines]
            starts = larger
        ends = range_mask(text, np.uintp(first), line_end, line_end)
        if num_bytes - first < BLOCK:  # not those of the padding
            ends &= (one << np.uint64(num_bytes - first)) - one
        while ends != 0:
            starts[num_lines] = start
            num_lines += 1
            start = first + trailing_zeros(ends) + 1
            ends &= ends - one
    if start < num_bytes:
        starts[num_lines] = start
        num_lines += 1
    return starts[:num_lines]
