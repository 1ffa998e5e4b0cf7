"""How far a run is: from storage alone, over all who drove it, while it runs and after it failed."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.jobs import lease
from pipeline.jobs.cli import main
from pipeline.jobs.load import parse_spec
from pipeline.jobs.plan import read_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.jobs.runner import LocalRunner
from pipeline.jobs.status import status
from pipeline.jobs.steps import STEPS
from pipeline.jobs.tasks import Job, Receipt, Task, read_receipts
from tests.corpus import documents, job, write_jsonl
from tests.s3 import Bucket, Proxy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    """Some sixty tasks."""
    for name in ("a", "b"):
        write_jsonl(tmp_path / f"corpus/{name}/all.jsonl", documents(40, seed=ord(name)))
    return job(tmp_path / "corpus", tmp_path / "out", shard_bytes=3_000)


class StoppingRunner(LocalRunner):
    """Waits, and then is interrupted, after some tasks of a step."""

    def __init__(self, step: str, tasks: int) -> None:
        super().__init__(max_in_flight=1, max_retries=0)
        self.waits, self.go_on = threading.Event(), threading.Event()
        self._step, self._left = step, tasks

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        for receipt in super().run(job, tasks):
            yield receipt
            if receipt.step == self._step:
                self._left -= 1
                if self._left == 0:
                    self.waits.set()
                    assert self.go_on.wait(100)
                    raise KeyboardInterrupt


def stop_in(spec: dict[str, Any], step: str, tasks: int) -> None:
    runner = StoppingRunner(step, tasks)
    runner.go_on.set()
    with pytest.raises(KeyboardInterrupt):
        run_job(parse_spec(spec), Progress(io.StringIO()), runner)


def finish(spec: dict[str, Any]) -> None:
    run_job(parse_spec(spec), Progress(io.StringIO()))


def rows(output: str) -> dict[str, dict[str, Any]]:
    return {row["step"]: row for row in status(output)["steps"]}


def test_steps_that_the_plan_knows_have_a_total_before_they_start(spec: dict[str, Any]) -> None:
    stop_in(spec, "count", 1)
    shards = len(read_plan(spec["output"]).shards)
    found = rows(spec["output"])
    assert list(found) == list(STEPS)
    assert {step: row["total"] for step, row in found.items()} == {
        "count": shards, "units": shards, "merge": 4, "subwords": 1, "train": 3, "pool": 1, "evaluate": None,
        "encode": 2 * shards, "pack": None,
    }  # fmt: skip
    assert {step: row["done"] for step, row in found.items()} == dict.fromkeys(STEPS, 0) | {"count": 1}
    finish(spec)
    assert all(row["done"] == row["total"] > 0 for row in rows(spec["output"]).values())
    assert {step: rows(spec["output"])[step]["total"] for step in ("count", "merge", "train", "encode")} == {
        "count": shards, "merge": 4, "train": 3, "encode": 2 * shards,
    }  # fmt: skip


def test_figures_are_added_up_over_all_drivers(spec: dict[str, Any]) -> None:
    output = spec["output"]
    stop_in(spec, "count", 3)
    first = rows(output)["count"]
    assert (first["done"], first["retries"], first["failed"]) == (3, 0, 0)  # an interrupt is no failure
    assert first["eta_seconds"] >= 0
    stop_in(spec, "encode", 2)
    stop_in(spec, "encode", 4)
    assert rows(output)["encode"]["done"] == 6
    finish(spec)
    found = rows(output)
    assert len(lease.read_statuses(output)) == 4
    plan = read_plan(output)
    # Each task was done by one driver, so their bytes are those of the step.
    assert found["count"]["bytes"] == plan.num_bytes
    assert found["encode"]["bytes"] == 2 * plan.num_bytes
    for step, row in found.items():
        seconds = {name: receipt.seconds for name, receipt in read_receipts(output, step).items()}
        assert row["done"] == len(seconds)
        assert seconds[row["slowest"]["task"]] == row["slowest"]["seconds"] == max(seconds.values())
        assert row["seconds"] == pytest.approx(
            sum(driver["steps"][step]["seconds"] for driver in lease.read_statuses(output) if step in driver["steps"])
        )
        assert row["bytes_per_second"] == (round(row["bytes"] / row["seconds"]) if row["seconds"] else 0)
        assert row["eta_seconds"] == 0
    assert status(output)["finished"] is True


def test_a_killed_driver_and_the_next(spec: dict[str, Any], tmp_path: Path) -> None:
    output = Path(spec["output"])
    (tmp_path / "job.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "pipeline.jobs.cli", "run", str(tmp_path / "job.json")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((output / "_work/receipts/encode").rglob("[!.]*.json")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    facts = status(str(output))
    assert facts["finished"] is False
    assert facts["driver"]["released"] is False  # it had no time to say so
    assert facts["driver"]["process"] == process.pid
    assert facts["driver"]["silent_seconds"] >= 0
    found = {row["step"]: row for row in facts["steps"]}
    for step in ("count", "merge", "train", "evaluate"):
        assert found[step]["done"] == len(read_receipts(str(output), step)) > 0
    assert 0 < found["encode"]["done"] < found["encode"]["total"]
    finish(spec)
    again = rows(str(output))
    assert all(row["done"] == row["total"] for row in again.values())
    # What the dead one did not come to write down is nowhere; what the second did is known to the byte.
    (_, second) = lease.read_statuses(str(output))
    assert second["steps"]["encode"]["found"] == found["encode"]["done"]
    assert second["steps"]["count"]["found"] == found["count"]["done"]
    assert again["encode"]["bytes"] >= second["steps"]["encode"]["bytes"] > 0


def test_while_a_driver_runs(
    spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    output, runner = spec["output"], StoppingRunner("count", 4)

    def drive() -> None:
        with pytest.raises(KeyboardInterrupt):
            run_job(parse_spec(spec), Progress(io.StringIO()), runner)

    driver = threading.Thread(target=drive)
    driver.start()
    try:
        assert runner.waits.wait(60)
        shutil.rmtree(Path(output).parent / "corpus")  # nobody but tasks needs them
        done = read_receipts(output, "count")
        slowest = max(receipt.seconds for receipt in done.values())
        deadline = time.monotonic() + 30
        while (rows(output)["count"]["slowest"] or {}).get("seconds") != slowest and time.monotonic() < deadline:
            time.sleep(0.02)  # until the driver has written that it knows of them all
        facts = status(output)
        assert (facts["finished"], facts["driver"]["released"], facts["driver"]["step"]) == (False, False, "count")
        row = facts["steps"][0]
        assert row["done"] == len(done) == 4
        assert row["slowest"]["seconds"] == slowest
        assert 0 < row["bytes"] < read_plan(output).num_bytes
        assert row["total"] == len(read_plan(output).shards)
        assert main(["status", output]) == 0
        told = capsys.readouterr().out.splitlines()
        assert re.match(rf"count     4/{row['total']} (· [\d.]+ k?B/s )?· slowest: \d{{5}}, [\d.]+ s", told[0])
        assert told[2] == "merge     0/4"
        assert told[5:7] == ["pool      0/1", "evaluate  0/?"]
        assert re.fullmatch(rf"process {facts['driver']['process']} on \S+ wrote \d+ s ago that it is running", told[-1])
        assert main(["status", output, "--json"]) == 0
        machine = json.loads(capsys.readouterr().out)
        assert machine["steps"][1:] == facts["steps"][1:]
        assert machine["steps"][0]["done"] == 4
    finally:
        runner.go_on.set()
        driver.join()
    assert status(output)["driver"]["released"] is True


_LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pipeline.jobs.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(["run", *sys.argv[1:]]))
"""


def test_after_a_failure(spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Training writes a file larger than may be: tried three times, then the job stops."""
    spec["execution"]["max_in_flight"] = 1
    (tmp_path / "job.json").write_text(json.dumps(spec))
    command = [sys.executable, "-c", _LIMITED, str(tmp_path / "job.json"), "--set", "execution.retries=2"]
    for failures in (1, 2):
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
        assert result.returncode == 1
        (step,) = re.findall(r"^error: (\w+) \S+ failed after 3 attempts", result.stderr, re.MULTILINE)
        found = rows(spec["output"])
        assert (found[step]["retries"], found[step]["failed"]) == (2 * failures, failures)
        assert found[step]["done"] < found[step]["total"]
        assert sum(row["failed"] for row in found.values()) == failures
    assert status(spec["output"])["driver"]["released"] is True
    assert main(["status", spec["output"]]) == 0
    told = capsys.readouterr().out
    assert re.search(rf"^{step} +\d+/\d+ · 4 retries · 2 failed", told, re.MULTILINE)
    assert told.endswith("not finished: run the same command again to go on\n")
    finish(spec)
    found = rows(spec["output"])
    assert (found[step]["retries"], found[step]["failed"], found[step]["done"]) == (4, 2, found[step]["total"])


def test_on_s3_it_only_reads(spec: dict[str, Any], proxy: Proxy, bucket: Bucket) -> None:
    spec["output"] = f"{bucket.uri}/out"
    stop_in(spec, "count", 2)
    shutil.rmtree(Path(spec["sources"][0]["uris"][0]).parents[1])
    before = {key: bucket.read(key) for key in bucket.keys("")}
    proxy.seen.clear()
    facts = status(spec["output"])
    assert (facts["finished"], facts["driver"]["released"]) == (False, True)
    assert (facts["steps"][0]["done"], facts["steps"][1]["done"]) == (2, 0)
    assert 0 < facts["steps"][0]["bytes"] < read_plan(spec["output"]).num_bytes
    assert set(proxy.operations()) <= {"get", "list", "head"}
    assert {key: bucket.read(key) for key in bucket.keys("")} == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"steps": {}}'])
def test_a_drivers_file_that_is_damaged(spec: dict[str, Any], content: bytes) -> None:
    """Its figures are lost, nothing else."""
    stop_in(spec, "count", 1)
    path = Path(spec["output"]) / "_work/driver/000001.json"
    path.write_bytes(content)
    found = status(spec["output"])
    assert found["driver"] is None
    assert found["steps"][0]["done"] > 0
