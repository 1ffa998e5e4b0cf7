"""Whatever runs the job, in whatever order and however often it was stopped: the same bytes."""

from __future__ import annotations

import io
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.jobs.runner import LocalRunner
from pipeline.jobs.steps import STEPS, run_task
from pipeline.jobs.tasks import Job, Receipt, Task
from tests.corpus import job, published

ROOT = Path(__file__).parents[2]
TOKENMILL = [sys.executable, "-m", "pipeline.jobs.cli"]


def _run(spec: dict[str, Any], runner: LocalRunner | None = None) -> None:
    run_job(parse_spec(spec), Progress(io.StringIO()), runner)


def _write(spec: dict[str, Any], path: Path) -> str:
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(spec, file)
    return str(path)


class ShuffledRunner(LocalRunner):
    """Runs the tasks of a step in a random order, some of them twice."""

    def __init__(self, seed: int) -> None:
        super().__init__(max_in_flight=1, max_retries=0)
        self._chance = random.Random(seed)

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        order = list(tasks)
        self._chance.shuffle(order)
        for task in order:
            if self._chance.random() < 0.3:
                run_task(job, task)
            yield run_task(job, task)


class StoppingRunner(LocalRunner):
    """Dies after some tasks, as a killed driver does: without a word, between two receipts."""

    def __init__(self, tasks: int) -> None:
        super().__init__(max_in_flight=1, max_retries=0)
        self._left = tasks

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        for receipt in super().run(job, tasks):
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
            yield receipt


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_tasks_and_repeated_tasks_do_not_matter(
    seed: int, corpus: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    _run(job(corpus, tmp_path / "out"), ShuffledRunner(seed))
    assert published(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("shard_bytes", [1_000, 5_000, None], ids=str)
def test_the_size_of_shards_does_not_matter(
    shard_bytes: int | None, corpus: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    _run(job(corpus, tmp_path / "out", shard_bytes=shard_bytes))
    assert published(tmp_path / "out") == undisturbed


def test_stopped_after_every_few_tasks(corpus: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    spec = job(corpus, tmp_path / "out")
    stops = 0
    while True:
        try:
            _run(spec, StoppingRunner(tasks=4))
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > len(STEPS)
    assert published(tmp_path / "out") == undisturbed
    assert not list((tmp_path / "out").rglob(".*.tmp"))


def _wait_for_receipt(output: Path, step: str, process: subprocess.Popen[bytes], seconds: float) -> None:
    """Until the first receipt of a step is there, or the process has ended."""
    folder = output / "_work/receipts" / step
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if any(True for _ in folder.rglob("[!.]*.json")):
            return
        time.sleep(0.001)


def _kill_in_step(step: str, arguments: list[str], output: Path) -> int:
    """Start the command and SIGKILL it as soon as the step has its first receipt; returns its exit status."""
    process = subprocess.Popen(
        [*TOKENMILL, "run", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for_receipt(output, step, process, seconds=120)
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait()
    return process.returncode


@pytest.mark.parametrize("address", ["local", pytest.param("auto", marks=pytest.mark.xdist_group("ray"))])
def test_the_driver_killed_in_every_step(address: str, corpus: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "out"
    spec = _write(job(corpus, output, address=address), tmp_path / "job.yaml")
    statuses = [_kill_in_step(step, [spec], output) for step in STEPS]
    assert statuses.count(-signal.SIGKILL) >= len(STEPS) - 1  # the last step may end before the signal arrives
    result = subprocess.run([*TOKENMILL, "run", spec], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert published(output) == undisturbed
    assert not list(output.rglob(".*.tmp"))
    verified = subprocess.run([*TOKENMILL, "verify", str(output)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stderr
