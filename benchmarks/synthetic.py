"""A listing and receipts of any size without any text: what a driver plans, keeps and resumes, for as many files as wanted.

The files are sparse: they have a size and no content. The receipts are those of a tiny real job, as many as the plan asks
for, each with the name and the outputs of its task.
"""

from __future__ import annotations

import copy
import io
import json
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.probe import memory_bytes
from pipeline.jobs import cli
from pipeline.jobs.load import load_spec, parse_spec
from pipeline.jobs.plan import Plan, read_plan, settle_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.ray_runner import RayRunner
from pipeline.jobs.run import _done_before, make_job, run_job
from pipeline.jobs.schedule import PLAIN_STEPS, Receipts, step_tasks
from pipeline.jobs.tasks import Job, Receipt, Task, read_receipts, receipt_path
from pipeline.storage import StoredFile
from tests.corpus import documents

_EOS = "<|endoftext|>"
_FILES_PER_FOLDER = 1000


def spec_fields(folder: Path, uris: str, **execution: Any) -> dict[str, Any]:
    """A job with one tokenizer that is packed."""
    return {
        "name": "synthetic",
        "output": str(folder / "out"),
        "sources": [{"name": "corpus", "uris": [uris]}],
        "tokenizers": [{"name": "bpe", "vocab_size": 400, "special_tokens": [_EOS]}],
        "pack": {"tokenizers": ["bpe"], "append": _EOS},
        "execution": {"address": "local"} | execution,
    }


def make_listing(folder: Path, num_files: int, file_bytes: int, **execution: Any) -> Path:
    """Sparse files below ``folder/files``, and the spec of a job over them."""
    for first in range(0, num_files, _FILES_PER_FOLDER):
        inside = folder / f"files/{first // _FILES_PER_FOLDER:04d}"
        inside.mkdir(parents=True)
        for number in range(first, min(first + _FILES_PER_FOLDER, num_files)):
            with (inside / f"part-{number:06d}.jsonl").open("wb") as file:
                file.truncate(file_bytes)
    spec = folder / "spec.yaml"
    spec.write_text(json.dumps(spec_fields(folder, f"{folder}/files/*/*.jsonl", **execution)))
    return spec


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan(spec: str) -> dict[str, Any]:
    """``tokenmill plan`` in this process: lists, plans, and persists or compares with what was persisted."""
    before, started = memory_bytes("VmRSS"), time.perf_counter()
    with redirect_stdout(io.StringIO()) as shown:
        if cli.main(["plan", spec, "--json"]):
            raise SystemExit(f"plan failed: {shown.getvalue()}")
    seconds = time.perf_counter() - started
    facts = json.loads(shown.getvalue())
    stored = Path(load_spec(spec).output, "plan.json").stat().st_size
    fields = {"fingerprint": facts["fingerprint"], "shards": facts["shards"], "plan_bytes": stored}
    return {"seconds": seconds, "rss_before_bytes": before, **fields}


def check_plan(spec: str) -> dict[str, Any]:
    """Every file is in one shard, whole or in ranges that join, and the sizes add up; exits if not."""
    started = time.perf_counter()
    loaded = load_spec(spec)
    stored = read_plan(loaded.output)
    listed = {path: os.path.getsize(path) for path in map(str, Path(spec).parent.glob("files/*/*.jsonl"))}
    covered: Counter[str] = Counter()
    at: dict[str, int] = {}
    for shard in stored.shards:
        for part in shard.parts:
            start, stop = (0, part.num_bytes) if part.start is None else (part.start, part.stop)
            assert start == at.get(part.uri, 0), f"{part.uri}: a gap or an overlap at {start}"
            assert stop is not None
            at[part.uri] = stop
            covered[part.uri] += stop - start
        assert shard.num_bytes == sum((p.stop or p.num_bytes) - (p.start or 0) for p in shard.parts)
    assert covered == listed, "the shards do not hold the listing"
    assert [shard.index for shard in stored.shards] == list(range(len(stored.shards)))
    assert sum(map(len, stored.inputs)) == len(listed)
    assert stored.num_bytes == sum(listed.values())
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "files": len(listed), "shards": len(stored.shards), "text_bytes": stored.num_bytes}


# --- receipts ---------------------------------------------------------------------------------------------------------


def _templates() -> dict[str, Receipt]:
    """A receipt of each step, from a tiny job."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tiny.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(300)))
        run_job(parse_spec(spec_fields(folder, str(folder / "tiny.jsonl"))), Progress(io.StringIO()))
        return {step: next(iter(read_receipts(str(folder / "out"), step).values())) for step in PLAIN_STEPS}


def _receipt(template: Receipt, task: Task, plan: Plan) -> Receipt:
    """The template's receipt as that of another task; outputs are named as the steps name them."""
    step, counting = task.step, plan.passes[0].name
    number = int(task.name.rsplit("/", 1)[-1]) if step != "train" else 0
    part = f"part-{number:05d}-of-{plan.num_partitions if step == 'merge' else len(plan.shards):05d}"
    outputs = copy.deepcopy(template.outputs)
    for entry in outputs:
        path = re.sub(r"part-\d+-of-\d+", part, entry["path"])
        path = re.sub(r"words-[0-9a-f]+", counting, path)
        if step == "pack":
            path = f"packed/{task.name.rpartition('/')[0]}/data-{number:05d}-of-{task.params['buckets']:05d}.arrow"
        entry["path"] = re.sub(r"\d{5}\.arrow$", f"{number:05d}.arrow", path) if step == "evaluate" else path
    report = copy.deepcopy(template.report)
    if step == "count":
        held_out = task.num_bytes // 100
        report["text_bytes"] = {"train": task.num_bytes - held_out, "holdout": held_out}
    if step == "pack":
        report["split"] = task.params["split"]
    return Receipt(step, task.name, outputs, report, template.seconds)


def _iter_receipts(job: Job, plan: Plan) -> Iterator[tuple[str, list[Task], list[Receipt]]]:
    """Step after step, all its tasks and their receipts; for each step from the receipts of those before."""
    templates = _templates()
    receipts: Receipts = {}
    for step in PLAIN_STEPS:
        tasks = step_tasks(step, job, plan, receipts)
        made = [_receipt(templates[step], task, plan) for task in tasks]
        receipts[step] = {receipt.name: receipt for receipt in made}
        yield step, tasks, made


def write_receipts(spec: str) -> dict[str, Any]:
    """A receipt for every task of the job of ``spec``; their outputs are not written."""
    loaded = load_spec(spec)
    stored = settle_plan(loaded)
    job = make_job(loaded, stored)
    totals: Counter[str] = Counter()
    num_bytes = 0
    for step, _, receipts in _iter_receipts(job, stored):
        for receipt in receipts:
            file = Path(job.path(receipt_path(step, receipt.name)))
            file.parent.mkdir(parents=True, exist_ok=True)
            num_bytes += file.write_bytes(receipt.to_json())
        totals[step] = len(receipts)
    return {"tasks": totals, "receipt_bytes": num_bytes}


def _listing(job: Job) -> dict[str, StoredFile]:
    """What a listing of the output gives if all outputs are there: those of the receipts, and the receipts."""
    stored = {}
    for step in PLAIN_STEPS:
        for receipt in read_receipts(job.output, step).values():
            for path, num_bytes in [(entry["path"], entry["bytes"]) for entry in receipt.outputs]:
                stored[path] = StoredFile(job.path(path), path, num_bytes, "")
            path = receipt_path(step, receipt.name)
            stored[path] = StoredFile(job.path(path), path, 0, "", 1.0)
    return stored


def drive(spec: str) -> dict[str, Any]:
    """What the driver keeps when a job is done to the last task: plan, listing, tasks and receipts of all steps."""
    started = time.perf_counter()
    loaded = load_spec(spec)
    stored_plan = settle_plan(loaded)
    job = make_job(loaded, stored_plan)
    planned = time.perf_counter()
    stored = _listing(job)
    listed = time.perf_counter()
    receipts: Receipts = {}
    progress = Progress(io.StringIO())
    for step in PLAIN_STEPS:
        tasks = step_tasks(step, job, stored_plan, receipts)
        done = _done_before(job, step, stored)
        missing = [task for task in tasks if task.name not in done]
        assert not missing, f"{step}: {len(missing)} tasks have no receipt"
        progress.start(step, tasks, missing, 0)
        progress.finish(0)
        receipts[step] = {task.name: done[task.name] for task in tasks}
    ended = time.perf_counter()
    return {
        "plan_seconds": planned - started,
        "seconds": ended - listed,
        "rss_bytes": memory_bytes("VmRSS"),
        "tasks": {step: len(found) for step, found in receipts.items()},
    }


class Watched(RayRunner):
    """Knows the most tasks it ever had in flight."""

    most_in_flight = 0

    def _start(self, job: Job, tries: Any, in_flight: dict[Any, Any]) -> None:
        super()._start(job, tries, in_flight)
        self.most_in_flight = max(self.most_in_flight, len(in_flight))


def window(spec: str, max_in_flight: int | None = None) -> dict[str, Any]:
    """All tasks of ``count`` through Ray; their receipts are there, so that each ends at once."""
    loaded = load_spec(spec)
    stored = settle_plan(loaded)
    job = make_job(loaded, stored)
    tasks = step_tasks("count", job, stored, {})
    before = memory_bytes("VmRSS")
    runner = Watched("auto", max_in_flight, max_retries=0)
    try:
        started = time.perf_counter()
        num_receipts = sum(1 for _ in runner.run(job, tasks))
        seconds = time.perf_counter() - started
    finally:
        runner.close()
    return {
        "seconds": seconds,
        "tasks": len(tasks),
        "receipts": num_receipts,
        "most_in_flight": runner.most_in_flight,
        "rss_before_bytes": before,
    }
