"""The work of our side. Each function runs in a fresh process, loads every kernel first, and times the work alone."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.corpus import read_documents, read_lines, text_bytes
from benchmarks.outcome import describe_merges, ids_of, merges_of
from benchmarks.peers import TINY
from benchmarks.probe import memory_bytes
from pipeline.arrow import list_rows, rows_of
from pipeline.jobs import warm
from pipeline.jobs.load import load_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.pretokenizer import GPT2_REGEX, Pretokenizer
from pipeline.stages.count import WordCounter
from pipeline.tokenizer import Tokenizer
from pipeline.trainers.bpe import BpeOptions, TrainedBpe, train_bpe
from pipeline.trainers.partitioned import LocalPartitions, Words, divide_words, train_partitioned, words_of

BATCH_BYTES = 4 << 20


def _write_spec(folder: Path, file: str, tokenizer: dict[str, Any], address: str, **more: Any) -> Path:
    source = {"name": "corpus", "uris": [file]} | ({"documents": "line"} if file.endswith(".txt") else {})
    spec = {"name": "bench", "output": str(folder / "out"), "sources": [source], "execution": {"address": address}}
    path = folder / "spec.yaml"
    path.write_text(json.dumps(spec | {"tokenizers": [{"name": "bpe", "pretokenizer": "gpt2"} | tokenizer]} | more))
    return path


def _write_training_spec(folder: Path, file: str, vocab_size: int, address: str) -> Path:
    """Trains on all of the file. One id less than the peers, whose alphabet has the newline as well."""
    tokenizer = {"vocab_size": vocab_size - 1, "initial_alphabet": "seen"}
    return _write_spec(folder, file, tokenizer, address, holdout={"fraction": 0})


def train(file: str, vocab_size: int) -> dict[str, Any]:
    """File to tokenizer.json by ``run_job`` in this process, ``address: local``; before it, as the peers, a tiny file."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder, "tiny.txt")
        tiny.write_text(TINY)
        (Path(folder) / "tiny").mkdir()
        run_job(load_spec(str(_write_training_spec(tiny.with_suffix(""), str(tiny), 300, "local"))), Progress(io.StringIO()))
        spec = load_spec(str(_write_training_spec(Path(folder), file, vocab_size, "local")))
        before = memory_bytes("VmRSS")
        started = time.perf_counter()
        run_job(spec, Progress(io.StringIO()))
        seconds = time.perf_counter() - started
        output = Path(folder, "out")
        counts = json.loads((output / "tokenizers/bpe/training.json").read_text())
        return {
            "seconds": seconds,
            "rss_before_bytes": before,
            "steps": json.loads((output / "report/report.json").read_text())["execution"]["step_seconds"],
            "distinct_words": counts["distinct_words"],
            **merges_of((output / "tokenizers/bpe/tokenizer.json").read_text()),
        }


def _run_command(spec: Path) -> dict[str, Any]:
    started = time.perf_counter()
    command = [str(Path(sys.executable).with_name("tokenmill")), "run", str(spec)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    report = json.loads((spec.with_name("out") / "report/report.json").read_text())
    return {
        "seconds": seconds,
        "steps": report["execution"]["step_seconds"],
        **merges_of((spec.with_name("out") / "tokenizers/bpe/tokenizer.json").read_text()),
    }


def train_command(file: str, vocab_size: int, address: str) -> dict[str, Any]:
    """The same as a user starts it: ``tokenmill run``, from the start of Python to the end of the command."""
    with tempfile.TemporaryDirectory() as folder:
        return _run_command(_write_training_spec(Path(folder), file, vocab_size, address))


def whole_job_command(file: str, vocab_size: int, address: str) -> dict[str, Any]:
    """``tokenmill run`` with holdout, evaluation and packed shards."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = {"vocab_size": vocab_size}
        return _run_command(_write_spec(Path(folder), file, tokenizer, address, pack={"tokenizers": ["bpe"]}))


def _batches(texts: pa.LargeStringArray) -> list[pa.LargeStringArray]:
    """Pieces of about 4 MiB, as the job makes them."""
    rows = -(-len(texts) * BATCH_BYTES // max(text_bytes(texts), 1))
    return [texts.slice(start, rows) for start in range(0, len(texts), rows)]


def _count(texts: list[pa.LargeStringArray], pretokenizer: Pretokenizer) -> pa.RecordBatch:
    """Distinct words and their counts, as one partition."""
    counter = WordCounter(pretokenizer)
    for batch in texts:
        counter.add(rows_of(batch))
    return next(counter.partitions())


def _train(counted: pa.RecordBatch, options: BpeOptions) -> TrainedBpe:
    return train_bpe(rows_of(counted.column("word")), counted.column("count").to_numpy(), options)


def merge(file: str, vocab_size: int) -> dict[str, Any]:
    """Word counts of the lines to merges; counting is not timed."""
    warm.main()
    counted = _count(_batches(read_lines(file)), Pretokenizer.named("gpt2"))
    counted = counted.take(pc.sort_indices(counted.column("word")))  # as the job's merge step leaves them
    started = time.perf_counter()
    trained = _train(counted, BpeOptions(vocab_size=vocab_size - 1, initial_alphabet="seen"))
    return {"seconds": time.perf_counter() - started, **describe_merges(trained.merges)}


def merge_partitioned(file: str, vocab_size: int, partitions: int) -> dict[str, Any]:
    """The same over partitions, each with a thread of its own; dividing the words, as counting does it, is not timed."""
    warm.main()
    counted = _count(_batches(read_lines(file)), Pretokenizer.named("gpt2"))
    counted = counted.take(pc.sort_indices(counted.column("word")))
    words = words_of(rows_of(counted.column("word")), counted.column("count").to_numpy())
    options = BpeOptions(vocab_size=vocab_size - 1, initial_alphabet="seen")
    parts = divide_words(words, partitions)
    train_partitioned(
        LocalPartitions([Words(part.symbols[:50], part.offsets[:5], part.counts[:4]) for part in parts]), options
    )
    started = time.perf_counter()
    trained, statistics = train_partitioned(LocalPartitions(parts), options)
    return {"seconds": time.perf_counter() - started, **statistics._asdict(), **describe_merges(trained.merges)}


def merge_unsplit(file: str, max_bytes: int, vocab_size: int) -> dict[str, Any]:
    """The same without a pretokenizer: each document is one word."""
    warm.main()
    texts = read_documents(file, max_bytes)
    words = rows_of(texts.cast(pa.large_binary()))
    started = time.perf_counter()
    trained = train_bpe(words, np.ones(len(texts), dtype=np.int64), BpeOptions(vocab_size=vocab_size))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "text_bytes": text_bytes(texts), **describe_merges(trained.merges)}


def count(
    file: str, patterns: list[str] | None = None, max_bytes: int | None = None, train_to: int | None = None
) -> dict[str, Any]:
    """Texts in an Arrow array to word counts, and to a tokenizer of ``train_to`` ids where the peer does not stop before."""
    warm.main()
    pretokenizer = Pretokenizer(tuple(patterns or [GPT2_REGEX]))
    started = time.perf_counter()
    _count([pa.array(["x"])], pretokenizer)
    compiled = time.perf_counter() - started
    is_lines = file.endswith(".txt")
    texts = pa.array([], pa.large_string()) if is_lines else read_documents(file, max_bytes)
    started = time.perf_counter()
    if is_lines:  # the peer reads its file too
        texts = read_lines(file)
    counted = _count(_batches(texts), pretokenizer)
    merges = {}
    if train_to is not None:
        merges = describe_merges(_train(counted, BpeOptions(vocab_size=train_to, initial_alphabet="seen")).merges)
    seconds = time.perf_counter() - started
    total = pc.sum(counted.column("count")).as_py()
    sizes = {"text_bytes": text_bytes(texts), "distinct_words": len(counted), "words": total}
    return {"seconds": seconds, "compile_seconds": compiled, **sizes, **merges}


def split(file: str) -> dict[str, Any]:
    """Texts in an Arrow array to the ends of their words."""
    warm.main()
    texts = read_documents(file)
    batches = _batches(texts)
    pretokenizer = Pretokenizer.named("gpt2")
    started = time.perf_counter()
    num_words = sum(len(stops) for batch in batches for _, stops in pretokenizer.iter_words(rows_of(batch)))
    return {"seconds": time.perf_counter() - started, "text_bytes": text_bytes(texts), "words": num_words}


def make_tokenizer(file: str, patterns: list[str], vocab_size: int, output: str) -> dict[str, Any]:
    """Not a measurement: the tokenizer.json that all sides encode with, trained on the documents, with all 256 bytes."""
    pretokenizer = Pretokenizer(tuple(patterns))
    trained = _train(_count(_batches(read_documents(file)), pretokenizer), BpeOptions(vocab_size=vocab_size))
    tokenizer = Tokenizer(trained.vocab, trained.merges, (), pretokenizer)
    Path(output).write_text(tokenizer.to_json(), encoding="utf-8")
    return describe_merges(trained.merges)


def encode(tokenizer: str, file: str, max_bytes: int | None = None) -> dict[str, Any]:
    """Arrow strings to Arrow lists: the first call of a tokenizer that has seen the text ``x``, and the second."""
    warm.main()
    texts = read_documents(file, max_bytes)
    ours = Tokenizer.load(tokenizer)
    ours.encode_batch(["x"])
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        encoded = ours.encode_batch(texts)
        seconds.append(time.perf_counter() - started)
    offsets, ids = list_rows(encoded)
    agreed = ids_of(ids, offsets[1:] - offsets[:-1])
    return {"seconds": seconds[0], "warm_seconds": seconds[1], "text_bytes": text_bytes(texts), **agreed}


def cold_start() -> dict[str, Any]:
    """``pipeline.jobs.warm`` with an empty cache of machine code, then with the full one."""
    folder = tempfile.mkdtemp()
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        subprocess.run([sys.executable, "-m", "pipeline.jobs.warm"], check=True, env=environment)
        seconds.append(time.perf_counter() - started)
    num_bytes = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    shutil.rmtree(folder)
    return {"seconds": seconds[0], "load_seconds": seconds[1], "cache_bytes": num_bytes}
