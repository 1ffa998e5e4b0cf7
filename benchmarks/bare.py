"""A whole job as a careful person would write it with our stages alone: two processes, plain files.

No Ray, receipts, checksums, publishing, accounts or report; the same text is read, the same files are written, and what is
packed is the same. What the pipeline takes longer than this is its own.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.arrow import batches_by_group, list_array, list_rows, rows_of
from pipeline.jobs import warm
from pipeline.jobs.passes import counting_pass
from pipeline.jobs.plan import make_plan
from pipeline.pretokenizer import Pretokenizer
from pipeline.schema import WORD_COUNTS, token_rows
from pipeline.spec import JobSpec
from pipeline.stages.count import WordCounter, WordSums
from pipeline.stages.holdout import document_keys
from pipeline.stages.pack import pack, to_batches
from pipeline.stages.shard import ReadOptions, Shard
from pipeline.stages.shuffle import buckets_of_keys, num_buckets, shuffle_keys, sort_rows
from pipeline.stages.source import coalesce, read_documents
from pipeline.tokenizer import Tokenizer
from pipeline.trainers.bpe import BpeOptions, train_bpe


@dataclass(frozen=True)
class Bare:
    """What all functions know."""

    folder: Path
    options: ReadOptions
    pretokenizer: Pretokenizer
    num_shards: int
    num_partitions: int
    append: str
    sequence_length: int
    seed: int


def _documents(bare: Bare, shard: Shard) -> Iterator[pa.RecordBatch]:
    def raw() -> Iterator[pa.RecordBatch]:
        for part in shard.parts:
            with open(part.uri, "rb") as file:
                yield from read_documents(file, part, bare.options, Counter())

    return coalesce(raw())


def _count(bare: Bare, shard: Shard) -> int:
    counter, num_bytes = WordCounter(bare.pretokenizer, bare.num_partitions), 0
    for batch in _documents(bare, shard):
        num_bytes += rows_of(batch.column("text")).num_bytes
        counter.add(rows_of(batch.column("text")))
    with pa.OSFile(str(bare.folder / f"count-{shard.index}"), "wb") as sink, pa.ipc.new_file(sink, WORD_COUNTS) as writer:
        for batch in counter.partitions():
            writer.write_batch(batch)
    return num_bytes


def _part(file: Path, number: int) -> pa.RecordBatch:
    return pa.ipc.open_file(pa.memory_map(str(file))).get_batch(number)


def _merge(bare: Bare, partition: int) -> None:
    sums = WordSums(1)
    for shard in range(bare.num_shards):
        sums.add(_part(bare.folder / f"count-{shard}", partition), 0)
    table = sums.table()
    with pa.OSFile(str(bare.folder / f"words-{partition}"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _train(bare: Bare, spec: JobSpec) -> None:
    files = [bare.folder / f"words-{partition}" for partition in range(bare.num_partitions)]
    table = pa.concat_tables(pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files).combine_chunks()
    wanted = spec.tokenizers[0]
    options = BpeOptions(vocab_size=wanted.vocab_size, special_tokens=wanted.special_tokens)
    counts = table.column("0").to_numpy().copy()  # a kernel would be compiled anew for an array that cannot be written
    words = table.column("word").combine_chunks().cast(pa.large_binary())
    trained = train_bpe(rows_of(words), counts, options)
    tokenizer = Tokenizer(trained.vocab, trained.merges, wanted.special_tokens, bare.pretokenizer)
    (bare.folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")


_loaded: list[Tokenizer] = []
"""Of this process: its cache of words fills once."""


def _tokenizer(bare: Bare) -> Tokenizer:
    if not _loaded:
        _loaded.append(Tokenizer.load(bare.folder / "tokenizer.json"))
    return _loaded[0]


def _encode(bare: Bare, shard: Shard, buckets: int) -> None:
    tokenizer = _tokenizer(bare)
    append, schema = tokenizer.id_of(bare.append), token_rows(tokenizer.dtype)
    keys, rows = [], []
    for batch in _documents(bare, shard):
        offsets, values = list_rows(tokenizer.encode_batch(batch.column("text")))
        ended = list_array(pa.array(np.insert(values, offsets[1:], append)), offsets + np.arange(len(offsets)))
        rows.append(ended.cast(schema.field("ids").type))
        keys.append(shuffle_keys(document_keys(batch.column("id")), bare.seed))
    key = np.concatenate(keys)
    table = pa.table([pa.array(key), pa.chunked_array(rows)], schema=schema)
    with pa.OSFile(str(bare.folder / f"encode-{shard.index}"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches_by_group(table, buckets_of_keys(key, buckets), buckets):
            writer.write_batch(batch)


def _pack(bare: Bare, bucket: int) -> None:
    tokenizer = _tokenizer(bare)
    batches = [_part(bare.folder / f"encode-{shard}", bucket) for shard in range(bare.num_shards)]
    table, _ = sort_rows(pa.Table.from_batches(batches))
    ids = table.column("ids").combine_chunks()
    packed = pack(ids, bare.sequence_length, "best_fit", "split", tokenizer.id_of(bare.append))
    schema, made = to_batches(packed, {})
    with pa.OSFile(str(bare.folder / f"data-{bucket:05d}.arrow"), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in made:
            writer.write_batch(batch)


def _warm(_: int) -> None:
    warm.main()
    time.sleep(1)  # so that each process gets one


def run(spec: JobSpec, folder: Path) -> dict[str, Any]:
    """The job of a spec with one source and one packed tokenizer, nothing held out. Processes are there before the clock."""
    plan = make_plan(spec)
    wanted = spec.pack
    assert wanted is not None
    assert wanted.append is not None
    assert wanted.shuffle is not None
    bare = Bare(
        folder,
        plan.read_options[0],
        counting_pass(spec.tokenizers[0]).pretokenizer,
        len(plan.shards),
        plan.num_partitions,
        wanted.append,
        wanted.sequence_length,
        wanted.shuffle.seed,
    )
    steps: dict[str, float] = {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_warm, range(2), chunksize=1)
        started = time.perf_counter()
        sizes = _all(pool, steps, "count", _count, [(bare, shard) for shard in plan.shards])
        buckets = num_buckets(sum(sizes))
        _all(pool, steps, "merge", _merge, [(bare, partition) for partition in range(plan.num_partitions)])
        _all(pool, steps, "train", _train, [(bare, spec)])
        _all(pool, steps, "encode", _encode, [(bare, shard, buckets) for shard in plan.shards])
        _all(pool, steps, "pack", _pack, [(bare, bucket) for bucket in range(buckets)])
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "steps": steps, **packed_hash(folder)}


def _all(pool: Pool, steps: dict[str, float], step: str, function: Callable[..., Any], calls: list[Any]) -> list[Any]:
    started = time.perf_counter()
    done = pool.starmap(function, calls, chunksize=1)
    steps[step] = time.perf_counter() - started
    return done


def packed_hash(folder: Path) -> dict[str, Any]:
    """How many sequences were packed, and the hash of all ids and lengths."""
    digest, num_sequences = hashlib.sha256(), 0
    for file in sorted(folder.glob("data-*.arrow")):
        for batch in pa.ipc.open_stream(pa.memory_map(str(file))):
            num_sequences += len(batch)
            digest.update(np.ascontiguousarray(batch.column("input_ids").flatten().to_numpy()).data)
            digest.update(np.ascontiguousarray(batch.column("seq_lengths").flatten().to_numpy()).data)
    return {"sequences": num_sequences, "packed_sha256": digest.hexdigest()}
