"""Counting more distinct words than there is memory for: a corpus whose every count is known, and the check of each."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.probe import memory_bytes
from pipeline.arrow import rows_of
from pipeline.jobs import warm
from pipeline.jobs.load import parse_spec
from pipeline.jobs.plan import settle_plan
from pipeline.jobs.run import make_job
from pipeline.jobs.runner import LocalRunner
from pipeline.jobs.schedule import Receipts, step_tasks

_LETTERS = 7
_WORD_BYTES = _LETTERS + 1
_WORDS_A_LINE = 500
_STRIDE = 1000
"""Words that follow each other in the corpus are far apart in the alphabet."""

TASK_MEMORY = 1 << 30


def _words(index: NDArray[np.int64], num_words: int) -> NDArray[np.uint8]:
    """Words by number: a blank and seven letters. ``[shape=(n, 8)]``"""
    value = index % _STRIDE * (num_words // _STRIDE + 1) + index // _STRIDE
    words = np.empty((len(index), _WORD_BYTES), dtype=np.uint8)
    words[:, 0] = ord(" ")
    for place in range(_LETTERS, 0, -1):
        words[:, place] = ord("a") + value % 26
        value //= 26
    return words


def _index_of(words: NDArray[np.uint8], num_words: int) -> NDArray[np.int64]:
    value = np.zeros(len(words), dtype=np.int64)
    for place in range(1, _WORD_BYTES):
        value = value * 26 + (words[:, place] - ord("a"))
    return value % (num_words // _STRIDE + 1) * _STRIDE + value // (num_words // _STRIDE + 1)


def _write(path: Path, num_words: int) -> None:
    """Word i occurs 1 + i % 3 times, each time in another third of the file."""
    with path.open("wb") as file:
        for occurrence in range(3):
            for start in range(0, num_words, 1_000_000):
                index = np.arange(start, min(num_words, start + 1_000_000))
                words = _words(index[index % 3 >= occurrence], num_words)
                for first in range(0, len(words), _WORDS_A_LINE):
                    file.write(words[first : first + _WORDS_A_LINE].tobytes() + b"\n")


def count_distinct(num_words: int) -> dict[str, Any]:
    """Count and merge ``num_words`` distinct words, and compare every count with what it must be."""
    warm.main()
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder, "corpus.txt"), num_words)
        spec = parse_spec(
            {
                "name": "distinct",
                "output": f"{folder}/out",
                "sources": [{"name": "words", "uris": [f"{folder}/corpus.txt"], "documents": "line"}],
                "holdout": {"fraction": 0},
                "tokenizers": [{"name": "none", "vocab_size": 300, "pretokenizer": "gpt2"}],
                "execution": {"address": "local", "task_memory_bytes": TASK_MEMORY},
            }
        )
        plan = settle_plan(spec)
        job, runner, receipts = make_job(spec, plan), LocalRunner(None, 0), Receipts()
        before = memory_bytes("VmHWM")
        started = time.perf_counter()
        for step in ("count", "merge"):
            done = runner.run(job, step_tasks(step, job, plan, receipts))
            receipts[step] = {receipt.name: receipt for receipt in done}
        seconds, peak = time.perf_counter() - started, memory_bytes("VmHWM")
        runner.close()
        found = np.zeros(num_words, dtype=np.int64)
        for receipt in receipts["merge"].values():
            table = pa.ipc.open_stream(job.path(receipt.outputs[0]["path"])).read_all()
            rows = rows_of(table.column("word").combine_chunks())
            words = rows.values[: rows.num_bytes].reshape(-1, _WORD_BYTES)
            found[_index_of(words, num_words)] += table.column(1).to_numpy()
    wrong = int((found != 1 + np.arange(num_words) % 3).sum())
    return {"seconds": seconds, "peak_bytes": peak, "before_bytes": before, "wrong": wrong, "shards": len(plan.shards)}
