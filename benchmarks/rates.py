"""What the scale model goes by, measured: each function runs in a fresh process of its own."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zstandard

from benchmarks.corpus import read_documents, text_bytes
from benchmarks.ours import _batches
from benchmarks.probe import memory_bytes
from pipeline import storage
from pipeline.arrow import rows_of
from pipeline.jobs import warm
from pipeline.jobs.load import load_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_alone, run_job
from pipeline.jobs.schedule import PLAIN_STEPS
from pipeline.jobs.tasks import read_receipts, receipt_path
from pipeline.pretokenizer import Pretokenizer
from pipeline.stages.count import WordCounter, WordSums

_EOS = "<|endoftext|>"
_GROWTH_PARTS = 16
_REQUESTS = 500
_TRANSFER_BYTES = 128 << 20


# --- distinct words ---------------------------------------------------------------------------------------------------


def _texts(corpora: str, kinds: tuple[str, ...]) -> pa.LargeStringArray:
    """All documents of some folders, in a random order that is always the same."""
    texts = []
    for kind in kinds:
        for file in sorted(Path(corpora, kind).glob("*.jsonl.zst")):
            with zstandard.open(file, "rt", encoding="utf-8", newline="\n") as lines:
                texts += [json.loads(line)["text"] for line in lines]
    random.Random(0).shuffle(texts)
    return pa.array(texts, pa.large_string())


def growth(corpora: str, kinds: list[str]) -> dict[str, Any]:
    """Bytes and distinct words after every 16th of the documents; and how many words occur once."""
    texts = _texts(corpora, tuple(kinds))
    counter = WordCounter(Pretokenizer.named("gpt4o"), max_table_bytes=8 << 30)
    points, seen = [], 0
    edges = [len(texts) * part // _GROWTH_PARTS for part in range(_GROWTH_PARTS + 1)]
    for first, stop in itertools.pairwise(edges):
        some = texts[first:stop]
        seen += text_bytes(some)
        for batch in _batches(some):
            counter.add(rows_of(batch))
        counted = list(counter.partitions())
        points.append([seen, counter.num_distinct])
    once = sum(int(pc.sum(pc.equal(batch.column("count"), 1)).as_py()) for batch in counted)
    return {"points": points, "once": once / points[-1][1]}


# --- a real job -------------------------------------------------------------------------------------------------------


def write_spec(folder: Path, file: str, shard_bytes: int, vocab_size: int) -> str:
    """A job with one packed tokenizer over one file."""
    fields = {
        "name": "rates",
        "output": str(folder / "out"),
        "sources": [{"name": "corpus", "uris": [file]} | ({"documents": "line"} if file.endswith(".txt") else {})],
        "tokenizers": [{"name": "bpe", "vocab_size": vocab_size, "pretokenizer": "gpt4o", "special_tokens": [_EOS]}],
        "pack": {"tokenizers": ["bpe"], "append": _EOS},
        "execution": {"address": "local", "shard_bytes": shard_bytes},
    }
    path = folder / "spec.yaml"
    path.write_text(json.dumps(fields))
    return str(path)


def job(spec: str) -> dict[str, Any]:
    """A whole job, a task on each CPU: seconds by step as the receipts have them, and bytes of what was published."""
    warm.main()
    loaded = load_spec(spec)
    shutil.rmtree(loaded.output, ignore_errors=True)
    run_job(loaded, Progress(io.StringIO()))
    receipts = {step: read_receipts(loaded.output, step) for step in PLAIN_STEPS}
    counted = [receipt.report for receipt in receipts["count"].values()]
    sizes: dict[str, int] = {}
    for found in receipts.values():
        for receipt in found.values():
            for entry in receipt.outputs:
                kind = "/".join(entry["path"].split("/")[: 2 if entry["path"].startswith("_work") else 1])
                sizes[kind] = sizes.get(kind, 0) + entry["bytes"]
    trained = receipts["train"]["bpe"].report
    return {
        "seconds": {step: sum(receipt.seconds for receipt in found.values()) for step, found in receipts.items()},
        "tasks": {step: len(found) for step, found in receipts.items()},
        "text_bytes": sum(sum(report["text_bytes"].values()) for report in counted),
        "held_out_bytes": sum(report["text_bytes"]["holdout"] for report in counted),
        "shard_words": sum(sum(report["distinct_words"].values()) for report in counted),
        "words": trained["distinct_words"],
        "word_bytes": sum(receipt.report["word_bytes"] for receipt in receipts["merge"].values()),
        "published": sizes,
        "receipt_bytes": sum(len(r.to_json()) for found in receipts.values() for r in found.values()),
    }


def task(spec: str, step: str, name: str) -> dict[str, Any]:
    """One task of a finished job again, alone: its seconds, and the memory it takes on top of the program's."""
    loaded = load_spec(spec)
    Path(loaded.output, "_SUCCESS").unlink(missing_ok=True)
    pa.set_memory_pool(pa.system_memory_pool())
    warm.main()
    receipt = Path(loaded.output, receipt_path(step, name))
    receipt.unlink(missing_ok=True)
    _forget_peak()
    before = memory_bytes("VmRSS")
    done = run_alone(loaded, f"{step}/{name}")
    return {"seconds": done.seconds, "rss_before_bytes": before, "report": done.report, "top_bytes": memory_bytes("VmHWM")}


def _forget_peak() -> None:
    """``VmHWM`` starts again at what the process has now."""
    Path("/proc/self/clear_refs").write_text("5")


def merge(file: str, max_bytes: int) -> dict[str, Any]:
    """Adding up the word counts of shards, as one partition: memory by distinct words. Counting itself is forgotten."""
    texts = read_documents(file, max_bytes)
    batches = []
    for shard in (texts[len(texts) * part // 8 : len(texts) * (part + 1) // 8] for part in range(8)):
        counter = WordCounter(Pretokenizer.named("gpt4o"))
        for batch in _batches(shard):
            counter.add(rows_of(batch))
        batches.append(next(counter.partitions()))
    del texts, shard, batch, counter
    _forget_peak()
    before = memory_bytes("VmRSS")
    started = time.perf_counter()
    sums = WordSums(1)
    for counted in batches:
        sums.add(counted, 0)
    words = len(sums.table())
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "words": words, "rss_before_bytes": before, "top_bytes": memory_bytes("VmHWM")}


# --- S3 ---------------------------------------------------------------------------------------------------------------


def requests() -> dict[str, Any]:
    """Seconds of this process (not of the server, on this machine too) for a request and for a byte, read and written."""
    from tests.s3 import Server

    server = Server()
    try:
        for name in [name for name in os.environ if re.match("AWS_|FSSPEC_S3", name)]:
            del os.environ[name]
        os.environ |= server.env
        bucket = server.make_bucket()
        for number in range(_REQUESTS):
            bucket.put(f"small/{number}", bytes(5000))
        small = [(f"{bucket.uri}/small/{number}", 100, 200) for number in range(_REQUESTS)]
        storage.read_ranges(small)
        started = time.process_time()
        storage.read_ranges(small)
        request = (time.process_time() - started) / _REQUESTS
        block = np.random.default_rng(0).bytes(1 << 20)
        started = time.process_time()
        with storage.publish(f"{bucket.uri}/large") as sink:
            for _ in range(_TRANSFER_BYTES >> 20):
                sink.write(block)
        written = (time.process_time() - started) / _TRANSFER_BYTES
        started = time.process_time()
        with storage.open_input(f"{bucket.uri}/large") as file:
            while file.read(1 << 20):
                pass
        read = (time.process_time() - started) / _TRANSFER_BYTES
    finally:
        server.stop()
    return {"request": request, "read": read, "written": written}
