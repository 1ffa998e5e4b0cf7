"""The words a tokenizer is trained on, and who trains: one process, or several workers that each own a part of the words.

Words lie in files by their hash, so a worker reads its own and nobody holds them all. What several workers have merged is
saved every now and then, as a merge log: whoever tries the task again goes on from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import storage
from pipeline.arrow import Rows, binary_array, rows_of
from pipeline.errors import ArtifactError, SpecError
from pipeline.jobs.tasks import Job, read_output
from pipeline.kernels.cells import seen_bytes
from pipeline.pretokenizer import Pretokenizer
from pipeline.schema import MERGE_LOG, WORD_COUNTS
from pipeline.stages.count import WordSums
from pipeline.trainers.bpe import NO_VETOES, BpeOptions, TrainedBpe, train_bpe
from pipeline.trainers.partitioned import (
    LocalPartitions,
    MergeLog,
    Partitions,
    Statistics,
    Words,
    concat_words,
    train_partitioned,
    words_of,
)
from pipeline.trainers.superbpe import UnitEncoder, inherited, train_superbpe

logger = logging.getLogger(__name__)

BYTES_PER_SYMBOL = 20
"""What a trainer takes, about."""

SYMBOLS_PER_WORKER = 1 << 30
"""The most, if no ``task_memory_bytes`` says less: 20 GB."""

CHECKPOINT_SECONDS = 60.0

_MOST_BYTES = float(np.iinfo(np.int64).max // 64)
"""Weighted bytes of a share: 64 bits hold the counts of 64 of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WordParts:
    """What a training reads: for each file its task and its entry in the receipt; and how many workers share the words."""

    parts: list[tuple[str, dict[str, Any]]]
    num_workers: int

    @property
    def hashes(self) -> list[str]:
        """Of each file."""
        return [entry["sha256"] for _, entry in self.parts]


class WordFigures(NamedTuple):
    """What there is to train on: distinct words, weighted occurrences and their bytes; and what was left out as too rare."""

    distinct_words: int
    words: int
    text_bytes: int
    pruned_words: int
    pruned_occurrences: int


@dataclass(frozen=True, slots=True)
class FirstStage:
    """What a second stage goes on from: merges, special tokens, and what they were trained on, if we know.

    ``is_reference``: merges are left out as the original does. ``new_ids``: by old id, the ids of what is left then, or -1.
    """

    trained: TrainedBpe
    special_tokens: tuple[str, ...]
    figures: WordFigures | None
    is_reference: bool = False
    new_ids: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WordFiles:
    """Files of merged words (task and entry in its receipt), each source's weight in counts (0: its words are not there),
    and the rarest word to take.

    With ``first``, the words are units of a second stage; with ``runs_of``, the words that this pretokenizer makes of them
    are, in runs.
    """

    job: Job
    parts: list[tuple[str, dict[str, Any]]]
    weights: tuple[int, ...]
    min_word_count: int
    first: FirstStage | None = None
    runs_of: Pretokenizer | None = None


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
    chosen = np.flatnonzero(files.weights) + 1
    for name, entry in files.parts:
        table = pa.ipc.open_stream(read_output(files.job, "merge", name, entry)).read_all()
        if files.min_word_count > 1 or len(chosen) < len(files.weights):
            occurrences = np.sum([table.column(int(number)).to_numpy() for number in chosen], axis=0)
            keep = occurrences >= files.min_word_count
            pruned_words += int((occurrences > 0).sum() - keep.sum())
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
    lengths = pc.binary_length(table.column("word")).to_numpy().astype(np.float64)
    bytes_in_all = 0.0  # no pair occurs more often
    for column, weight in zip(table.columns[1:], weights, strict=True):
        counts = column.to_numpy()
        bytes_in_all += float(counts @ lengths) * weight
        if bytes_in_all > _MOST_BYTES:
            raise SpecError(
                "the weighted counts exceed 64 bits; use smaller weights, or fewer decimals, in sources[].weight and "
                "tokenizers[].weights"
            )
        total += counts * weight
    return total


def read_share(files: WordFiles) -> tuple[Words, WordFigures]:
    """The words one worker trains on: bytes, or ids as the first stage encodes units. Raises as ``read_words``."""
    if files.first is None:
        rows, counts, figures = read_words(files)
        return words_of(rows, counts), figures
    encoder = UnitEncoder(files.first.trained, files.first.special_tokens)
    some: list[Words] = []
    all_figures = []
    for part in files.parts:  # one at a time: bytes take more room than ids
        units, counts, figures = read_words(dataclasses.replace(files, parts=[part]))
        if files.runs_of is None:
            some.append(encoder.encode(units, counts))
        else:
            some.append(encoder.encode_runs(units, counts, files.runs_of))
        all_figures.append(figures)
    words = _sum_up(some) if files.runs_of else concat_words(some)
    if files.first.new_ids is not None:
        words = words._replace(symbols=files.first.new_ids[words.symbols])
    return words, _sum(all_figures)


def _sum_up(parts: Sequence[Words]) -> Words:
    """Words of ids, each once."""
    sums = WordSums(1)
    for symbols, offsets, counts in parts:
        rows = binary_array(symbols.view(np.uint8), offsets * symbols.itemsize)
        sums.add(pa.record_batch([rows, pa.array(counts)], schema=WORD_COUNTS), 0)
    table = sums.table()
    words = rows_of(table.column("word").cast(pa.large_binary()).combine_chunks())
    ids = words.values[: words.num_bytes].view(np.int32)
    return Words(ids, words.offsets // ids.itemsize, table.column("0").to_numpy())


def train(
    files: WordFiles, num_workers: int, options: BpeOptions, checkpoint: Checkpoint, open_partitions: OpenPartitions
) -> tuple[TrainedBpe, WordFigures, dict[str, int]]:
    """Train on all words of some files; returns also how the workers went, if there were several."""
    if num_workers == 1 and options.vetoes == NO_VETOES:
        words, counts, figures = read_words(files)
        pa.default_memory_pool().release_unused()  # what reading and earlier tasks left: training needs the room
        return train_bpe(words, counts, options), figures, {}
    shares = _shares(files, num_workers)
    log = checkpoint.read()
    with (open_partitions if len(shares) > 1 else open_local_partitions)(shares) as (partitions, figures_of_shares):
        trained, statistics = train_partitioned(partitions, options, log=log, on_round=checkpoint.write_now_and_then)
    _check_sums(figures_of_shares)
    return trained, _sum(figures_of_shares), _describe(statistics, len(shares), 0 if log is None else len(log.results))


def train_second(
    files: WordFiles, num_workers: int, options: BpeOptions, checkpoint: Checkpoint, open_partitions: OpenPartitions
) -> tuple[TrainedBpe, WordFigures, dict[str, int]]:
    """Train a second stage on units; as ``train``."""
    first = files.first
    assert first is not None
    if len(first.trained.vocab) >= options.vocab_size and first.figures is not None and not first.is_reference:
        return first.trained, first.figures, {}  # nothing is left to do
    base = first.trained
    if first.is_reference:
        base = _inherited(files, first)
        new_ids = np.array([base.vocab.get(chars, -1) for chars in first.trained.vocab], dtype=np.int32)
        files = dataclasses.replace(files, first=dataclasses.replace(first, new_ids=new_ids))
    log = checkpoint.read()
    shares = _shares(files, num_workers)
    with (open_partitions if len(shares) > 1 else open_local_partitions)(shares) as (partitions, figures):
        pa.default_memory_pool().release_unused()  # what reading left
        on_round = checkpoint.write_now_and_then
        trained, statistics = train_superbpe(partitions, base, options, log=log, on_round=on_round)
    _check_sums(figures)
    return trained, _sum(figures), _describe(statistics, len(shares), 0 if log is None else len(log.results))


def _inherited(files: WordFiles, first: FirstStage) -> TrainedBpe:
    """What the original keeps of the first stage."""
    encoder = UnitEncoder(first.trained, first.special_tokens)
    met = np.zeros(len(first.trained.merges), dtype=np.bool_)
    seen = np.zeros(256, dtype=np.bool_)
    for part in files.parts:
        units, _, _ = read_words(dataclasses.replace(files, parts=[part]))
        met |= encoder.met(units)
        seen |= seen_bytes(units.values[: units.num_bytes])
    return inherited(first.trained, met, seen, len(first.special_tokens))


def _shares(files: WordFiles, num_workers: int) -> list[WordFiles]:
    """The files, divided among workers."""
    num_workers = min(num_workers, len(files.parts))
    return [dataclasses.replace(files, parts=files.parts[index::num_workers]) for index in range(num_workers)]


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
    found = [read_share(share) for share in shares]
    yield LocalPartitions([words for words, _ in found]), [figures for _, figures in found]


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
