"""Filters keep what their rule says and count the rest."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.schema import DOCUMENTS
from pipeline.spec import FilterSpec
from pipeline.stages.filter import keep_documents
from tests import strategies


def documents(texts: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array([str(n) for n in range(len(texts))], type=pa.large_string()), pa.array(texts, type=pa.large_string())],
        schema=DOCUMENTS,
    )


@given(strategies.texts, st.integers(0, 30), st.integers(0, 60) | st.none())
def test_documents_within_the_limits_are_kept_in_order(texts: list[str], least: int, extra: int | None) -> None:
    most = None if extra is None else least + extra
    dropped: Counter[str] = Counter()
    kept = keep_documents(documents(texts), [FilterSpec(name="length", min_bytes=least, max_bytes=most)], dropped)
    sizes = [len(text.encode()) for text in texts]
    wanted = [(str(n), texts[n]) for n, size in enumerate(sizes) if size >= least and (most is None or size <= most)]
    assert list(zip(*(column.to_pylist() for column in kept.columns), strict=True)) == wanted
    assert kept.schema == DOCUMENTS
    assert dropped == Counter({"filter:length": len(texts) - len(wanted)} if len(wanted) < len(texts) else {})


@pytest.mark.parametrize(
    ("text", "is_kept"), [("ab", False), ("abc", True), ("aé", True), ("abcde", True), ("abcdé", False)]
)
def test_limits_are_bytes_and_belong_to_the_range(text: str, is_kept: bool) -> None:
    kept = keep_documents(documents([text]), [FilterSpec(name="length", min_bytes=3, max_bytes=5)], Counter())
    assert kept.num_rows == is_kept


def test_filters_apply_one_after_the_other_and_counts_add_up() -> None:
    rules = [FilterSpec(name="length", min_bytes=2), FilterSpec(name="length", max_bytes=3)]
    dropped = Counter({"empty": 5})
    kept = keep_documents(documents(["a", "bb", "ccc", "dddd"]), rules, dropped)
    assert kept.column("text").to_pylist() == ["bb", "ccc"]
    assert dropped == {"empty": 5, "filter:length": 2}


def test_no_filter_keeps_everything() -> None:
    batch = documents(["", "a"])
    assert keep_documents(batch, [], Counter()).equals(batch)
