"""The driver: step after step, the tasks that have no receipt yet. Holds no data, and may die at any time."""

from __future__ import annotations

import gc
import logging
import time
from dataclasses import dataclass
from typing import Any

from pipeline import storage
from pipeline.jobs.manifest import Manifest, is_finished, read_manifest, write_results
from pipeline.jobs.plan import Plan, read_plan, settle_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.runner import LocalRunner, Runner
from pipeline.jobs.schedule import Receipts, step_tasks
from pipeline.jobs.steps import STEPS
from pipeline.jobs.tasks import Job, Receipt, parse_receipt, receipt_path
from pipeline.spec import JobSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did. ``was_finished``: there was nothing left to do."""

    manifest: Manifest
    was_finished: bool
    seconds: float


def run_job(spec: JobSpec, progress: Progress, runner: Runner | None = None) -> Outcome:
    """Plan, or resume, and run to the end. Raises PipelineError of any kind; run again to go on."""
    started = time.monotonic()
    plan = settle_plan(spec)
    job = Job(spec, storage.absolute(spec.output))
    if is_finished(job, plan):
        return Outcome(read_manifest(job.output), True, time.monotonic() - started)
    receipts: Receipts = {}
    step_seconds: dict[str, float] = {}
    runner = runner or make_runner(spec)
    gc.freeze()  # a vocabulary is many objects; collecting garbage while it is made need not walk over all modules too
    try:
        for step in STEPS:
            step_started = time.monotonic()
            receipts[step] = _run_step(step, job, plan, receipts, runner, progress)
            step_seconds[step] = round(time.monotonic() - step_started, 3)
        retries = runner.retries
    finally:
        gc.unfreeze()
        runner.close()
    execution = {"seconds": round(time.monotonic() - started, 3), "step_seconds": step_seconds, "retries": retries}
    manifest = write_results(job, plan, receipts, execution)
    return Outcome(manifest, False, time.monotonic() - started)


def make_runner(spec: JobSpec) -> Runner:
    """The runner that ``execution.address`` asks for. Ray is imported only if it is needed."""
    execution = spec.execution
    if execution.address == "local":
        return LocalRunner(execution.max_in_flight, execution.retries)
    from pipeline.jobs.ray_runner import RayRunner

    return RayRunner(execution.address, execution.max_in_flight, execution.retries)


def _run_step(step: str, job: Job, plan: Plan, receipts: Receipts, runner: Runner, progress: Progress) -> dict[str, Receipt]:
    tasks = step_tasks(step, job, plan, receipts)
    done = {name: receipt for name, receipt in read_receipts(job.output, step).items() if _is_whole(job, receipt)}
    missing = [task for task in tasks if task.name not in done]
    if tasks:
        progress.start(step, tasks, missing)
        for receipt in runner.run(job, sorted(missing, key=lambda task: -task.num_bytes)):
            done[receipt.name] = receipt
            progress.advance(receipt, runner.retries)
        progress.finish()
    return {task.name: done[task.name] for task in tasks}


def _is_whole(job: Job, receipt: Receipt) -> bool:
    """Whether every output of a receipt is there in full; if not, the receipt is deleted, and the task is done again."""
    for entry in receipt.outputs:
        num_bytes = storage.size_of(job.path(entry["path"]))
        if num_bytes != entry["bytes"]:
            found = "is gone" if num_bytes is None else f"has {num_bytes} bytes, not {entry['bytes']}"
            logger.warning("%s %s; %s %s is done again", entry["path"], found, receipt.step, receipt.name)
            storage.remove(job.path(receipt_path(receipt.step, receipt.name)))
            return False
    return True


def read_receipts(output: str, step: str) -> dict[str, Receipt]:
    """The receipts of a step, by task."""
    folder = storage.join(output, "_work/receipts", step)
    found = {}
    for name in storage.list_names(folder):
        uri = storage.join(folder, name)
        found[name.removesuffix(".json")] = parse_receipt(storage.read_bytes(uri), uri)
    return found


def status(output: str) -> list[dict[str, Any]]:
    """How many tasks of each step are done, from storage alone; ``total`` is None where it is not known yet."""
    plan = read_plan(output)
    totals = {"count": len(plan.shards), "merge": len(plan.passes) * plan.num_partitions}
    totals["train"] = len(plan.spec["tokenizers"])
    packed = len((plan.spec["pack"] or {"tokenizers": []})["tokenizers"])
    totals["encode"] = packed * len(plan.shards)
    rows = []
    for step in STEPS:
        folder = storage.join(output, receipt_path(step, "x").rsplit("/", 1)[0])
        rows.append({"step": step, "done": len(storage.list_names(folder)), "total": totals.get(step)})
    return rows
