"""The same job with everything on S3: the same bytes, through faults and kills at every point of publishing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ruamel.yaml import YAML

from pipeline import storage
from pipeline.errors import ArtifactError, DataError, SpecError, TaskFailed
from pipeline.jobs import ray_runner
from pipeline.jobs.load import parse_spec
from pipeline.jobs.manifest import verify
from pipeline.jobs.plan import settle_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import make_job, run_job
from pipeline.jobs.schedule import step_tasks
from pipeline.jobs.status import status
from pipeline.jobs.steps import STEPS, run_task
from tests.corpus import job
from tests.fault.test_same_bytes import StoppingRunner
from tests.s3 import Bucket, Fault, Proxy, Request, impatient, some_faults, use

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


# --- a store without conditions ---------------------------------------------------------------------------------------


def _strip(request: Request) -> Fault | None:
    return Fault.STRIP if "if-none-match" in request.headers else None


def test_a_store_without_conditions_gives_the_same_bytes(
    filled: Bucket, proxy: Proxy, undisturbed: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    proxy.decide = _strip
    spec = parse_spec(_job_on(filled))
    plan = settle_plan(spec)
    assert plan.conditional is False
    assert json.loads(filled.read("out/plan.json"))["conditional"] is False
    (warning,) = caplog.messages
    assert warning.startswith(f"{filled.uri}/out: the store does not keep to `create only if absent` (S3: If-None-Match)")
    assert make_job(spec, plan).conditional is False
    with pytest.raises(KeyboardInterrupt):
        run_job(spec, Progress(io.StringIO()), StoppingRunner(7))
    stripped = proxy.faults()[Fault.STRIP]
    _run(_job_on(filled, address="local"))
    assert _published(filled) == undisturbed
    assert caplog.messages == [warning]  # once: the plan knows it from then on
    assert proxy.faults()[Fault.STRIP] == stripped  # nobody relies on the condition any more
    claims = [key for key in filled.keys("out/") if key.endswith(".claim")]
    assert {key.split("/")[3] for key in claims if "/receipts/" in key} == set(STEPS)
    assert verify(f"{filled.uri}/out", lambda _: None) > 0


def test_a_store_with_conditions_is_used_with_them(filled: Bucket, proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    assert settle_plan(parse_spec(_job_on(filled))).conditional is True
    assert json.loads(filled.read("out/plan.json"))["conditional"] is True
    assert caplog.messages == []
    assert filled.keys("out/") == ["out/plan.json"]


def test_two_attempts_that_differ_stop_the_job_without_conditions_too(bucket: Bucket, proxy: Proxy, tmp_path: Path) -> None:
    """The input is another one of the same size and date, and the receipt of the first attempt is gone; not its claim."""
    proxy.decide = _strip
    path = tmp_path / "words.txt"
    path.write_text("alpha beta\n" * 20)
    times = path.stat()
    spec = parse_spec(
        {
            "name": "x",
            "output": f"{bucket.uri}/out",
            "sources": [{"name": "main", "uris": [str(path)], "documents": "line"}],
            "holdout": {"fraction": 0},
            "tokenizers": [{"name": "tok", "vocab_size": 260}],
            "execution": {"address": "local"},
        }
    )
    plan = settle_plan(spec)
    job = make_job(spec, plan)
    (task,) = step_tasks("count", job, plan, {})
    first = run_task(job, task)
    assert run_task(job, task) == first
    receipt = f"{bucket.uri}/out/_work/receipts/count/00000.json"
    storage.remove(receipt)
    assert run_task(job, task).outputs == first.outputs  # the same bytes again are no quarrel
    storage.remove(receipt)
    path.write_text("omega beta\n" * 20)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(
        ArtifactError, match=r"^count 00000: two attempts gave different bytes; .*00000\.json is the first's"
    ):
        run_task(job, task)


# --- inputs that change -----------------------------------------------------------------------------------------------


def test_an_input_that_changed_before_a_resume_is_named(filled: Bucket, proxy: Proxy) -> None:
    """Of the same size, so that it is the etag that tells; put back, the job may go on."""
    spec = _job_on(filled)
    with pytest.raises(KeyboardInterrupt):
        run_job(parse_spec(spec), Progress(io.StringIO()), StoppingRunner(2))
    content = filled.read("corpus/a/part-1.jsonl")
    before = filled.keys("out/")
    filled.put("corpus/a/part-1.jsonl", content.replace(b"mill", b"mull"))
    with pytest.raises(
        SpecError, match=r"belongs to another job: the input part-1\.jsonl has changed since the plan was made"
    ):
        _run(spec)
    assert filled.keys("out/") == before
    filled.put("corpus/a/part-1.jsonl", content)
    settle_plan(parse_spec(spec))


@pytest.mark.parametrize("times", [1, 100], ids=["once", "again and again"])
def test_an_input_that_changes_while_a_task_reads_it_is_named(times: int, filled: Bucket, proxy: Proxy) -> None:
    """It changes between the moment at which the task looked at it and that at which its bytes are sent."""
    key = "corpus/a/part-1.jsonl"
    contents = [filled.read(key), filled.read(key).replace(b"mill", b"mull")]
    changes: list[int] = []
    lock = threading.Lock()

    def meddle(request: Request) -> Fault | None:
        with lock:
            if request.operation == "get" and request.path.endswith(key) and len(changes) < times:
                changes.append(request.number)
                filled.put(key, contents[len(changes) % 2])
        return None

    spec = parse_spec(_job_on(filled, retries=2))
    settle_plan(spec)
    proxy.decide = meddle
    with pytest.raises(
        (DataError, TaskFailed), match=rf"{filled.uri}/{key}.*count \d+, which reads {filled.uri}/{key}"
    ) as error:
        run_job(spec, Progress(io.StringIO()))
    assert changes
    if times == 1:
        assert error.type is DataError
        assert "has changed since the plan was made; put the old file back, or name another output" in str(error.value)
    assert "out/_SUCCESS" not in filled.keys("out/")


# --- kills ------------------------------------------------------------------------------------------------------------

_TASK_POINTS = [
    *(f"_work/receipts/{step}" for step in STEPS),
    *(f"_work/{kind}" for kind in ("holdout", "count", "units", "words", "subwords", "evaluate", "encode")),
    *("tokenizers/tokenizer.json", "tokenizers/training.json", "tokenizers/pool.json", "packed/data"),
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


@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("cluster")
def test_workers_killed_at_every_point_of_publishing(filled: Bucket, proxy: Proxy, undisturbed: dict[str, str]) -> None:
    proxy.decide = Killer(_TASK_POINTS)
    _run(_job_on(filled, address="auto", retries=40))
    assert _published(filled) == undisturbed
    assert _kills(proxy) == {point: {Fault.KILL, Fault.KILL_AFTER} for point in _TASK_POINTS}


@pytest.mark.xdist_group("ray")
def test_a_task_that_fails_on_workers_as_often_as_it_may(
    filled: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task cannot publish; the attempts are those of the spec, and they are counted."""
    monkeypatch.setattr(ray_runner, "_LEAST_SECONDS", 1e6)  # nothing is called late
    use(proxy.env | impatient(attempts=1), monkeypatch)

    def refuse(request: Request) -> Fault | None:
        return Fault.RESET if _point_of(request) == "_work/holdout" and "part-00001-of" in request.path else None

    proxy.decide = refuse
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    try:
        with pytest.raises(
            TaskFailed, match=r"^count 00001 failed after 3 attempts: .*: cannot write: .*; in task count 00001"
        ):
            _run(_job_on(filled, address="auto", retries=2))
    finally:
        ray.shutdown()
    count = status(f"{filled.uri}/out")["steps"][0]
    assert (count["retries"], count["failed"]) == (2, 1)
    assert "out/_work/receipts/count/00001.json" not in filled.keys("out/")


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
