"""The words a tokenizer is trained on, and who trains: one process, or several workers that each own a part of the words.

Words lie in files by their hash, so a worker reads its own and nobody holds them all. What several workers have merged is
saved every now and then, as a merge log: whoever tries the task again goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import storage
from pipeline.arrow import Rows, rows_of
from pipeline.errors import ArtifactError, SpecError
from pipeline.jobs.tasks import Job, read_output
from pipeline.schema import MERGE_LOG
from pipeline.trainers.bpe import BpeOptions, TrainedBpe, train_bpe
from pipeline.trainers.partitioned import LocalPartitions, MergeLog, Partitions, Statistics, train_partitioned, words_of

logger = logging.getLogger(__name__)

BYTES_PER_SYMBOL = 20
"""What a trainer takes, about."""

SYMBOLS_PER_WORKER = 1 << 30
"""The most, if no ``task_memory_bytes`` says less: 20 GB."""

CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WordFiles:
    """Files of merged words (task and entry in its receipt), each source's weight in counts, and the rarest word to take."""

    job: Job
    parts: list[tuple[str, dict[str, Any]]]
    weights: tuple[int, ...]
    min_word_count: int


class WordFigures(NamedTuple):
    """What there is to train on: distinct words, weighted occurrences and their bytes; and what was left out as too rare."""

    distinct_words: int
    words: int
    text_bytes: int
    pruned_words: int
    pruned_occurrences: int


OpenPartitions = Callable[[Sequence[WordFiles]], AbstractContextManager[tuple[Partitions, list[WordFigures]]]]
"""Starts a worker for each part of the words."""


def read_words(files: WordFiles) -> tuple[Rows, NDArray[np.int64], WordFigures]:
    """The words to train on and their weighted counts.

    Raises
    ------
    ArtifactError
        A file is gone or damaged.
    SpecError
        The weighted counts exceed 64 bits.
    """
    tables = []
    pruned_words = pruned_occurrences = 0
    for name, entry in files.parts:
        table = pa.ipc.open_stream(read_output(files.job, "merge", name, entry)).read_all()
        if files.min_word_count > 1:
            occurrences = np.sum([column.to_numpy() for column in table.columns[1:]], axis=0)
            keep = occurrences >= files.min_word_count
            pruned_words += int(len(keep) - keep.sum())
            pruned_occurrences += int(occurrences[~keep].sum())
            table = table.filter(pa.array(keep))
        tables.append(table)
    table = pa.concat_tables(tables).combine_chunks()
    del tables
    counts = _weighted_counts(table, files.weights)
    words = rows_of(table.column("word").combine_chunks())
    text_bytes = int((counts * np.diff(words.offsets)).sum())
    return words, counts, WordFigures(len(counts), int(counts.sum()), text_bytes, pruned_words, pruned_occurrences)


def _weighted_counts(table: pa.Table, weights: Sequence[int]) -> NDArray[np.int64]:
    """The words' counts over all sources, each times its weight. SpecError if int64 cannot hold them."""
    total = np.zeros(len(table), dtype=np.int64)
    exact = 0
    for column, weight in zip(table.columns[1:], weights, strict=True):
        counts = column.to_numpy()
        exact += int(counts.sum()) * weight
        if exact > np.iinfo(np.int64).max // 256:
            raise SpecError("sources[].weight: the weighted counts exceed 64 bits; use smaller weights or fewer decimals")
        total += counts * weight
    return total


def train(
    files: WordFiles, num_workers: int, options: BpeOptions, checkpoint: Checkpoint, open_partitions: OpenPartitions
) -> tuple[TrainedBpe, WordFigures, dict[str, int]]:
    """Train on all words of some files; returns also how the workers went, if there were several."""
    if num_workers == 1:
        words, counts, figures = read_words(files)
        pa.default_memory_pool().release_unused()  # what reading and earlier tasks left: training needs the room
        return train_bpe(words, counts, options), figures, {}
    shares = [
        WordFiles(
            job=files.job, parts=files.parts[i::num_workers], weights=files.weights, min_word_count=files.min_word_count
        )
        for i in range(min(num_workers, len(files.parts)))
    ]
    log = checkpoint.read()
    with open_partitions(shares) as (partitions, figures_of_shares):
        trained, statistics = train_partitioned(partitions, options, log=log, on_round=checkpoint.write_now_and_then)
    _check_sums(figures_of_shares)
    return trained, _sum(figures_of_shares), _describe(statistics, len(shares), 0 if log is None else len(log.results))


def _sum(figures: Sequence[WordFigures]) -> WordFigures:
    return WordFigures(*(sum(values) for values in zip(*figures, strict=True)))


def _check_sums(figures: Sequence[WordFigures]) -> None:
    if _sum(figures).words > np.iinfo(np.int64).max // 256:
        raise SpecError("sources[].weight: the weighted counts exceed 64 bits; use smaller weights or fewer decimals")


def _describe(statistics: Statistics, num_workers: int, resumed_at: int) -> dict[str, int]:
    return {"workers": num_workers, "resumed_at_merge": resumed_at, **statistics._asdict()}


@contextlib.contextmanager
def open_local_partitions(shares: Sequence[WordFiles]) -> Iterator[tuple[Partitions, list[WordFigures]]]:
    """Workers that are threads of this process."""
    found = [read_words(share) for share in shares]
    yield LocalPartitions([words_of(words, counts) for words, counts, _ in found]), [figures for _, _, figures in found]


class Checkpoint:
    """The merge log of a training, saved at most once a minute. ``identity``: of what determines the merges."""

    def __init__(self, job: Job, name: str, identity: str) -> None:
        self._uri = job.path(f"_work/train/{name}.arrow")
        self._identity = identity
        self._written = time.monotonic()

    def write_now_and_then(self, log: MergeLog) -> None:
        """Save the log, unless that was done a short time ago."""
        if time.monotonic() - self._written < CHECKPOINT_SECONDS:
            return
        columns = [*np.ascontiguousarray(log.pairs.T), log.results, log.counts]
        digest = hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()
        schema = MERGE_LOG.with_metadata({"identity": self._identity, "sha256": digest})
        with storage.publish(self._uri) as sink, pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=schema))
        self._written = time.monotonic()

    def read(self) -> MergeLog | None:
        """The saved log; None if there is none, or it is damaged or of another training: then training starts anew."""
        if not storage.exists(self._uri):
            return None
        try:
            table = pa.ipc.open_stream(storage.read_bytes(self._uri)).read_all()
            left, right, results, counts = (column.to_numpy() for column in table.columns)
            digest = hashlib.sha256(b"".join(column.tobytes() for column in (left, right, results, counts))).hexdigest()
            metadata = table.schema.metadata or {}
            is_ours = metadata.get(b"identity") == self._identity.encode() and metadata.get(b"sha256") == digest.encode()
            is_ours &= table.schema.remove_metadata().equals(MERGE_LOG)
        except (pa.ArrowException, ArtifactError, OSError, ValueError) as error:
            logger.warning("%s: damaged: %s; training starts anew", self._uri, error)
            return None
        if not is_ours:
            logger.warning("%s: damaged, or of another training; training starts anew", self._uri)
            return None
        logger.warning("%s: training goes on after %d merges", self._uri, len(results))
        return MergeLog(np.stack([left, right], axis=1), results, counts)
