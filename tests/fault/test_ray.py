"""The same job on Ray: one worker or two, any window, lost workers, failing tasks."""

from __future__ import annotations

import io
import os
import signal
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
from tests.corpus import job, published


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


def _kill_workers(stop: threading.Event, killed: list[int]) -> None:
    """SIGKILL a busy worker every now and then."""
    while not stop.wait(0.6):
        for process in psutil.process_iter(["cmdline"]):
            command = " ".join(process.info["cmdline"] or [])
            if command.startswith("ray::") and "IDLE" not in command and len(killed) < 4:
                os.kill(process.pid, signal.SIGKILL)
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
