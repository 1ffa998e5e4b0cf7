"""The same job with everything on S3: the same bytes, through faults and kills at every point of publishing."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ruamel.yaml import YAML

from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.jobs.steps import STEPS
from tests.corpus import job
from tests.s3 import Bucket, Fault, Proxy, Request, some_faults

ROOT = Path(__file__).parents[2]


def _job_on(bucket: Bucket, **execution: Any) -> dict[str, Any]:
    """The job of ``tests.corpus`` with its sources and its output in a bucket."""
    spec = job(Path(), Path(), **execution)
    spec["output"] = f"{bucket.uri}/out"
    for source in spec["sources"]:
        source["uris"] = [f"{bucket.uri}/corpus/{uri}" for uri in source["uris"]]
    return spec


def _published(bucket: Bucket) -> dict[str, str]:
    """As ``corpus.published``, from the server itself."""
    keys = [*bucket.keys("out/tokenizers/"), *bucket.keys("out/packed/")]
    return {key.removeprefix("out/"): hashlib.sha256(bucket.read(key)).hexdigest() for key in keys}


def _run(spec: dict[str, Any]) -> None:
    run_job(parse_spec(spec), Progress(io.StringIO()))


@pytest.fixture
def filled(bucket: Bucket, corpus: Path) -> Bucket:
    """A bucket that holds the corpus."""
    for path in corpus.rglob("*.jsonl"):
        bucket.put(f"corpus/{path.relative_to(corpus)}", path.read_bytes())
    return bucket


def test_the_same_bytes_as_on_disk(filled: Bucket, undisturbed: dict[str, str]) -> None:
    _run(_job_on(filled))
    assert _published(filled) == undisturbed
    assert filled.uploads() == []


def test_one_call_of_twenty_fails(filled: Bucket, proxy: Proxy, undisturbed: dict[str, str]) -> None:
    faults = (Fault.SLOW_DOWN, Fault.RESET, Fault.RESET_AFTER, Fault.CUT, Fault.STALL)
    proxy.decide = some_faults(0.05, faults, seed=2)
    _run(_job_on(filled, retries=10))
    assert _published(filled) == undisturbed
    assert set(proxy.faults()) == set(faults)
    assert sum(proxy.faults().values()) > len(proxy.seen) / 40


# --- kills ------------------------------------------------------------------------------------------------------------

_TASK_POINTS = [
    *(f"_work/receipts/{step}" for step in STEPS),
    *(f"_work/{kind}" for kind in ("holdout", "count", "words", "evaluate", "encode")),
    *("tokenizers/tokenizer.json", "tokenizers/training.json", "packed/data"),
]
"""What tasks publish: workers are killed at each."""

_DRIVER_POINTS = ["plan.json", "packed/dataset_info.json", "report/report.json", "manifest.json", "_SUCCESS"]


def _point_of(request: Request) -> str | None:
    """At which point of publishing a request makes an object visible; None for other requests."""
    if request.operation not in ("put", "complete upload") or "/out/" not in request.path:
        return None
    path = request.path.split("/out/", 1)[1]
    top, *_, name = ["", *path.split("/")] if "/" not in path else path.split("/")
    if top == "_work":
        return "/".join(path.split("/")[: 3 if path.startswith("_work/receipts") else 2])
    if top == "packed" and name.endswith(".arrow"):
        return "packed/data"
    return f"{top}/{name}".lstrip("/")


class Killer:
    """A rule: at each point, one client is killed before the object is there, and another one after."""

    def __init__(self, points: list[str]) -> None:
        self._left = {point: [Fault.KILL_AFTER, Fault.KILL] for point in points}
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Fault | None:
        point = _point_of(request)
        with self._lock:
            faults = self._left.get(point or "")
            return faults.pop() if faults and request.is_foreign else None


def _kills(proxy: Proxy) -> dict[str, set[Fault]]:
    """What really happened, by point."""
    kills: dict[str, set[Fault]] = {}
    for seen in proxy.seen:
        if seen.fault in (Fault.KILL, Fault.KILL_AFTER):
            kills.setdefault(_point_of(seen.request) or "elsewhere", set()).add(seen.fault)
    return kills


@pytest.fixture
def cluster(proxy: Proxy) -> Iterator[None]:
    """Two workers that are clients of the proxy."""
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_workers_killed_at_every_point_of_publishing(filled: Bucket, proxy: Proxy, undisturbed: dict[str, str]) -> None:
    proxy.decide = Killer(_TASK_POINTS)
    _run(_job_on(filled, address="auto", retries=40))
    assert _published(filled) == undisturbed
    assert _kills(proxy) == {point: {Fault.KILL, Fault.KILL_AFTER} for point in _TASK_POINTS}


def test_the_driver_killed_at_every_point_of_publishing(
    filled: Bucket, proxy: Proxy, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    proxy.decide = Killer(_DRIVER_POINTS)
    with (tmp_path / "job.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(_job_on(filled), file)
    command = [sys.executable, "-m", "pipeline.jobs.cli", "run", str(tmp_path / "job.yaml")]
    statuses = []
    while not statuses or (statuses[-1] == -9 and len(statuses) < 50):
        statuses.append(subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode)
    assert statuses == [-9] * 2 * len(_DRIVER_POINTS) + [0]
    assert _published(filled) == undisturbed
    assert _kills(proxy) == {point: {Fault.KILL, Fault.KILL_AFTER} for point in _DRIVER_POINTS}
