"""Rows of unequal length in another order, against Arrow's own."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrow import take_rows
from pipeline.kernels.ragged import gather_rows

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
    values, offsets = gather_rows(np.empty(0, dtype=np.uint16), np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int64))
    assert (len(values), offsets.tolist()) == (0, [0])
