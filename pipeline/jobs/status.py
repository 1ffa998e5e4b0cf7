"""How far a run is, from storage alone: its plan, its receipts, and what its drivers wrote last."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from pipeline import storage
from pipeline.jobs import lease
from pipeline.jobs.plan import Plan, read_plan
from pipeline.jobs.schedule import steps_of

Row = dict[str, Any]


def status(output: str) -> dict[str, Any]:
    """The state of a run, and a row for each step.

    Returns
    -------
    dict
        ``finished``; ``driver``: who ran last, whether it ended, and seconds since it wrote; ``steps``: for each ``done``
        and ``total`` tasks (None if not known yet), and, added up over all drivers, ``retries``, ``failed``, ``bytes``,
        ``seconds``, ``bytes_per_second``, the ``slowest`` task, and ``eta_seconds`` as the last driver saw it.

    Raises
    ------
    ArtifactError
        There is no plan.
    """
    root = storage.absolute(output)
    plan = read_plan(root)
    totals = _totals(plan)
    done = Counter(name.split("/", 1)[0] for name in storage.list_names(storage.join(root, "_work/receipts")))
    drivers = lease.read_statuses(root)
    finished = storage.exists(storage.join(root, "_SUCCESS"))
    return {
        "finished": finished,
        "driver": _driver(drivers[-1]) if drivers else None,
        "steps": [
            _row(step, done[step], totals.get(step), [d.get("steps", {}).get(step) for d in drivers], finished)
            for step in steps_of(plan)
        ],
    }


def _totals(plan: Plan) -> dict[str, int]:
    """The number of tasks in those steps where the plan tells it."""
    num_packed = len((plan.spec["pack"] or {"tokenizers": []})["tokenizers"])
    return {
        "count": len(plan.shards),
        "units": len(plan.shards) * any(counting.step == "units" for counting in plan.passes),
        "merge": len(plan.passes) * plan.num_partitions,
        "subwords": len(set(plan.subwords.values())),
        "train": len(plan.trained_on),
        "pool": len(plan.spec["tokenizers"]) - len(plan.trained_on),
        "encode": num_packed * len(plan.shards),
    }


def _driver(last: Row) -> Row:
    silent = round(max(0.0, time.time() - last["beat"]), 1)
    return {key: last[key] for key in ("host", "process", "released", "step") if key in last} | {"silent_seconds": silent}


def _row(step: str, done: int, total: int | None, figures: list[Row | None], finished: bool) -> Row:
    known = [row for row in figures if row is not None]
    total = known[-1]["total"] if known else total
    slowest = max((row["slowest"] for row in known if row["slowest"]), key=lambda task: task["seconds"], default=None)
    sums = {key: sum(row[key] for row in known) for key in ("retries", "failed", "bytes")}
    sums["seconds"] = round(sum(row["seconds"] for row in known), 3)
    return {
        "step": step,
        "done": total if finished and not done else done,  # _work may have been deleted
        "total": total,
        **sums,
        "bytes_per_second": round(sums["bytes"] / sums["seconds"]) if sums["seconds"] else 0,
        "slowest": slowest,
        "eta_seconds": known[-1]["eta_seconds"] if known else None,
    }
