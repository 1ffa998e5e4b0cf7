"""Count words: batches of documents in, distinct words with their counts out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.arrow import Rows, binary_array
from pipeline.kernels.count import WordTable, count_words, export_words, rehash_into
from pipeline.pretokenizer import Pretokenizer


class Counted(NamedTuple):
    """Distinct words, their counts ``[dtype=int64]`` and the partition each belongs to ``[dtype=int64]``."""

    words: pa.LargeBinaryArray
    counts: NDArray[np.int64]
    partitions: NDArray[np.int64]


def _empty_table(capacity: int, arena_bytes: int) -> WordTable:
    return WordTable(
        np.zeros((capacity, 4), dtype=np.uint64), np.empty(arena_bytes, dtype=np.uint8), np.zeros(2, dtype=np.int64)
    )


class WordCounter:
    """Adds up the words of batch after batch. Memory: 64 bytes a distinct word, and the bytes of those over 15."""

    def __init__(self, pretokenizer: Pretokenizer) -> None:
        self._pretokenizer = pretokenizer
        self._table = _empty_table(1 << 18, 1 << 20)

    @property
    def num_distinct(self) -> int:
        """How many different words there are so far."""
        return int(self._table.used[0])

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
                self._grow(int(stops[0]) - start)
        return num_words

    def _grow(self, next_bytes: int) -> None:
        """Twice the room in whatever is full, and enough for the next word."""
        entries, arena, used = self._table
        if used[1] + next_bytes > len(arena):
            larger = np.empty(max(2 * len(arena), int(used[1]) + next_bytes), dtype=np.uint8)
            larger[: used[1]] = arena[: used[1]]
            self._table = WordTable(entries, larger, used)
        if used[0] >= len(entries) // 2:
            self._table = WordTable(np.zeros((2 * len(entries), 4), dtype=np.uint64), self._table.arena, used)
            rehash_into(entries, self._table.entries)

    def result(self, num_partitions: int) -> Counted:
        """All distinct words so far; a word's partition depends on its bytes alone."""
        values, offsets, counts, partitions = export_words(self._table, num_partitions)
        return Counted(binary_array(values, offsets), counts, partitions)
