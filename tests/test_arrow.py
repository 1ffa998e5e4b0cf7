"""Arrow arrays to NumPy buffers and back: slices, nulls, widths."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrow import Rows, batches_by_group, binary_array, iter_slices, list_array, list_rows, rows_of
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
def test_rows_are_padded_and_cannot_be_written_to(array: pa.Array) -> None:
    """Read-only whether they are copied or not: a kernel that is compiled for the one runs for the other."""
    rows = rows_of(array)
    assert len(rows.values) == rows.num_bytes + PADDING
    assert rows.values.flags.c_contiguous
    assert not rows.values.flags.writeable
    assert rows.offsets.dtype == np.int64


@pytest.mark.parametrize("kind", [pa.large_string(), pa.large_binary()])
@pytest.mark.parametrize("behind", [0, PADDING - 1, PADDING, PADDING + 1, 5_000])
@pytest.mark.parametrize("start", [0, 2])
def test_rows_are_copied_only_where_the_buffer_ends_too_soon(kind: pa.DataType, behind: int, start: int) -> None:
    """A slice in the middle of an array: what is behind it is readable, and serves as padding."""
    texts = ["ab", "", "cde", "f", "x" * behind]
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    whole = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), 5, [None, pa.py_buffer(offsets), pa.py_buffer("".join(texts).encode())]
    ).cast(kind)
    rows = rows_of(whole.slice(start, 4 - start))
    assert slices(rows) == [text.encode() for text in texts[start:4]]
    assert not rows.values.flags.writeable
    is_view = whole.buffers()[2].address + offsets[start] == rows.values.ctypes.data
    assert is_view == (behind >= PADDING)
    assert set(rows.values[rows.num_bytes :].tolist()) == ({ord("x")} if is_view else {0})


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


@given(strategies.arrow_texts())
def test_binary_array_is_the_inverse_of_rows_of(array: pa.Array) -> None:
    rows = rows_of(array)
    back = binary_array(rows.values, rows.offsets)
    back.validate(full=True)
    assert back.type == pa.large_binary()
    assert back.to_pylist() == as_bytes(array)


@given(strategies.arrow_texts(), st.integers(0, 12))
def test_slices_are_in_order_and_small(array: pa.Array, num_bytes: int) -> None:
    pieces = [as_bytes(piece) for piece in iter_slices(array.cast(pa.large_binary()), num_bytes)]
    assert [row for piece in pieces for row in piece] == as_bytes(array)
    assert all(len(piece) == 1 or sum(map(len, piece)) <= num_bytes for piece in pieces)
    firsts = [len(piece[0]) for piece in pieces[1:]]
    assert all(sum(map(len, a)) + b > num_bytes for a, b in zip(pieces, firsts, strict=False))  # none could be larger


@given(st.lists(st.tuples(st.integers(0, 4), st.binary(max_size=20), st.lists(st.integers(0, 99), max_size=3)), max_size=30))
def test_a_batch_for_each_group(rows: list[tuple[int, bytes, list[int]]]) -> None:
    columns = {"group": pa.int64(), "word": pa.large_binary(), "ids": pa.large_list(pa.uint16())}
    table = pa.table(list(map(list, zip(*rows, strict=True))) or [[], [], []], schema=pa.schema(columns))
    batches = list(batches_by_group(table, table.column("group").to_numpy(), 5))
    assert all(batch.schema == table.schema for batch in batches)
    found = [[tuple(row.values()) for row in batch.to_pylist()] for batch in batches]
    assert found == [[row for row in rows if row[0] == group] for group in range(5)]


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
