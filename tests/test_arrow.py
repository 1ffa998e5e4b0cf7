"""Arrow arrays to NumPy buffers and back: slices, nulls, widths."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from pipeline.arrow import Rows, binary_array, list_array, list_rows, rows_of
from pipeline.kernels.keys import PADDING
from tests import strategies


def as_bytes(array: pa.Array) -> list[bytes]:
    return [row.encode() if isinstance(row, str) else row for row in array.to_pylist()]


def slices(rows: Rows) -> list[bytes]:
    return [rows.values[a:b].tobytes() for a, b in itertools.pairwise(rows.offsets)]


@given(strategies.arrow_texts())
def test_rows_hold_the_bytes_of_any_array(array: pa.Array) -> None:
    rows = rows_of(array)
    assert slices(rows) == as_bytes(array)
    assert rows.offsets[0] == 0
    assert rows.num_bytes == sum(map(len, as_bytes(array)))


@given(strategies.arrow_texts())
def test_rows_end_in_padding_of_zeros(array: pa.Array) -> None:
    rows = rows_of(array)
    assert rows.values[rows.num_bytes :].tolist() == [0] * PADDING


@given(strategies.arrow_texts(nulls=True).filter(lambda array: array.null_count))
def test_nulls_are_refused(array: pa.Array) -> None:
    with pytest.raises(ValueError, match="without nulls"):
        rows_of(array)


@given(strategies.arrow_texts(nulls=True))
def test_nulls_outside_a_slice_do_no_harm(array: pa.Array) -> None:
    valid = array.drop_null()
    assert slices(rows_of(valid)) == as_bytes(valid)


def test_values_behind_a_null_are_not_read() -> None:
    data = pa.py_buffer(b"xxhidden")
    offsets = pa.py_buffer(np.array([0, 2, 8], dtype=np.int64))
    array = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 2, [pa.py_buffer(b"\x01"), offsets, data])
    assert slices(rows_of(array.slice(0, 1))) == [b"xx"]
    assert slices(rows_of(array.drop_null())) == [b"xx"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()])
@pytest.mark.parametrize("start", [0, 2])
def test_an_array_without_rows(kind: pa.DataType, start: int) -> None:
    array = pa.array(["a", "bc"][:start], type=kind).slice(start)
    assert rows_of(array).offsets.tolist() == [0]


@pytest.mark.parametrize("offsets", [None, pa.py_buffer(b"")])
def test_an_array_without_offsets(offsets: pa.Buffer | None) -> None:
    """The Arrow format allows an array of length 0 to have no offset at all."""
    array = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 0, [None, offsets, pa.py_buffer(b"")])
    assert rows_of(array).offsets.tolist() == [0]


def test_rows_are_a_copy() -> None:
    array = pa.array([b"ab"], type=pa.large_binary())
    rows_of(array).values[:] = 7
    assert array.to_pylist() == [b"ab"]


@given(strategies.arrow_texts())
def test_binary_array_is_the_inverse_of_rows_of(array: pa.Array) -> None:
    rows = rows_of(array)
    back = binary_array(rows.values, rows.offsets)
    back.validate(full=True)
    assert back.type == pa.large_binary()
    assert back.to_pylist() == as_bytes(array)


@given(strategies.arrow_lists())
def test_list_rows_of_any_slice(array: pa.LargeListArray) -> None:
    offsets, values = list_rows(array)
    assert [values[a:b].tolist() for a, b in itertools.pairwise(offsets)] == array.to_pylist()
    assert offsets[0] == 0
    assert len(values) == offsets[-1]


@given(strategies.arrow_lists())
def test_list_array_is_the_inverse_of_list_rows(array: pa.LargeListArray) -> None:
    offsets, values = list_rows(array)
    back = list_array(pa.array(values), offsets)
    back.validate(full=True)
    assert back.to_pylist() == array.to_pylist()
    assert back.type.value_type == array.type.value_type
