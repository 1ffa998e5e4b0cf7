"""Between Arrow arrays and the NumPy buffers the kernels read.

The one place that knows about offsets of slices, nulls that hide values, and the padding the kernels ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.kernels.keys import PADDING
from pipeline.kernels.ragged import gather_ranges


class Rows(NamedTuple):
    """Rows of bytes: ``values [shape=(n_bytes + PADDING,), dtype=uint8]``, ``offsets [shape=(n + 1,), dtype=int64]``."""

    values: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows together, without the padding."""
        return int(self.offsets[-1])


def rows_of(array: pa.Array) -> Rows:
    """The bytes of a string or binary array behind zero-based offsets and padding.

    No copy where the array's buffer goes on far enough; the padding then holds other text, which kernels never look at.

    Raises
    ------
    ValueError
        The array holds nulls: whoever reads documents has dropped and counted them.
    """
    if array.null_count:
        raise ValueError("rows_of takes arrays without nulls")
    array = array.cast(pa.large_binary())
    _, offset_buffer, value_buffer = array.buffers()
    offsets = np.zeros(1, dtype=np.int64)
    first = 0
    if len(array):
        offsets = np.frombuffer(offset_buffer, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
        first = offsets[0]
        offsets = offsets - first
    if value_buffer is not None and first + offsets[-1] + PADDING <= value_buffer.size:
        view = np.frombuffer(value_buffer, dtype=np.uint8)[first : first + offsets[-1] + PADDING]
        view.setflags(write=False)
        return Rows(view, offsets)
    values = np.zeros(offsets[-1] + PADDING, dtype=np.uint8)
    if offsets[-1]:
        values[: offsets[-1]] = np.frombuffer(value_buffer, dtype=np.uint8)[first : first + offsets[-1]]
    values.setflags(write=False)
    return Rows(values, offsets)


def iter_slices(array: pa.Array, num_bytes: int) -> Iterator[pa.Array]:
    """Slices of a string or binary array, in order, of at most ``num_bytes`` bytes or one row."""
    stops = np.cumsum(pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
    start = 0
    while start < len(array):
        before = stops[start - 1] if start else 0
        stop = max(int(np.searchsorted(stops, before + num_bytes, side="right")), start + 1)
        yield array.slice(start, stop - start)
        start = stop


def binary_array(values: NDArray[np.uint8], offsets: NDArray[np.int64]) -> pa.LargeBinaryArray:
    """Rows of bytes as an Arrow array, without a copy."""
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(values)]
    )


def list_array(values: pa.Array, offsets: NDArray[np.int64]) -> pa.LargeListArray:
    """Rows of ``values`` between zero-based ``offsets [shape=(n + 1,)]``."""
    return pa.LargeListArray.from_arrays(pa.array(offsets, type=pa.int64()), values)


def text_array(rows: Rows) -> pa.LargeStringArray:
    """Rows of UTF-8 as strings, without a copy; they are not checked."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(rows.offsets)), pa.py_buffer(rows.values)]
    return pa.LargeStringArray.from_buffers(len(rows.offsets) - 1, *buffers[1:])


def list_rows(array: pa.LargeListArray) -> tuple[NDArray[np.int64], NDArray[np.generic]]:
    """Zero-based offsets and values of a list array that may be a slice; without nulls."""
    offsets = array.offsets.to_numpy()
    return offsets - offsets[0] if len(offsets) else np.zeros(1, dtype=np.int64), array.flatten().to_numpy()


def take_rows(table: pa.Table, order: NDArray[np.int64]) -> pa.Table:
    """The rows of a table in another order; lists and binary by a kernel, for Arrow's own takes them slowly."""
    columns = []
    for column in table.columns:
        array = column.combine_chunks()
        if pa.types.is_large_list(array.type):
            offsets, values = list_rows(array)
            taken, new_offsets = gather_ranges(values, offsets[order], offsets[order + 1])
            array = pa.LargeListArray.from_arrays(pa.array(new_offsets), pa.array(taken), type=array.type)
        elif pa.types.is_large_binary(array.type):
            rows = rows_of(array)
            array = binary_array(*gather_ranges(rows.values, rows.offsets[order], rows.offsets[order + 1]))
        else:
            array = array.take(pa.array(order))
        columns.append(array)
    return pa.Table.from_arrays(columns, schema=table.schema)


def compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows in buffers of their own size: those of a slice hold bytes of its neighbours, which Arrow writes too."""
    columns = []
    for array in batch.columns:
        if pa.types.is_large_list(array.type):
            offsets, values = list_rows(array)
            columns.append(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values.copy()), type=array.type))
        elif pa.types.is_large_binary(array.type):
            rows = rows_of(array)
            columns.append(binary_array(rows.values[: rows.num_bytes].copy(), rows.offsets))
        else:
            columns.append(pa.array(array.to_numpy().copy()))
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def batches_by_group(table: pa.Table, group_of: NDArray[np.integer[Any]], num_groups: int) -> Iterator[pa.RecordBatch]:
    """A record batch for each group, in order, rows in theirs; empty groups too, so that batch i is group i."""
    is_ordered = bool((group_of[1:] >= group_of[:-1]).all())
    ordered = table if is_ordered else take_rows(table, np.argsort(group_of, kind="stable"))
    stops = np.cumsum(np.bincount(group_of, minlength=num_groups))
    for start, stop in zip([0, *stops[:-1]], stops, strict=True):
        piece = ordered.slice(start, stop - start).combine_chunks()
        yield from piece.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
