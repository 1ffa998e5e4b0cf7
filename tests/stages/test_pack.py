"""Packing: every id in exactly one place, and the places those of the naive packers."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages import pack as pack_module
from pipeline.stages.pack import Packed, pack, to_batches
from tests import reference, strategies

PAD = 65_535

strategy_names = st.sampled_from(["best_fit", "concat"])
overflows = st.sampled_from(["split", "truncate", "drop"])


def as_lists(documents: list[list[int]]) -> pa.LargeListArray:
    return pa.array(documents, type=pa.large_list(pa.uint16()))


def parts_of(result: Packed) -> list[list[list[int]]]:
    """The parts of each row; checks that the rest of the row is padding."""
    rows = []
    for row, (a, b) in zip(result.rows.tolist(), itertools.pairwise(result.part_offsets.tolist()), strict=True):
        ends = [0, *itertools.accumulate(result.part_lengths[a:b].tolist())]
        rows.append([row[start:stop] for start, stop in itertools.pairwise(ends)])
        assert row[ends[-1] :] == [PAD] * (len(row) - ends[-1])
    return rows


@given(strategies.ragged_rows, strategies.sequence_lengths, overflows)
def test_best_fit_is_that_of_the_reference(documents: list[list[int]], length: int, overflow: Any) -> None:
    result = pack(as_lists(documents), length, "best_fit", overflow, PAD)
    assert parts_of(result) == reference.best_fit_rows(reference.cut_documents(documents, length, overflow), length)


@given(strategies.ragged_rows, strategies.sequence_lengths, st.sampled_from(["truncate", "drop"]))
def test_concat_is_that_of_the_reference(documents: list[list[int]], length: int, overflow: Any) -> None:
    result = pack(as_lists(documents), length, "concat", overflow, PAD)
    assert parts_of(result) == reference.concat_rows(reference.cut_documents(documents, length, overflow), length)


@given(strategies.ragged_rows, strategies.sequence_lengths)
def test_concat_lays_whole_documents_end_to_end(documents: list[list[int]], length: int) -> None:
    rows = parts_of(pack(as_lists(documents), length, "concat", "split", PAD))
    stream = [i for document in documents for i in document]
    assert [i for row in rows for part in row for i in part] == stream
    assert [sum(map(len, row)) for row in rows[:-1]] == [length] * (len(rows) - 1)
    cuts = set(itertools.accumulate(map(len, documents))) | set(range(0, len(stream), length)) | {0, len(stream)}
    ends = {0, *itertools.accumulate(len(part) for row in rows for part in row)}
    assert ends == cuts


@given(strategies.ragged_rows, strategies.sequence_lengths, strategy_names, overflows)
def test_every_id_is_packed_or_counted_as_lost(
    documents: list[list[int]], length: int, strategy: Any, overflow: Any
) -> None:
    result = pack(as_lists(documents), length, strategy, overflow, PAD)
    packed = sorted(i for row in parts_of(result) for part in row for i in part)
    kept = sorted(i for piece in reference.cut_documents(documents, length, overflow) for i in piece)
    assert packed == kept
    assert sum(result.lost.values()) == sum(map(len, documents)) - len(kept)
    assert set(result.lost) <= {"truncate": {"truncated"}, "drop": {"dropped_long_documents"}, "split": set()}[overflow]


@given(strategies.arrow_lists(), strategies.sequence_lengths, strategy_names)
def test_slices_are_packed_as_copies(array: pa.LargeListArray, length: int, strategy: Any) -> None:
    copy = pa.array(array.to_pylist(), type=array.type)
    one, other = (pack(documents, length, strategy, "split", 7) for documents in (array, copy))
    assert one.rows.tolist() == other.rows.tolist()
    assert one.part_lengths.tolist() == other.part_lengths.tolist()
    assert one.rows.dtype == array.type.value_type.to_pandas_dtype()


@pytest.mark.parametrize(("strategy", "lengths"), [("concat", [[3, 1], [1, 3], [2]]), ("best_fit", [[3, 1], [2], [4]])])
def test_docstring_example(strategy: Any, lengths: list[list[int]]) -> None:
    rows = parts_of(pack(as_lists([[1, 1, 1], [2, 2], [3, 4, 5, 6, 7]]), 4, strategy, "split", PAD))
    assert [[len(part) for part in row] for row in rows] == lengths


@pytest.mark.parametrize("strategy", ["best_fit", "concat"])
@pytest.mark.parametrize("documents", [[], [[]], [[], []], [[1, 2, 3]]])
def test_nothing_to_pack(strategy: Any, documents: list[list[int]]) -> None:
    result = pack(as_lists(documents), 2, strategy, "drop", PAD)
    assert result.rows.shape == (0, 2)
    assert result.part_offsets.tolist() == [0]
    assert to_batches(result, {})[1] == []


@pytest.mark.parametrize("rows_per_batch", [1, 2, 1_024])
@given(strategies.ragged_rows, strategies.sequence_lengths, strategy_names)
def test_batches_hold_the_rows(rows_per_batch: int, documents: list[list[int]], length: int, strategy: Any) -> None:
    result = pack(as_lists(documents), length, strategy, "split", PAD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack_module, "ROWS_PER_BATCH", rows_per_batch)
        schema, batches = to_batches(result, {"tokenizer": "abc"})
    table = pa.Table.from_batches(batches, schema)
    table.validate(full=True)
    assert table.column("input_ids").to_pylist() == result.rows.tolist()
    assert table.column("seq_lengths").to_pylist() == [[len(part) for part in row] for row in parts_of(result)]
    assert all(batch.num_rows <= rows_per_batch for batch in batches)
    assert schema.metadata == {b"tokenizer": b"abc"}
    assert schema.field("input_ids").type == pa.list_(pa.field("item", pa.uint16()), length)
