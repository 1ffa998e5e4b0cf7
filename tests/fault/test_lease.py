"""Two drivers on one output: one wins, the other says so and stops; a dead driver's place is taken, a living one's never."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline import storage
from pipeline.errors import OutputInUse
from pipeline.jobs import lease
from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.jobs.runner import LocalRunner
from pipeline.jobs.status import status
from pipeline.jobs.tasks import Job, Receipt, Task
from tests.corpus import job, published
from tests.s3 import Bucket, Fault, Proxy

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "pipeline.jobs.cli", "run"]


class WaitingRunner(LocalRunner):
    """Waits before its first task until it is told to go on."""

    def __init__(self, go_on: threading.Event) -> None:
        super().__init__(max_in_flight=1, max_retries=0)
        self.waits = threading.Event()
        self._go_on = go_on

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        self.waits.set()
        assert self._go_on.wait(100)
        return super().run(job, tasks)


def _write(spec: dict[str, Any], path: Path) -> str:
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(spec, file)
    return str(path)


def test_the_second_driver_says_so_and_stops(corpus: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    spec, go_on = job(corpus, tmp_path / "out"), threading.Event()
    first = WaitingRunner(go_on)
    driver = threading.Thread(target=run_job, args=(parse_spec(spec), Progress(io.StringIO()), first))
    driver.start()
    assert first.waits.wait(60)
    result = subprocess.run(
        [*COMMAND, _write(spec, tmp_path / "job.yaml")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert f"error: {tmp_path}/out: another driver runs this job: process {os.getpid()} on " in result.stderr
    assert "Wait for it or stop it, or name another output" in result.stderr
    assert status(str(tmp_path / "out"))["driver"]["released"] is False
    go_on.set()
    driver.join()
    assert published(tmp_path / "out") == undisturbed
    assert status(str(tmp_path / "out"))["driver"]["released"] is True


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_of_drivers_started_at_once_one_wins(
    where: str, corpus: Path, bucket: Bucket, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    spec = job(corpus, output)
    if where == "s3":
        spec["output"] = f"{bucket.uri}/out"
    command = [*COMMAND, _write(spec, tmp_path / "job.yaml")]
    drivers = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(3)
    ]
    said = [driver.communicate(timeout=200)[1] for driver in drivers]
    assert sorted(driver.returncode for driver in drivers) == [0, 1, 1], said
    for driver, text in zip(drivers, said, strict=True):
        assert driver.returncode == 0 or "another driver" in text.splitlines()[-1]
    if where == "disk":
        assert published(output) == undisturbed


NEVER = 1e6
"""Beats so far apart that whoever waits for one runs into the test's own limit."""


def test_a_killed_driver_is_replaced_at_once(
    corpus: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    command = [*COMMAND, _write(job(corpus, output, shard_bytes=8_000), tmp_path / "job.yaml")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (output / "_work/receipts/count").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and its number still taken, as under a busy shell
    monkeypatch.setattr(lease, "BEAT_SECONDS", NEVER)
    run_job(parse_spec(job(corpus, output)), Progress(io.StringIO()))
    assert process.wait() == -signal.SIGKILL
    assert published(output) == undisturbed
    assert [found["released"] for found in lease.read_statuses(str(output))] == [False, True]


def _elsewhere(output: Path, **changes: Any) -> Path:
    """A lease as a driver on another machine leaves it."""
    path = output / "_work/driver/000001.json"
    path.parent.mkdir(parents=True)
    holder = {
        "token": "x",
        "host": "far/away",
        "process": 1,
        "started": "1",
        "released": False,
        "beat": 0.0,
        "step": "count",
    }
    path.write_text(json.dumps(holder | changes))
    return path


def _hold(output: Path) -> Any:
    return lease.hold(str(output), True, dict)


def test_a_silent_driver_elsewhere_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    _elsewhere(tmp_path)
    with _hold(tmp_path) as check:
        check()
        assert storage.list_names(f"{tmp_path}/_work/driver") == ["000001.json", "000002.json"]


def test_a_driver_elsewhere_that_writes_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.2)
    path = _elsewhere(tmp_path)
    writer = threading.Timer(0.5, lambda: path.write_text(path.read_text().replace('"beat": 0.0', '"beat": 1.0')))
    writer.start()
    with pytest.raises(OutputInUse, match="another driver runs this job: process 1 on far, in step count"), _hold(tmp_path):
        pass
    writer.join()


def test_a_released_lease_is_taken_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", NEVER)
    _elsewhere(tmp_path, released=True)
    with _hold(tmp_path) as check:
        check()


def test_who_was_taken_for_dead_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    with _hold(tmp_path) as check:
        check()
        (tmp_path / "_work/driver/000002.json").write_text((tmp_path / "_work/driver/000001.json").read_text())
        time.sleep(1)
        with pytest.raises(OutputInUse, match="another driver has taken over"):
            check()
    assert json.loads((tmp_path / "_work/driver/000002.json").read_text())["released"] is False


def _strip_conditions(_: Any) -> Fault:
    return Fault.STRIP


@pytest.mark.parametrize("decide", [lambda _: None, _strip_conditions], ids=["store that tells", "store that does not"])
def test_never_two_holders(decide: Callable[[Any], Fault | None], proxy: Proxy, bucket: Bucket) -> None:
    proxy.decide = decide
    conditional = storage.honours_conditions(bucket.uri)
    assert conditional is (decide is not _strip_conditions)
    holding, most, lock = 0, 0, threading.Lock()
    held = 0

    def compete() -> None:
        nonlocal holding, most, held
        try:
            with lease.hold(f"{bucket.uri}/out", conditional, dict):
                with lock:
                    holding += 1
                    held += 1
                    most = max(most, holding)
                time.sleep(0.3)
                with lock:
                    holding -= 1
        except OutputInUse:
            pass

    threads = [threading.Thread(target=compete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 1
    if conditional:
        assert held >= 1
