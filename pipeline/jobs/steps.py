"""The steps: what each kind of task does, from storage to storage.

``run_task`` is what a runner runs, wherever: it looks for a receipt, does the work, publishes the outputs, and then the
receipt, created only if absent. Whoever comes second finds the receipt and discards its work.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import storage
from pipeline.added import AddedCutter
from pipeline.arrow import iter_slices, list_array, list_rows, rows_of
from pipeline.errors import ArtifactError, DataError
from pipeline.jobs.parts import read_parts, write_parts
from pipeline.jobs.passes import CountingPass
from pipeline.jobs.tasks import (
    FORMAT_VERSION,
    SPLITS,
    Job,
    Outputs,
    Receipt,
    Report,
    Task,
    disown,
    parse_receipt,
    part_name,
    read_output,
    receipt_path,
    shard_name,
)
from pipeline.jobs.train import train_subwords, train_tokenizer
from pipeline.jobs.train_pool import publish_pool
from pipeline.jobs.training import OpenPartitions, WordParts, open_local_partitions
from pipeline.normalizer import normalize
from pipeline.schema import HELD_OUT, TOKEN_COUNTS, WORD_COUNTS, merged_counts, token_rows
from pipeline.stages.count import MAX_TABLE_BYTES, WordCounter, WordSums
from pipeline.stages.evaluate import Measure, measure
from pipeline.stages.filter import keep_documents
from pipeline.stages.holdout import document_keys, is_held_out
from pipeline.stages.noise import NOISE_BYTES, Agreement, measure_agreement
from pipeline.stages.pack import pack, to_batches
from pipeline.stages.shard import FileRange, ReadOptions, Shard
from pipeline.stages.shuffle import BucketRows, buckets_of_bytes, buckets_of_keys, shuffle_keys, sort_rows
from pipeline.stages.source import coalesce, read_documents
from pipeline.stages.units import cut_at_random, is_in_sample
from pipeline.tokenizer import EncoderName, ForeignTokenizer, OwnTokenizer, Tokenizer, load_tokenizer, parse_tokenizer
from pipeline.tokenizer_spec import PoolSpec, encoder_of

pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps what a task has freed from the kernels of the next


_USUAL_TASK_MEMORY = 2 << 30
PROGRAM_BYTES = 256 << 20
"""What a task takes before it has done anything."""


@dataclass(frozen=True, slots=True)
class ShardInput:
    """A shard of ``count``, and how its files are read."""

    shard: Shard
    count: int
    options: ReadOptions

    @property
    def part_name(self) -> str:
        """The name of what is made of this shard."""
        return part_name(self.shard.index, self.count)


@dataclass(frozen=True, slots=True)
class TokenizerRef:
    """A tokenizer: one of ours by name, published by ``step``, or, with ``uri``, one to compare with."""

    name: str
    sha256: str
    uri: str | None = None
    step: str = "train"


@dataclass(frozen=True, slots=True)
class Buckets:
    """Of a split: how many buckets it has, its bytes of text, and those before the shard at hand."""

    count: int
    total_bytes: int
    first_byte: int


def run_task(job: Job, task: Task, open_partitions: OpenPartitions = open_local_partitions) -> Receipt:
    """Do a task, unless its receipt is there. ``open_partitions``: starts workers, if a training wants several.

    Raises
    ------
    ArtifactError
        Another attempt published other bytes: the same work must give the same bytes.
    """
    uri = job.path(receipt_path(task.step, task.name))
    if storage.exists(uri):
        receipt = parse_receipt(storage.read_bytes(uri), uri)
        if (receipt.step, receipt.name) == (task.step, task.name):
            return receipt
        storage.remove(uri)  # of another task: somebody has moved files about
    started = time.monotonic()
    outputs = Outputs(job)
    means = {"open_partitions": open_partitions} if task.step in ("subwords", "train") else {}
    report = _STEPS[task.step](job, outputs, **task.params, **means)
    receipt = Receipt(task.step, task.name, tuple(outputs.entries), report, round(time.monotonic() - started, 3))
    for content in storage.create_first(uri, receipt.to_json(), conditional=job.conditional):
        first = parse_receipt(content, uri)
        if first.outputs != receipt.outputs:
            raise ArtifactError(f"{task.label}: two attempts gave different bytes; {uri} is the first's receipt")
        receipt = first
    return receipt


# --- documents of a shard ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Batch:
    """Kept documents of one split, with the hash of each id."""

    split: str
    texts: pa.LargeStringArray
    keys: NDArray[np.uint64]


def _iter_raw(source: ShardInput, dropped: Counter[str]) -> Iterator[pa.RecordBatch]:
    for part in source.shard.parts:
        _check_unchanged(part)
        with storage.open_input(part.uri) as file:
            yield from read_documents(file, part, source.options, dropped)
        _check_unchanged(part)


def _check_unchanged(part: FileRange) -> None:
    """DataError if the file is not the one the plan was made of: what is counted and what is packed must be the same."""
    found = storage.stat(part.uri)
    if (found.num_bytes, found.version) != (part.num_bytes, part.version):
        raise DataError(f"{part.uri}: has changed since the plan was made; put the old file back, or name another output")


def _iter_documents(job: Job, source: ShardInput, dropped: Counter[str]) -> Iterator[_Batch]:
    """Read, filter and split the documents of a shard; count and encode see exactly the same."""
    holdout = job.spec.holdout
    for batch in coalesce(_iter_raw(source, dropped)):
        kept = keep_documents(batch, job.spec.filters, dropped)
        keys = document_keys(kept.column("id"))
        held_out = is_held_out(keys, holdout.fraction, holdout.seed)
        for split, mask in (("train", ~held_out), ("holdout", held_out)):
            if mask.all():
                yield _Batch(split, kept.column("text"), keys)
            elif mask.any():
                yield _Batch(split, kept.column("text").filter(pa.array(mask)), keys[mask])


def _text_bytes(texts: pa.LargeStringArray) -> int:
    return pc.sum(pc.binary_length(texts)).as_py() or 0


def _free_bytes(job: Job) -> int:
    """What a task may take, without the program itself."""
    return (job.spec.execution.task_memory_bytes or _USUAL_TASK_MEMORY) - PROGRAM_BYTES


# --- count ------------------------------------------------------------------------------------------------------------


def _table_bytes(job: Job, num_tables: int) -> int:
    """How large the table of a counting pass may be: when it is exported there are three of its size."""
    return min(MAX_TABLE_BYTES, _free_bytes(job) // (3 * max(1, num_tables)))


def count_shard(
    job: Job, outputs: Outputs, *, source: ShardInput, passes: tuple[CountingPass, ...], num_partitions: int
) -> Report:
    """Count the words of a shard for every pass in one reading, and set its held-out documents aside."""
    dropped: Counter[str] = Counter()
    documents, text_bytes = Counter[str](), Counter[str]()
    table_bytes = _table_bytes(job, len(passes))
    counters = [WordCounter(counting.pretokenizer, num_partitions, table_bytes) for counting in passes]
    cutters = [AddedCutter(counting.added, counting.hiding, counting.normalizer) for counting in passes]
    num_words = [0] * len(passes)

    def held_out_batches() -> Iterator[pa.RecordBatch]:
        for batch in _iter_documents(job, source, dropped):
            documents[batch.split] += len(batch.texts)
            text_bytes[batch.split] += _text_bytes(batch.texts)
            if batch.split == "holdout":
                yield pa.RecordBatch.from_arrays([batch.texts], schema=HELD_OUT)
                continue
            for index, counter in enumerate(counters):
                num_words[index] += counter.add(cutters[index].cut(batch.texts).pieces)

    outputs.write_batches(f"_work/holdout/{source.part_name}.arrow", HELD_OUT, held_out_batches())
    for counting, counter in zip(passes, counters, strict=True):
        path = f"_work/count/{counting.name}/{source.part_name}.arrow"
        write_parts(outputs, path, WORD_COUNTS, counter.partitions())
    return {
        "source": source.shard.source,
        "documents": {split: documents[split] for split in SPLITS},
        "text_bytes": {split: text_bytes[split] for split in SPLITS},
        "dropped": dict(sorted(dropped.items())),
        "words": {counting.name: num_words[index] for index, counting in enumerate(passes)},
        "distinct_words": {counting.name: counters[index].num_distinct for index, counting in enumerate(passes)},
    }


def count_units(
    job: Job,
    outputs: Outputs,
    *,
    source: ShardInput,
    passes: tuple[CountingPass, ...],
    num_partitions: int,
    train_bytes: int,
) -> Report:
    """Count the units of second stages in a shard's documents, or in those of a sample; ``train_bytes``: of text in all."""
    dropped: Counter[str] = Counter()
    table_bytes = _table_bytes(job, len(passes))
    counters = [WordCounter(counting.pretokenizer, num_partitions, table_bytes) for counting in passes]
    documents, text_bytes, num_units = Counter[str](), Counter[str](), Counter[str]()
    for batch in _iter_documents(job, source, dropped):
        if batch.split != "train":
            continue
        for counting, counter in zip(passes, counters, strict=True):
            chosen = is_in_sample(batch.keys, counting.sample_bytes, train_bytes)
            texts = batch.texts if chosen.all() else batch.texts.filter(pa.array(chosen))
            documents[counting.name] += len(texts)
            text_bytes[counting.name] += _text_bytes(texts)
            rows = rows_of(normalize(texts, counting.normalizer))
            if counting.random_cut is not None:
                rows = cut_at_random(rows, batch.keys[chosen], counting.random_cut)
            num_units[counting.name] += counter.add(rows)
    for counting, counter in zip(passes, counters, strict=True):
        path = f"_work/units/{counting.name}/{source.part_name}.arrow"
        write_parts(outputs, path, WORD_COUNTS, counter.partitions())
    return {
        "documents": {counting.name: documents[counting.name] for counting in passes},
        "text_bytes": {counting.name: text_bytes[counting.name] for counting in passes},
        "units": {counting.name: num_units[counting.name] for counting in passes},
        "distinct_units": {counting.name: counter.num_distinct for counting, counter in zip(passes, counters, strict=True)},
    }


def _files_of_shards(folder: str, num_shards: int, task_prefix: str = "") -> list[tuple[str, str]]:
    """What the tasks of all shards published in a folder: path and task, in the order of the shards."""
    shards = range(num_shards)
    return [(f"{folder}/{part_name(i, num_shards)}.arrow", f"{task_prefix}{shard_name(i)}") for i in shards]


# --- merge ------------------------------------------------------------------------------------------------------------


def merge_partition(
    job: Job, outputs: Outputs, *, counting: str, step: str, partition: int, num_partitions: int, shards: tuple[int, ...]
) -> Report:
    """Add up a partition of the words, or units, over all shards: words ascending, a count for each source.

    ``step``: which counted them; ``shards``: how many there are of each source, numbered in the order of the sources.
    """
    sources = [source.name for source in job.spec.sources]
    schema = merged_counts(sources)
    sums = WordSums(len(sources), _free_bytes(job) // 8)
    source_of = np.repeat(np.arange(len(shards)), shards).tolist()
    files = _files_of_shards(f"_work/{step}/{counting}", len(source_of))
    for batch, source in zip(read_parts(job, step, files, partition, WORD_COUNTS), source_of, strict=True):
        sums.add(batch, source)
    table = sums.table().rename_columns(schema.names).cast(schema)
    path = f"_work/words/{counting}/{part_name(partition, num_partitions)}.arrow"
    outputs.write_batches(path, schema, table.combine_chunks().to_batches())
    return {"distinct_words": len(table), "word_bytes": pc.sum(pc.binary_length(table.column("word"))).as_py() or 0}


# --- a trained tokenizer ----------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4)
def _cached_tokenizer(uri: str, sha256: str, encoder: EncoderName) -> OwnTokenizer:
    """A trained tokenizer; kept by the worker process from task to task, for its word cache fills once."""
    content = storage.read_bytes(uri)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ArtifactError(f"{uri}: not the file that training published")
    return parse_tokenizer(content.decode(), encoder=encoder)


def _trained(job: Job, tokenizer: TokenizerRef) -> OwnTokenizer:
    spec = next(spec for spec in job.spec.tokenizers if spec.name == tokenizer.name)
    path = f"tokenizers/{tokenizer.name}/{spec.model_file}"
    try:
        return _cached_tokenizer(job.path(path), tokenizer.sha256, encoder_of(spec))
    except ArtifactError:
        raise disown(job, tokenizer.step, tokenizer.name, path, "it is gone or damaged") from None


# --- pool -------------------------------------------------------------------------------------------------------------


def pool_tokenizers(
    job: Job, outputs: Outputs, *, pool: PoolSpec, members: list[TokenizerRef], words: list[WordParts]
) -> Report:
    """Put trained tokenizers into one id space. ``words``: of each, what it was trained on."""
    loaded = {}
    for member in members:
        tokenizer = _trained(job, member)
        assert isinstance(tokenizer, Tokenizer)
        loaded[member.name] = tokenizer
    return publish_pool(job, outputs, pool, loaded, dict(zip(loaded, words, strict=True)))


# --- evaluate ---------------------------------------------------------------------------------------------------------


def evaluate_tokenizer(
    job: Job,
    outputs: Outputs,
    *,
    tokenizer: TokenizerRef,
    source: str,
    group: int,
    parts: list[tuple[str, dict[str, Any]]],
    holdout_bytes: int,
) -> Report:
    """Measure a tokenizer on the held-out documents of some shards of one source; ``holdout_bytes``: of text in all."""
    if tokenizer.uri is None:
        loaded: OwnTokenizer | ForeignTokenizer = _trained(job, tokenizer)
    else:
        content = storage.read_bytes(tokenizer.uri)
        if hashlib.sha256(content).hexdigest() != tokenizer.sha256:
            raise DataError(f"{tokenizer.uri}: has changed since the plan was made; put the old file back")
        loaded = load_tokenizer(content, tokenizer.uri)
    sums, id_counts = Measure(), np.zeros(loaded.vocab_size, dtype=np.int64)
    noise, agreement = job.spec.evaluate.noise, Agreement()
    for name, entry in parts:
        for batch in pa.ipc.open_stream(read_output(job, "count", name, entry)):
            texts = batch.column("text")
            more, counts = measure(loaded, texts)
            sums, id_counts = sums + more, id_counts + counts
            if noise is not None:
                chosen = texts.filter(pa.array(is_in_sample(document_keys(texts), noise.sample_bytes, holdout_bytes)))
                for piece in iter_slices(chosen, NOISE_BYTES):
                    agreement += measure_agreement(loaded, piece, rate=noise.rate, seed=noise.seed)
    path = f"_work/evaluate/{tokenizer.name}/{source}/{group:05d}.arrow"
    batch = pa.RecordBatch.from_arrays([pa.array(id_counts)], schema=TOKEN_COUNTS)
    outputs.write_batches(path, TOKEN_COUNTS, [batch])
    report = {"tokenizer": tokenizer.name, "source": source, **dataclasses.asdict(sums)}
    return report if noise is None else report | {"noise": dataclasses.asdict(agreement)}


# --- encode -----------------------------------------------------------------------------------------------------------


def encode_shard(
    job: Job, outputs: Outputs, *, source: ShardInput, tokenizer: TokenizerRef, buckets: dict[str, Buckets]
) -> Report:
    """Encode the documents of a shard; rows go to their bucket, one record batch each."""
    spec = job.spec.pack
    assert spec is not None
    loaded = _trained(job, tokenizer)
    append = None if spec.append is None else loaded.id_of(spec.append)
    schema = token_rows(loaded.dtype)
    unknown = Counter[str]()
    documents, tokens, at = Counter[str](), Counter[str](), {split: buckets[split].first_byte for split in SPLITS}
    rows = {split: BucketRows(schema, buckets[split].count, _free_bytes(job) // 8) for split in SPLITS}
    for batch in _iter_documents(job, source, Counter()):
        sizes = pc.binary_length(batch.texts).to_numpy()
        starts = at[batch.split] + np.cumsum(sizes) - sizes
        at[batch.split] += int(sizes.sum())
        ids = _with_appended(loaded.encode_batch(batch.texts), append)
        in_split = buckets[batch.split]
        if spec.shuffle is None:
            keys = starts.astype(np.uint64)
            bucket_of = buckets_of_bytes(starts.astype(np.int64), in_split.total_bytes, in_split.count)
        else:
            keys = shuffle_keys(batch.keys, spec.shuffle.seed)
            bucket_of = buckets_of_keys(keys, in_split.count)
        rows[batch.split].add(keys, ids, bucket_of)
        documents[batch.split] += len(ids)
        unknown[batch.split] += loaded.num_unknown_bytes(batch.texts)
        tokens[batch.split] += len(ids.values)
    for split in SPLITS:
        path = f"_work/encode/{tokenizer.name}/{split}/{source.part_name}.arrow"
        write_parts(outputs, path, schema, rows[split].batches())
    return {
        "tokenizer": tokenizer.name,
        "documents": {split: documents[split] for split in SPLITS},
        "tokens": {split: tokens[split] for split in SPLITS},
        "unknown_bytes": {split: unknown[split] for split in SPLITS},
    }


def _with_appended(rows: pa.LargeListArray, append: int | None) -> pa.LargeListArray:
    if append is None:
        return rows
    offsets, values = list_rows(rows)
    return list_array(pa.array(np.insert(values, offsets[1:], append)), offsets + np.arange(len(offsets)))


# --- pack -------------------------------------------------------------------------------------------------------------


def pack_bucket(
    job: Job, outputs: Outputs, *, tokenizer: TokenizerRef, split: str, bucket: int, buckets: int, num_shards: int
) -> Report:
    """Pack one bucket of encoded documents into one shard of the data set."""
    spec = job.spec.pack
    assert spec is not None
    loaded = _trained(job, tokenizer)
    schema = token_rows(loaded.dtype)
    files = _files_of_shards(f"_work/encode/{tokenizer.name}/{split}", num_shards, f"{tokenizer.name}/")
    table = pa.Table.from_batches(read_parts(job, "encode", files, bucket, schema), schema=schema)
    table, repeated = sort_rows(table)
    ids = table.column("ids").combine_chunks()
    pad_id = 0 if spec.append is None else loaded.id_of(spec.append)
    result = pack(ids, spec.sequence_length, spec.strategy, spec.overflow, pad_id)
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "tokenizer": tokenizer.name,
        "tokenizer_sha256": tokenizer.sha256,
        "vocab_size": str(loaded.vocab_size),
        "sequence_length": str(spec.sequence_length),
        "strategy": spec.strategy,
        "overflow": spec.overflow,
        "split": split,
        "pad_id": str(pad_id),
        "append": spec.append or "",
    }
    packed_schema, batches = to_batches(result, metadata)
    path = f"packed/{tokenizer.name}/{split}/data-{bucket:05d}-of-{buckets:05d}.arrow"
    outputs.write_batches(path, packed_schema, batches)
    return {
        "tokenizer": tokenizer.name,
        "split": split,
        "documents": len(table),
        "sequences": len(result.rows),
        "tokens_in": len(ids.flatten()),
        "tokens_packed": int(result.part_lengths.sum(dtype=np.int64)),
        "tokens_lost": result.lost,
        "padding": int(result.rows.size - result.part_lengths.sum(dtype=np.int64)),
        "duplicate_ids": 0 if spec.shuffle is None else repeated,
    }


_STEPS: dict[str, Callable[..., Report]] = {
    "count": count_shard,
    "units": count_units,
    "merge": merge_partition,
    "subwords": train_subwords,
    "train": train_tokenizer,
    "pool": pool_tokenizers,
    "evaluate": evaluate_tokenizer,
    "encode": encode_shard,
    "pack": pack_bucket,
}
STEPS = tuple(_STEPS)
