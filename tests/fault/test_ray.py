"""The same job on Ray: one worker or two, any window, lost workers, failing tasks."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from pipeline.errors import DataError
from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.jobs.steps import STEPS
from tests.corpus import job, published

pytestmark = pytest.mark.xdist_group("ray")

ROOT = Path(__file__).parents[2]
BUSY = tuple(f"ray::{step}" for step in STEPS)
"""What a worker is called while it does a task. Ray's own agents are called ``ray::`` too, and end their node with them."""


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def cluster(request: pytest.FixtureRequest) -> Iterator[int]:
    ray.init("local", num_cpus=request.param, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    yield request.param
    ray.shutdown()


def _run(spec: dict[str, Any]) -> None:
    run_job(parse_spec(spec), Progress(io.StringIO()))


def test_workers_and_window_do_not_matter(cluster: int, corpus: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    for max_in_flight in (None, 1, 7):
        output = tmp_path / f"out-{max_in_flight}"
        _run(job(corpus, output, address="auto", max_in_flight=max_in_flight))
        assert published(output) == undisturbed


_GROWTH = """
import json, sys, threading, time
import ray
from ray.cluster_utils import Cluster
from pipeline.jobs import ray_runner
from pipeline.jobs.load import load_spec
from pipeline.jobs.plan import settle_plan
from pipeline.jobs.ray_runner import RayRunner
from pipeline.jobs.schedule import step_tasks
from pipeline.jobs.tasks import Job

class Watched(RayRunner):
    started = 0

    def _start(self, *attempt):
        self.started += 1
        super()._start(*attempt)

def run():
    for done, _ in enumerate(runner.run(job, tasks), start=1):
        waiting.append(runner.started - done)

ray_runner._LEAST_WINDOW = 2
ray_runner._CPUS_ARE_NEWS_SECONDS = 0.0
spec = load_spec(sys.argv[1])
job = Job(spec, spec.output)
tasks = step_tasks("count", job, settle_plan(spec), {})
waiting = []
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
ray.init(cluster.address, log_to_driver=False)
runner = Watched("auto", max_in_flight=None, max_retries=0)
running = threading.Thread(target=run)
running.start()
time.sleep(1)
waiting.append(runner.started)
cluster.add_node(num_cpus=3)
running.join()
ray.shutdown()
cluster.shutdown()
print(json.dumps([len(tasks), waiting]))
"""


def test_a_cluster_that_grows_is_used(corpus: Path, tmp_path: Path) -> None:
    """At first there is a head without a CPU; what waits is all that an autoscaler has to go by."""
    spec = tmp_path / "job.json"
    spec.write_text(json.dumps(job(corpus, tmp_path / "out", shard_bytes=10_000)))
    command = [sys.executable, "-c", _GROWTH, str(spec)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    num_tasks, waiting = json.loads(done.stdout)
    assert waiting[0] == 2
    assert max(waiting) == 5  # twice three, and one of them has just ended
    assert len(waiting) - 1 == num_tasks


def _kill_workers(stop: threading.Event, killed: list[int]) -> None:
    """SIGKILL a busy worker every now and then; of this process, for other Ray instances may run beside it."""
    while not stop.wait(0.6):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if " ".join(process.cmdline()).startswith(BUSY) and len(killed) < 4:
                    process.kill()
                    killed.append(process.pid)
                    break


def test_killed_workers_change_nothing(corpus: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    stop, killed = threading.Event(), list[int]()
    killer = threading.Thread(target=_kill_workers, args=(stop, killed))
    killer.start()
    try:
        _run(job(corpus, tmp_path / "out", address="auto", retries=10, shard_bytes=2_000))
    finally:
        stop.set()
        killer.join()
        ray.shutdown()
    assert killed
    assert published(tmp_path / "out") == undisturbed


def test_bad_data_stops_the_job_and_is_not_retried(corpus: Path, tmp_path: Path) -> None:
    bad = tmp_path / "corpus/b/all.jsonl"
    bad.parent.mkdir(parents=True)
    bad.write_text('{"text": "fine"}\n{"text": 7}\n')
    spec = job(corpus, tmp_path / "out", address="auto")
    spec["sources"][1]["uris"] = [str(bad)]
    ray.init("local", num_cpus=1, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    started = time.monotonic()
    try:
        with pytest.raises(DataError, match=r"all\.jsonl: the line at byte 17: column 'text' is int"):
            _run(spec)
    finally:
        ray.shutdown()
    assert time.monotonic() - started < 120
    assert not (tmp_path / "out/_SUCCESS").exists()
