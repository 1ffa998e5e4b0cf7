"""Counting words: the same as a dict, whatever the batches, and wherever the words lie until they are asked for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrow import rows_of
from pipeline.errors import StorageError
from pipeline.pretokenizer import Pretokenizer
from pipeline.schema import WORD_COUNTS
from pipeline.stages import count as count_module
from pipeline.stages.count import MAX_TABLE_BYTES, WordCounter, WordSums
from tests import reference, strategies

SPLIT = Pretokenizer.named("gpt4o")

Partitions = list[dict[bytes, int]]


def partitions_of(counter: WordCounter, num_partitions: int) -> Partitions:
    """The words and counts of each partition."""
    batches = list(counter.partitions())
    assert len(batches) == num_partitions
    assert all(batch.schema == WORD_COUNTS for batch in batches)
    counts = [dict(zip(*map(pa.Array.to_pylist, batch.columns), strict=True)) for batch in batches]
    assert sum(map(len, counts)) == sum(batch.num_rows for batch in batches) == counter.num_distinct
    return counts


def count(
    batches: list[list[str]],
    num_partitions: int = 1,
    pretokenizer: Pretokenizer = SPLIT,
    max_table_bytes: int = MAX_TABLE_BYTES,
) -> tuple[Partitions, int]:
    """What is counted, and how many words there were."""
    counter = WordCounter(pretokenizer, num_partitions, max_table_bytes)
    num_words = sum(counter.add(rows_of(pa.array(batch, type=pa.large_string()))) for batch in batches)
    return partitions_of(counter, num_partitions), num_words


def expected(texts: list[str]) -> dict[bytes, int]:
    return reference.count_words(word.encode() for text in texts for word in reference.split(text, SPLIT.patterns))


@given(st.lists(strategies.texts, max_size=4))
def test_counts_are_those_of_the_reference(batches: list[list[str]]) -> None:
    (counted,), num_words = count(batches)
    assert counted == expected([text for batch in batches for text in batch])
    assert num_words == sum(counted.values())


@given(strategies.texts, st.integers(0, 8))
def test_counts_of_parts_add_up(texts: list[str], cut: int) -> None:
    parts = [count([part])[0][0] for part in (texts[:cut], texts[cut:])]
    assert reference.merge_counts(parts, [1, 1]) == count([texts])[0][0]


@given(strategies.texts, st.integers(1, 9))
def test_partitions_depend_on_the_word_alone(texts: list[str], num_partitions: int) -> None:
    counted, _ = count([texts], num_partitions)
    assert counted == count([[text] for text in reversed(texts)], num_partitions)[0]
    assert sum(map(len, counted)) == len(expected(texts))


@given(st.lists(st.text("ab", max_size=300), min_size=1, max_size=20))
def test_a_table_that_starts_tiny_grows(texts: list[str]) -> None:
    counter = tiny_counter(1, MAX_TABLE_BYTES)
    counter.add(rows_of(pa.array(texts, type=pa.large_string())))
    assert partitions_of(counter, 1) == [reference.count_words(text.encode() for text in texts if text)]


def tiny_counter(num_partitions: int, max_table_bytes: int) -> WordCounter:
    """One that has room for one word; documents are its words."""
    small = count_module._empty_table(2, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count_module, "_empty_table", lambda *_: small)
        return WordCounter(Pretokenizer.named("none"), num_partitions, max_table_bytes)


@given(st.lists(st.text("ab", max_size=60), max_size=60), st.integers(1, 5), st.sampled_from([0, 200, 1_000]))
def test_words_that_do_not_fit_are_spilled_and_added_up(texts: list[str], num_partitions: int, table_bytes: int) -> None:
    counter = tiny_counter(num_partitions, table_bytes)
    for at in range(0, len(texts), 9):
        counter.add(rows_of(pa.array(texts[at : at + 9], type=pa.large_string())))
    assert partitions_of(counter, num_partitions) == count([texts], num_partitions, Pretokenizer.named("none"))[0]


def test_a_scratch_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    counter = tiny_counter(1, 0)
    with pytest.raises(StorageError, match=r"gone: cannot keep 1 counted words there: No such file.*TMPDIR"):
        counter.add(rows_of(pa.array(["one", "two"])))


def test_a_word_larger_than_a_table_may_be() -> None:
    word = "x" * 5_000
    (counted,), _ = count([["a", word, word + "y", "a", word]], 1, Pretokenizer.named("none"), max_table_bytes=0)
    assert counted == {b"a": 2, word.encode(): 2, word.encode() + b"y": 1}


def test_more_distinct_words_than_the_first_table_holds() -> None:
    texts = [" ".join(f"w{n}" for n in range(start, start + 5_000)) for start in range(0, 140_000, 5_000)]
    (counted,), num_words = count([texts, texts], pretokenizer=Pretokenizer.named("whitespace"))
    assert num_words == 280_000
    assert len(counted) == 140_000
    assert set(counted.values()) == {2}


def test_a_word_longer_than_the_whole_arena() -> None:
    word = "x" * (3 << 20)
    (counted,), _ = count([["a", word, word + "y", word]], pretokenizer=Pretokenizer.named("none"))
    assert counted == {b"a": 1, word.encode(): 2, word.encode() + b"y": 1}


@pytest.mark.parametrize("num_partitions", [1, 3])
def test_nothing_to_count(num_partitions: int) -> None:
    assert count([[], [""]], num_partitions) == ([{}] * num_partitions, 0)


# --- sums -------------------------------------------------------------------------------------------------------------


def counts_batch(counts: dict[bytes, int]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array(counts.keys(), pa.large_binary()), pa.array(counts.values(), pa.int64())], schema=WORD_COUNTS
    )


def summed(parts: list[tuple[int, dict[bytes, int]]], num_columns: int, chunk_bytes: int) -> dict[bytes, tuple[int, ...]]:
    """The words and their sums by column, as the table has them."""
    sums = WordSums(num_columns, chunk_bytes)
    for column, counts in parts:
        sums.add(counts_batch(counts), column)
    table = sums.table()
    assert table.column_names == ["word", *map(str, range(num_columns))]
    words, *columns = [column.to_pylist() for column in table.columns]
    assert words == sorted(set(words))  # ascending by bytes, and each once
    return dict(zip(words, zip(*columns, strict=True), strict=True))


def naive(parts: list[tuple[int, dict[bytes, int]]], num_columns: int) -> dict[bytes, tuple[int, ...]]:
    sums: dict[bytes, list[int]] = {}
    for column, counts in parts:
        for word, count in counts.items():
            sums.setdefault(word, [0] * num_columns)[column] += count
    return {word: tuple(row) for word, row in sums.items()}


WORDS = st.one_of(st.binary(max_size=3), st.sampled_from([b"", b"\x00", b"\xff" * 20, "日本語".encode(), b"the", b"the "]))
COUNTS = st.one_of(st.integers(1, 3), st.integers(2**31 - 2, 2**31 + 2), st.integers(1, 2**55))


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(st.tuples(st.integers(0, n - 1), st.dictionaries(WORDS, COUNTS, max_size=12)), max_size=20),
        )
    ),
    st.sampled_from([0, 1, 50, 300, 5_000, 1 << 28]),
)
def test_sums_are_those_of_the_naive_twin(case: tuple[int, list[tuple[int, dict[bytes, int]]]], chunk_bytes: int) -> None:
    num_columns, parts = case
    assert summed(parts, num_columns, chunk_bytes) == naive(parts, num_columns)


@pytest.mark.parametrize("chunk_bytes", [0, 10_000, 1 << 28])
def test_sums_of_many_parts_with_many_words(chunk_bytes: int) -> None:
    """Some are in every part, some in one; counts far above what 32 bits hold."""
    parts = [
        (part % 3, {b"w%d" % (n * (part + 1) % 4_000): 2**32 + n for n in range(0, 3_000, 1 + part % 4)})
        for part in range(40)
    ]
    assert summed(parts, 3, chunk_bytes) == naive(parts, 3)
    assert max(max(row) for row in naive(parts, 3).values()) > 2**35


@pytest.mark.parametrize("num_columns", [1, 4])
@pytest.mark.parametrize("parts", [[], [(0, {})], [(0, {}), (0, {})]])
def test_sums_of_nothing(parts: list[tuple[int, dict[bytes, int]]], num_columns: int) -> None:
    sums = WordSums(num_columns)
    for column, counts in parts:
        sums.add(counts_batch(counts), column)
    table = sums.table()
    assert table.num_rows == 0
    assert table.column_names == ["word", *map(str, range(num_columns))]
    assert table.schema.types == [pa.large_binary(), *[pa.int64()] * num_columns]


def test_a_column_without_words_is_zero() -> None:
    assert summed([(1, {b"a": 5}), (1, {b"b": 1})], 3, 0) == {b"a": (0, 5, 0), b"b": (0, 1, 0)}
