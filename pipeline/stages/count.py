"""Count words: batches of documents in, distinct words with their counts out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa

from pipeline.arrow import Rows, batches_by_group, binary_array
from pipeline.kernels.count import WordTable, count_words, export_words, rehash_into
from pipeline.pretokenizer import Pretokenizer
from pipeline.schema import WORD_COUNTS
from pipeline.stages.scratch import Runs

MAX_TABLE_BYTES = 512 << 20
"""A table whose entries or long words would need more is spilled; room for eight million distinct words."""

CHUNK_BYTES = 256 << 20
"""Word counts that are kept side by side before they are summed up."""


def _empty_table(capacity: int, arena_bytes: int) -> WordTable:
    return WordTable(
        np.zeros((capacity, 4), dtype=np.uint64), np.empty(arena_bytes, dtype=np.uint8), np.zeros(3, dtype=np.int64)
    )


class WordCounter:
    """Adds up the words of batch after batch.

    Memory: 64 to 128 bytes a distinct word, half as much again while the table grows, and the bytes of words over 15; up to
    ``max_table_bytes`` for entries and as much for bytes. Then all words so far go to
    a file in the scratch space (``TMPDIR``), a run, and counting starts again, empty; ``partitions`` adds the runs up, one
    partition at a time. A word's partition depends on its bytes alone, so the counts are the same with any limit.
    """

    def __init__(self, pretokenizer: Pretokenizer, num_partitions: int = 1, max_table_bytes: int = MAX_TABLE_BYTES) -> None:
        self.num_distinct = 0
        self._pretokenizer = pretokenizer
        self._num_partitions = num_partitions
        self._max_table_bytes = max_table_bytes
        self._table = _empty_table(1 << 18, 1 << 20)
        self._runs = Runs(WORD_COUNTS)

    def add(self, texts: Rows) -> int:
        """Count the words of some documents; returns how many there are."""
        num_words = 0
        for start, stops in self._pretokenizer.iter_words(texts):
            num_words += len(stops)
            while True:
                done = count_words(texts.values, start, stops, self._table)
                if done == len(stops):
                    break
                start, stops = (int(stops[done - 1]) if done else start), stops[done:]
                self._make_room(int(stops[0]) - start)
        return num_words

    def _make_room(self, next_bytes: int) -> None:
        """Twice the room in whatever is full, and enough for the next word; or a new run."""
        entries, arena, used = self._table
        capacity = len(entries) * (2 if used[0] >= len(entries) // 2 else 1)
        arena_bytes = max(2 * len(arena), int(used[1]) + next_bytes) if used[1] + next_bytes > len(arena) else len(arena)
        if used[0] and max(capacity * entries[0].nbytes, arena_bytes) > self._max_table_bytes:
            self._spill()
            return
        if arena_bytes > len(arena):
            larger = np.empty(arena_bytes, dtype=np.uint8)
            larger[: used[1]] = arena[: used[1]]
            self._table = WordTable(entries, larger, used)
        if capacity > len(entries):
            self._table = WordTable(np.zeros((capacity, 4), dtype=np.uint64), self._table.arena, used)
            rehash_into(entries, self._table.entries)

    def _spill(self) -> None:
        self._runs.add(self._table_partitions(), f"{self._table.used[0]:,} counted words")
        arena = self._table.arena
        if arena.nbytes > self._max_table_bytes:  # it grew for one word
            arena = np.empty(1 << 20, dtype=np.uint8)
        self._table.entries[:] = 0
        self._table = WordTable(self._table.entries, arena, np.zeros(3, dtype=np.int64))

    def _table_partitions(self) -> Iterator[pa.RecordBatch]:
        values, offsets, counts, partitions = export_words(self._table, self._num_partitions)
        table = pa.table([binary_array(values, offsets), pa.array(counts)], schema=WORD_COUNTS)
        return batches_by_group(table, partitions, self._num_partitions)

    def partitions(self) -> Iterator[pa.RecordBatch]:
        """All words so far: a ``WORD_COUNTS`` batch for each partition, in order; sets ``num_distinct``."""
        if not self._runs:
            self.num_distinct = int(self._table.used[0])
            yield from self._table_partitions()
            return
        self._spill()
        self.num_distinct = 0
        for batches in self._runs.groups(self._num_partitions):
            sums = WordSums(1)
            for batch in batches:
                sums.add(batch, 0)
            table = sums.table().rename_columns(WORD_COUNTS.names)
            self.num_distinct += len(table)
            yield from table.cast(WORD_COUNTS).combine_chunks().to_batches() or [
                pa.RecordBatch.from_pylist([], schema=WORD_COUNTS)
            ]


class WordSums:
    """Adds up word counts, those of each source in a column of its own.

    What was added is kept as it came until there is more of it than ``chunk_bytes``, and than of the sums so far; then it is
    summed up. So memory is that of the distinct words and a chunk, however many parts there are.
    """

    def __init__(self, num_columns: int, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._num_columns = num_columns
        self._chunk_bytes = chunk_bytes
        self._frames: list[pl.DataFrame] = []
        self._summed_bytes = 0
        self._new_bytes = 0

    def add(self, counts: pa.RecordBatch, column: int) -> None:
        """Add ``WORD_COUNTS`` to a column."""
        self._frames.append(pl.DataFrame(counts).with_columns(pl.lit(column, dtype=pl.Int32).alias("column")))
        self._new_bytes += counts.nbytes
        if self._new_bytes > max(self._chunk_bytes, self._summed_bytes):
            summed = pl.concat(self._frames).group_by("word", "column").agg(pl.col("count").sum())
            self._frames = [summed.select("word", "count", "column")]
            self._summed_bytes = int(summed.estimated_size())
            self._new_bytes = 0

    def table(self) -> pa.Table:
        """``word``, ascending, and the columns ``0``, ``1``, …, int64."""
        if not self._frames:
            columns = [pa.array([], pa.large_binary()), *(pa.array([], pa.int64()) for _ in range(self._num_columns))]
            return pa.table(columns, names=["word", *map(str, range(self._num_columns))])
        column = pl.col("column")
        sums = [pl.col("count").filter(column == index).sum().alias(str(index)) for index in range(self._num_columns)]
        return pl.concat(self._frames).group_by("word").agg(sums).sort("word").to_arrow()
