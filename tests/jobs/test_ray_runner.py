"""Which Ray a job uses: its own, or the one that was named; never what is dead, and never another job's."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.jobs.status import status
from tests.corpus import documents, job, published, write_jsonl

pytestmark = pytest.mark.xdist_group("ray")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for name in ("a", "b"):
        write_jsonl(root / name / "all.jsonl", documents(40, seed=ord(name)))
    return root


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for a Ray that nobody else finds; short, for the sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="tm", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def dead_address() -> Iterator[str]:
    """Where nobody listens, and nobody will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def begin(small_corpus: Path, tmp_path: Path, home: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a job as a command whose Ray, if it starts one, lies in ``home``."""
    begun = []

    def start(name: str, variables: dict[str, str] | None = None, **execution: Any) -> subprocess.Popen[str]:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(job(small_corpus, tmp_path / name, **{"address": "auto", **execution})))
        env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        env |= {"RAY_TMPDIR": str(home), **(variables or {})}
        command = [sys.executable, "-m", "pipeline.jobs.cli", "run", str(path)]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        begun.append(process)
        return process

    yield start
    for process in begun:
        with process:
            process.kill()


def sessions(home: Path) -> list[Path]:
    """Every Ray that was ever started there."""
    return [path for path in (home / "ray").glob("session_*") if not path.is_symlink()]


def test_what_a_dead_head_left_behind_is_passed_over(
    begin: Callable[..., subprocess.Popen[str]], home: Path, dead_address: str, tmp_path: Path
) -> None:
    """Ray itself would try for a minute, and fail."""
    (home / "ray").mkdir()
    (home / "ray/ray_current_cluster").write_text(dead_address)
    find = "from ray._private.services import find_bootstrap_address as find; print(find(None))"
    env = os.environ | {"RAY_TMPDIR": str(home)}
    found = subprocess.run([sys.executable, "-c", find], env=env, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == dead_address  # it is the file that Ray looks into
    process = begin("out")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert dead_address not in err
    assert status(str(tmp_path / "out"))["finished"] is True
    assert len(sessions(home)) == 1


@pytest.mark.parametrize("how", ["RAY_ADDRESS", "execution.address"])
def test_a_head_that_was_named_and_is_dead_is_an_error(
    begin: Callable[..., subprocess.Popen[str]], home: Path, dead_address: str, how: str
) -> None:
    """The pause of a dead head would be minutes: the test's own limit is shorter."""
    if how == "RAY_ADDRESS":
        process, shown = begin("out", {"RAY_ADDRESS": dead_address}), "auto"
    else:
        process, shown = begin("out", address=dead_address), dead_address
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert re.fullmatch(
        rf"error: execution\.address is '{shown}': no Ray cluster answers at {dead_address}; ray start --head starts one\n",
        err,
    )
    assert sessions(home) == []


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_another_jobs_own_ray_is_not_joined(
    begin: Callable[..., subprocess.Popen[str]], home: Path, small_corpus: Path, tmp_path: Path
) -> None:
    """It ends with that job, here by a kill, and the second job does not care."""
    first = begin("first", shard_bytes=500, max_in_flight=1)
    wait_for((tmp_path / "first/_work/receipts/count").exists)
    second = begin("second")
    wait_for((tmp_path / "second/_work/receipts/count").exists)
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert len(sessions(home)) == 2
    assert status(str(tmp_path / "first"))["finished"] is False
    run_job(parse_spec(job(small_corpus, tmp_path / "third")), Progress(io.StringIO()))
    assert published(tmp_path / "second") == published(tmp_path / "third")


def test_a_job_whose_own_ray_loses_its_node_stops(
    begin: Callable[..., subprocess.Popen[str]], small_corpus: Path, tmp_path: Path
) -> None:
    """Nobody would ever start another node for it."""
    soon = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "2"}
    process = begin("out", soon, shard_bytes=500, max_in_flight=1, retries=0)
    wait_for((tmp_path / "out/_work/receipts/count").exists)
    (raylet,) = [p for p in psutil.Process(process.pid).children(recursive=True) if p.name() == "raylet"]
    raylet.kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "run the same command to go on" in err.splitlines()[-1]
    again = begin("out", address="local")
    assert again.communicate(timeout=120)
    assert again.returncode == 0


def test_attempts_and_bytes_are_metrics_of_the_node(small_corpus: Path, tmp_path: Path) -> None:
    """What Prometheus would be told, once Ray has passed it on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(
        "local", num_cpus=2, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False,
        _metrics_export_port=port, _system_config={"metrics_report_interval_ms": 500},
    )  # fmt: skip
    seen: dict[str, float] = {}
    try:
        run_job(parse_spec(job(small_corpus, tmp_path / "out", address="auto")), Progress(io.StringIO()))
        rows = {row["step"]: row for row in status(str(tmp_path / "out"))["steps"]}
        (node,) = ray.nodes()  # type: ignore[no-untyped-call]
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        wanted = {f"attempts {step} done": row["done"] for step, row in rows.items()}
        wanted |= {f"bytes {step}": row["bytes"] for step, row in rows.items()}

        def all_there() -> bool:
            with urllib.request.urlopen(url, timeout=20) as answer:
                text = answer.read().decode()
            for line in text.splitlines():
                if match := re.match(r"(?:ray_)?tokenmill_(attempts|bytes)(?:_total)?\{(.*)\} (\S+)$", line):
                    labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
                    key = " ".join([match[1], labels["step"], *([labels["outcome"]] if "outcome" in labels else [])])
                    seen[key] = float(match[3])
            return seen == wanted

        deadline = time.monotonic() + 40
        while not all_there() and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        ray.shutdown()
    assert seen == wanted
