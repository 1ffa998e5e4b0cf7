"""The driver: step after step, the tasks that have no receipt yet. Holds no data, and may die at any time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pipeline import storage
from pipeline.jobs.manifest import Manifest, is_finished, read_manifest, write_results
from pipeline.jobs.plan import Plan, counting_pass, read_plan, settle_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.runner import LocalRunner, Runner
from pipeline.jobs.tasks import SPLITS, STEPS, Job, Receipt, Task, parse_receipt, receipt_path
from pipeline.spec import JobSpec
from pipeline.stages.shuffle import num_buckets

EVALUATE_SHARDS = 64
"""Shards whose held-out documents one evaluation task takes: they are a small part of each."""

Receipts = dict[str, dict[str, Receipt]]


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
    try:
        for step in STEPS:
            step_started = time.monotonic()
            receipts[step] = _run_step(step, job, plan, receipts, runner, progress)
            step_seconds[step] = round(time.monotonic() - step_started, 3)
        retries = runner.retries
    finally:
        runner.close()
    execution = {"seconds": round(time.monotonic() - started, 3), "step_seconds": step_seconds, "retries": retries}
    manifest = write_results(job, plan, receipts, execution)
    return Outcome(manifest, False, time.monotonic() - started)


def make_runner(spec: JobSpec) -> Runner:
    """The runner that ``execution.address`` asks for. Ray is imported only if it is needed."""
    execution = spec.execution
    if execution.address == "local":
        return LocalRunner(execution.retries)
    from pipeline.jobs.ray_runner import RayRunner

    return RayRunner(execution.address, execution.max_in_flight, execution.retries)


def _run_step(
    step: str, job: Job, plan: Plan, receipts: Receipts, runner: Runner, progress: Progress
) -> dict[str, Receipt]:
    tasks = step_tasks(step, job, plan, receipts)
    done = read_receipts(job.output, step)
    missing = [task for task in tasks if task.name not in done]
    if tasks:
        progress.start(step, tasks, missing)
        for receipt in runner.run(job, sorted(missing, key=lambda task: -task.num_bytes)):
            done[receipt.name] = receipt
            progress.advance(receipt, runner.retries)
        progress.finish()
    return {task.name: done[task.name] for task in tasks}


def read_receipts(output: str, step: str) -> dict[str, Receipt]:
    """The receipts of a step, by task."""
    folder = storage.join(output, "_work/receipts", step)
    found = {}
    for name in storage.list_names(folder):
        uri = storage.join(folder, name)
        found[name.removesuffix(".json")] = parse_receipt(storage.read_bytes(uri), uri)
    return found


# --- the tasks of each step -------------------------------------------------------------------------------------------


def step_tasks(step: str, job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    """Every task of a step, done or not; needs the receipts of the steps before."""
    return _MAKERS[step](job, plan, receipts)


def _shard_name(index: int) -> str:
    return f"{index:05d}"


def _count_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    return [
        Task(
            step="count",
            name=_shard_name(shard.index),
            num_bytes=shard.num_bytes,
            params={
                "shard": shard,
                "shard_count": len(plan.shards),
                "options": plan.read_options[shard.source],
                "passes": plan.passes,
                "num_partitions": plan.num_partitions,
            },
        )
        for shard in plan.shards
    ]


def _outputs_in(receipts: Iterable[Receipt], folder: str) -> list[dict[str, Any]]:
    return [entry for receipt in receipts for entry in receipt.outputs if entry["path"].startswith(folder + "/")]


def _merge_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    tasks = []
    for counting in plan.passes:
        counted = [receipts["count"][_shard_name(shard.index)] for shard in plan.shards]
        parts = _outputs_in(counted, f"_work/count/{counting.name}")
        num_bytes = sum(part["bytes"] for part in parts) // plan.num_partitions
        for partition in range(plan.num_partitions):
            tasks.append(
                Task(
                    step="merge",
                    name=f"{counting.name}-{partition:05d}",
                    num_bytes=num_bytes,
                    params={
                        "counting": counting.name,
                        "partition": partition,
                        "num_partitions": plan.num_partitions,
                        "parts": [(p["path"], s.source) for p, s in zip(parts, plan.shards, strict=True)],
                    },
                )
            )
    return tasks


def _train_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    tasks = []
    for tokenizer in job.spec.tokenizers:
        counting = counting_pass(tokenizer).name
        parts = _outputs_in(receipts["merge"].values(), f"_work/words/{counting}")
        tasks.append(
            Task(
                step="train",
                name=tokenizer.name,
                num_bytes=sum(part["bytes"] for part in parts),
                params={"tokenizer": tokenizer, "counting": counting, "parts": parts},
            )
        )
    return tasks


def _evaluate_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    trained = [(t.name, None, receipts["train"][t.name].report["sha256"]) for t in job.spec.tokenizers]
    others = [
        (f"compare-{index}", storage.absolute(uri), plan.compare[index])
        for index, uri in enumerate(job.spec.evaluate.compare)
    ]
    tasks = []
    for index, source in enumerate(job.spec.sources):
        shards = [shard for shard in plan.shards if shard.source == index]
        held_out = [receipts["count"][_shard_name(shard.index)] for shard in shards]
        held_out = [receipt for receipt in held_out if receipt.report["documents"]["holdout"]]
        for group, start in enumerate(range(0, len(held_out), EVALUATE_SHARDS)):
            chosen = held_out[start : start + EVALUATE_SHARDS]
            for name, uri, sha256 in [*trained, *others]:
                tasks.append(
                    Task(
                        step="evaluate",
                        name=f"{name}-{source.name}-{group:05d}",
                        num_bytes=sum(receipt.report["text_bytes"]["holdout"] for receipt in chosen),
                        params={
                            "name": name,
                            "uri": uri,
                            "sha256": sha256,
                            "source": source.name,
                            "group": group,
                            "parts": [part["path"] for part in _outputs_in(chosen, "_work/holdout")],
                        },
                    )
                )
    return tasks


def _splits(job: Job) -> tuple[str, ...]:
    return SPLITS if job.spec.holdout.fraction else ("train",)


def _buckets(job: Job, plan: Plan, receipts: Receipts) -> tuple[dict[str, int], dict[str, int]]:
    """Text bytes and number of buckets of each split."""
    total = {s: sum(r.report["text_bytes"][s] for r in receipts["count"].values()) for s in SPLITS}
    return total, {split: num_buckets(total[split]) for split in SPLITS}


def _encode_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    if job.spec.pack is None:
        return []
    total, buckets = _buckets(job, plan, receipts)
    tasks = []
    for name in job.spec.pack.tokenizers:
        first = dict.fromkeys(SPLITS, 0)
        for shard in plan.shards:
            tasks.append(
                Task(
                    step="encode",
                    name=f"{name}-{_shard_name(shard.index)}",
                    num_bytes=shard.num_bytes,
                    params={
                        "shard": shard,
                        "shard_count": len(plan.shards),
                        "options": plan.read_options[shard.source],
                        "name": name,
                        "sha256": receipts["train"][name].report["sha256"],
                        "buckets": buckets,
                        "first_bytes": dict(first),
                        "total_bytes": total,
                    },
                )
            )
            text_bytes = receipts["count"][_shard_name(shard.index)].report["text_bytes"]
            first = {split: first[split] + text_bytes[split] for split in SPLITS}
    return tasks


def _pack_tasks(job: Job, plan: Plan, receipts: Receipts) -> list[Task]:
    if job.spec.pack is None:
        return []
    _, buckets = _buckets(job, plan, receipts)
    tasks = []
    for name in job.spec.pack.tokenizers:
        encoded = [receipts["encode"][f"{name}-{_shard_name(shard.index)}"] for shard in plan.shards]
        for split in _splits(job):
            parts = _outputs_in(encoded, f"_work/encode/{name}/{split}")
            for bucket in range(buckets[split]):
                tasks.append(
                    Task(
                        step="pack",
                        name=f"{name}-{split}-{bucket:05d}",
                        num_bytes=sum(part["bytes"] for part in parts) // buckets[split],
                        params={
                            "name": name,
                            "sha256": receipts["train"][name].report["sha256"],
                            "split": split,
                            "bucket": bucket,
                            "buckets": buckets[split],
                            "parts": [part["path"] for part in parts],
                        },
                    )
                )
    return tasks


_MAKERS: dict[str, Callable[[Job, Plan, Receipts], list[Task]]] = {
    "count": _count_tasks,
    "merge": _merge_tasks,
    "train": _train_tasks,
    "evaluate": _evaluate_tasks,
    "encode": _encode_tasks,
    "pack": _pack_tasks,
}


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
