"""Rows of unequal length: in another order against Arrow's own, ranges and lines against Python's."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrow import take_rows
from pipeline.kernels.keys import PADDING
from pipeline.kernels.ragged import gather_ranges, line_starts
from tests import strategies

KINDS = [pa.large_list(pa.uint16()), pa.large_list(pa.uint32()), pa.large_binary()]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(rows=st.lists(st.lists(st.integers(0, 255), max_size=5), min_size=1, max_size=8), data=st.data())
def test_rows_in_another_order(kind, rows, data):
    order = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12)), dtype=np.int64)
    values = [bytes(row) for row in rows] if kind == pa.large_binary() else rows
    table = pa.table({"key": list(range(len(rows))), "row": pa.array(values, type=kind)}).slice(0)
    assert take_rows(table, order).equals(table.take(pa.array(order)))
    assert take_rows(table.slice(1), order[order > 0] - 1).equals(table.take(pa.array(order[order > 0])))


def test_no_rows_at_all():
    nothing = np.empty(0, dtype=np.int64)
    values, offsets = gather_ranges(np.empty(0, dtype=np.uint16), nothing, nothing)
    assert (len(values), offsets.tolist()) == (0, [0])


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.data())
def test_ranges_one_after_the_other(values, data):
    """They may overlap, be empty and come in any order."""
    bounds = st.integers(0, len(values))
    ranges = data.draw(st.lists(st.tuples(bounds, bounds).map(sorted), max_size=12))
    for dtype in (np.uint8, np.uint16, np.int64, np.uint64):
        array = np.array(values, dtype=np.uint64).astype(dtype)
        starts, stops = np.array(ranges, dtype=np.int64).reshape(-1, 2).T.copy()
        found, offsets = gather_ranges(array, starts, stops)
        assert found.dtype == dtype
        assert found.tolist() == [value for start, stop in ranges for value in array[start:stop].tolist()]
        assert offsets.tolist() == np.cumsum([0, *(stop - start for start, stop in ranges)]).tolist()


def starts_of(text: bytes) -> list[int]:
    """As the kernel sees it: padding of line ends, which are none of the text's."""
    values = np.frombuffer(text + b"\n" * PADDING, dtype=np.uint8)
    return line_starts(values, len(text)).tolist()


def naive_line_starts(text: bytes) -> list[int]:
    starts = [0, *(at + 1 for at in range(len(text)) if text[at] == 10)]
    return [start for start in starts if start < len(text)]


@given(st.one_of(st.binary(max_size=300), st.text("a\n\r", max_size=300).map(str.encode), strategies.text.map(str.encode)))
def test_lines(text):
    assert starts_of(text) == naive_line_starts(text)


@pytest.mark.parametrize("text", [b"a\nb", b"a\nb\n"])
def test_docstring_example_of_lines(text):
    assert starts_of(text) == [0, 2]


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 129])
def test_lines_that_end_at_the_edge_of_a_block(size):
    for text in (b"x" * size, b"\n" * size, b"x" * size + b"\n", b"\n" + b"x" * size, b"x" * (size - 1) + b"\nx"):
        assert starts_of(text) == naive_line_starts(text)


@pytest.mark.parametrize("num_lines", [959, 960, 1023, 1024, 1025, 5_000])
def test_more_lines_than_there_was_room_for(num_lines):
    assert starts_of(b"\n" * num_lines) == list(range(num_lines))
    assert starts_of(b"ab\n" * num_lines) == list(range(0, 3 * num_lines, 3))
