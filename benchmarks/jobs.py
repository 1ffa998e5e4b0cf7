"""Whole jobs of our side: beside the bare stages, and resumed."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import bare
from pipeline import storage
from pipeline.jobs import warm
from pipeline.jobs.load import load_spec
from pipeline.jobs.manifest import write_results
from pipeline.jobs.plan import settle_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.ray_runner import RayRunner
from pipeline.jobs.run import _done_before, make_job, run_job
from pipeline.jobs.schedule import PLAIN_STEPS, Receipts, step_tasks
from pipeline.jobs.tasks import Job, Receipt, Task

_EOS = "<|endoftext|>"


def _write_spec(folder: Path, uris: str, vocab_size: int, **more: Any) -> Path:
    fields = {
        "name": "bench",
        "output": str(folder / "out"),
        "sources": [{"name": "corpus", "uris": [uris]}],
        "tokenizers": [{"name": "bpe", "vocab_size": vocab_size, "pretokenizer": "gpt4o", "special_tokens": [_EOS]}],
        "pack": {"tokenizers": ["bpe"], "append": _EOS},
    }
    path = folder / "spec.yaml"
    path.write_text(json.dumps(fields | more))
    return path


# --- overhead ---------------------------------------------------------------------------------------------------------


def whole(file: str, copies: int, vocab_size: int, side: str) -> dict[str, Any]:
    """Count, merge, train, encode and pack ``copies`` of a file: ``bare``, ``local`` or ``auto``, with Ray there before.

    ``again``: as ``auto``, by workers that have done it once already.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text").mkdir()
        for copy in range(copies):
            (folder / f"text/copy-{copy}.jsonl").symlink_to(file)
        address = "auto" if side == "again" else "local" if side == "bare" else side
        holdout = {"holdout": {"fraction": 0}}
        spec = load_spec(
            str(_write_spec(folder, f"{folder}/text/*.jsonl", vocab_size, execution={"address": address}, **holdout))
        )
        warm.main()
        if side == "bare":
            return bare.run(spec, folder)
        starting = time.perf_counter()
        runner = RayRunner("auto", None, 0) if address == "auto" else None
        if runner and side == "again":
            run_job(dataclasses.replace(spec, output=f"{folder}/before"), Progress(io.StringIO()), _Open(runner))
            shutil.rmtree(folder / "before")
        started = time.perf_counter()
        run_job(spec, Progress(io.StringIO()), _Open(runner) if runner else None)
        ended = time.perf_counter()
        if runner:
            runner.close()
        report = json.loads(Path(spec.output, "report/report.json").read_text())
        packed = bare.packed_hash(Path(spec.output, "packed/bpe/train"))
        around = {"start_seconds": started - starting, "stop_seconds": time.perf_counter() - ended}
        return {"seconds": ended - started, "steps": report["execution"]["step_seconds"], **around, **packed}


class _Open:
    """A runner that stays open when a job ends."""

    def __init__(self, runner: RayRunner) -> None:
        self._runner = runner

    @property
    def retries(self) -> int:
        return self._runner.retries

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        """As the runner does."""
        return self._runner.run(job, tasks)

    def close(self) -> None:
        """Not yet."""


# --- resume -----------------------------------------------------------------------------------------------------------


def make_shards(folder: str, num_shards: int) -> dict[str, Any]:
    """Not a measurement: a job of so many tiny shards, run to its end; ``folder`` keeps it."""
    text = Path(folder, "corpus.jsonl")
    chance = random.Random(0)
    words = [f"w{number}" * (number % 3 + 1) for number in range(5000)]
    with text.open("w") as file:
        for _ in range(4 * num_shards):
            file.write(json.dumps({"text": " ".join(chance.choices(words, k=60))}) + "\n")
    execution = {"address": "local", "shard_bytes": -(-text.stat().st_size // num_shards)}
    spec = _write_spec(Path(folder), str(text), 1000, execution=execution)
    started = time.perf_counter()
    run_job(load_spec(str(spec)), Progress(io.StringIO()))
    return {"seconds": time.perf_counter() - started, "spec": str(spec)}


def resume(spec: str, finished: bool) -> dict[str, Any]:
    """``tokenmill run`` of a job whose tasks are all done, in a fresh process, from its start to its end.

    ``finished``: whether the run was closed too; else its manifest and ``_SUCCESS`` are deleted before.
    """
    loaded = load_spec(spec)
    if not finished:
        for name in ("_SUCCESS", "manifest.json"):
            Path(loaded.output, name).unlink()
    started = time.perf_counter()
    command = [sys.executable, "-m", "pipeline.jobs.cli", "run", spec]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {"seconds": time.perf_counter() - started}


def resume_parts(spec: str) -> dict[str, Any]:
    """The same in this process, after the imports, part by part: plan, listing, receipts of all steps, results."""
    loaded = load_spec(spec)
    for name in ("_SUCCESS", "manifest.json"):
        Path(loaded.output, name).unlink()
    marks = [time.perf_counter()]
    stored_plan = settle_plan(loaded)
    job = make_job(loaded, stored_plan)
    marks.append(time.perf_counter())
    stored = storage.list_stored(job.output)
    marks.append(time.perf_counter())
    receipts: Receipts = {}
    for step in PLAIN_STEPS:
        tasks = step_tasks(step, job, stored_plan, receipts)
        receipts[step] = _done_before(job, step, stored)
        if len(receipts[step]) != len(tasks):
            sys.exit(f"{step}: {len(receipts[step])} receipts of {len(tasks)} tasks")
    marks.append(time.perf_counter())
    write_results(job, stored_plan, receipts, {"seconds": 0.0, "step_seconds": {}, "retries": 0}, lambda **_: None)
    marks.append(time.perf_counter())
    parts = dict(zip(("plan", "listing", "receipts", "results"), map(float, np.diff(marks)), strict=True))
    shards = len(stored_plan.shards)
    return {"seconds": sum(parts.values()), "steps": parts, "shards": shards, "receipts": sum(map(len, receipts.values()))}
