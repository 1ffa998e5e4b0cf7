"""What is measured of tokenizers by morphemes: each function runs in a fresh process of its own."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.superword_probes import corpus_files, records
from pipeline.arrow import list_rows
from pipeline.jobs import warm
from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.morph import MorphTokenizer
from pipeline.tokenizer import Tokenizer


def job(folder: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A job in this process, kernels loaded before: seconds and its report."""
    warm.main()
    spec = parse_spec({"name": "morphology", "output": f"{folder}/out", "execution": {"address": "local"}} | fields)
    started = time.perf_counter()
    run_job(spec, Progress(io.StringIO()))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "report": json.loads(Path(spec.output, "report/report.json").read_text())}


def _texts(files: list[str], max_bytes: int) -> list[str]:
    texts: list[str] = []
    size = 0
    for file in files:
        for record in records(Path(file)):
            texts.append(record["text"])
            size += len(record["text"].encode())
            if size >= max_bytes:
                return texts
    return texts


def encode(tokenizer: str, files: list[str], max_bytes: int) -> dict[str, Any]:
    """Seconds to encode documents that are in memory: new to the cache, and once more."""
    texts = pa.array(_texts(files, max_bytes), pa.large_string())
    loaded = Tokenizer.load(tokenizer)
    loaded.encode_batch(["Kernels are loaded, tables are made."])
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        ids = loaded.encode_batch(texts)
        seconds.append(time.perf_counter() - started)
    num_bytes = sum(len(text.encode()) for text in texts.to_pylist())
    return {"text_bytes": num_bytes, "tokens": len(ids.flatten()), "first_seconds": seconds[0], "seconds": seconds[2]}


def round_trip(tokenizer: str, corpora: str, below: str) -> dict[str, Any]:
    """How many documents, and how many lines of them, come back as they were, over all texts of a folder."""
    loaded = Tokenizer.load(tokenizer)
    found = {"documents": 0, "documents_back": 0, "lines": 0, "lines_back": 0, "text_bytes": 0}
    for file in corpus_files(str(Path(corpora, below))):
        if file.suffix == ".tsv" or ".tsv." in file.name:
            continue
        for record in records(file):
            text = record["text"]
            lines = [line for line in text.split("\n") if line]
            back = _comes_back(loaded, text)
            found["documents"] += 1
            found["documents_back"] += back
            found["lines"] += len(lines)
            found["lines_back"] += len(lines) if back else sum(_comes_back(loaded, line) for line in lines)
            found["text_bytes"] += len(text.encode())
    return found


def _comes_back(tokenizer: Any, text: str) -> bool:
    _, ids = list_rows(tokenizer.encode_batch([text]))
    return bool(tokenizer.decode(ids if isinstance(tokenizer, MorphTokenizer) else ids.tolist()) == text)
