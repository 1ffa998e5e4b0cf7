"""The same job on a cluster of several nodes that come and go, and on one whose workers are stuck or run out of memory."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from pipeline.errors import TaskFailed
from pipeline.jobs import ray_runner, ray_training
from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.jobs.status import status
from pipeline.jobs.tasks import Job
from pipeline.jobs.training import WordFiles
from pipeline.trainers.partitioned import PartitionLost
from tests.corpus import job, published
from tests.fault.test_s3 import _job_on, _point_of, _published, filled  # noqa: F401
from tests.s3 import Bucket, Fault, Proxy, Request

pytestmark = pytest.mark.xdist_group("ray")

_STORE_BYTES = 80 << 20

_LITTLE_MEMORY = {"memory_usage_threshold": 0.01, "memory_monitor_refresh_ms": 50, "min_memory_free_bytes": -1}
"""Ray kills every worker, as it would one that cannot fit."""


def _run(spec: dict[str, Any]) -> None:
    run_job(parse_spec(spec), Progress(io.StringIO()))


class Nodes:
    """A head without CPUs, and two nodes with one each."""

    def __init__(self) -> None:
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": _STORE_BYTES})
        self.workers: list[Any] = []
        self.add()
        self.add()

    def add(self) -> None:
        """One more node, with one CPU."""
        self.workers.append(self.cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES))

    def node_of(self, process: int) -> Any:
        """The node whose worker a process is; None if it is no worker."""
        parents = {parent.pid for parent in psutil.Process(process).parents()}
        for node in self.workers:
            if any(info.process.pid in parents for info in node.all_processes["raylet"]):
                return node
        return None


@pytest.fixture
def nodes(proxy: Proxy) -> Iterator[Nodes]:
    made = Nodes()
    ray.init(address=made.cluster.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.cluster.shutdown()


class Remover:
    """A rule: when the first worker publishes at a point, its node is removed, in one stroke."""

    def __init__(self, nodes: Nodes, points: list[str]) -> None:
        self._nodes = nodes
        self._left = set(points)
        self._lock = threading.Lock()
        self.removed: list[str] = []

    def __call__(self, request: Request) -> Fault | None:
        point = _point_of(request)
        if point not in self._left or request.pid is None:
            return None
        with self._lock:
            node = self._nodes.node_of(request.pid)
            if node is None or point not in self._left:
                return None
            self._left.remove(point)
            self._nodes.workers.remove(node)
            self._nodes.cluster.remove_node(node, allow_graceful=False)
            self.removed.append(point)
            return Fault.RESET


def test_nodes_that_go_and_come_in_every_step(
    nodes: Nodes,
    filled: Bucket,  # noqa: F811
    proxy: Proxy,
    undisturbed: dict[str, str],
) -> None:
    points = ["_work/count", "tokenizers/training.json", "_work/encode", "packed/data"]
    proxy.decide = remover = Remover(nodes, points)
    driver = threading.Thread(target=_run, args=(_job_on(filled, address="auto"),))
    driver.start()
    while driver.is_alive():
        if len(nodes.workers) < 2:  # Ray adds nodes in the main thread only
            nodes.add()
        time.sleep(0.1)
    assert sorted(remover.removed) == sorted(points)
    assert _published(filled) == undisturbed
    # A worker may outlive its node for a moment, and hand in what it did: not every removal costs a task.
    assert sum(row["retries"] for row in status(f"{filled.uri}/out")["steps"]) > 0


def test_workers_of_a_training_go_where_there_are_cpus(nodes: Nodes, corpus: Path, tmp_path: Path) -> None:
    """Not to the head, which drives: its memory is not meant for words."""
    spec = parse_spec(job(corpus, tmp_path / "out"))
    share = WordFiles(job=Job(spec, spec.output), parts=[], weights=(1, 1), min_word_count=1)
    partitions = ray_training._RayPartitions([share] * 4)
    where = [actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()) for actor in partitions.actors]
    places = ray.get(where)
    assert set(places) == {node.node_id for node in nodes.workers}
    # An answer is large, and lies on the node of its actor; that goes before anybody has fetched it.
    answer = partitions.actors[0].__ray_call__.remote(lambda _: np.zeros(5_000_000, dtype=np.int32))
    ray.wait([answer], fetch_local=False)
    (node,) = [node for node in nodes.workers if node.node_id == places[0]]
    nodes.cluster.remove_node(node, allow_graceful=False)
    assert isinstance(partitions._answer(0, answer), PartitionLost)


def test_workers_of_a_training_that_are_killed_for_memory_are_started_anew_and_not_for_ever(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_training, "_MOST_LOSSES", 2)
    ray.init(
        "local", num_cpus=1, include_dashboard=False, object_store_memory=_STORE_BYTES, log_to_driver=False,
        _system_config=_LITTLE_MEMORY,
    )  # fmt: skip
    spec = parse_spec(job(corpus, tmp_path / "out"))
    share = WordFiles(job=Job(spec, spec.output), parts=[], weights=(1, 1), min_word_count=1)
    try:
        partitions = ray_training._RayPartitions([share])
        for _ in range(2):
            answer = partitions.actors[0].__ray_call__.remote(lambda _: time.sleep(60))
            assert isinstance(partitions._answer(0, answer), PartitionLost)
            partitions.replace(0)
        answer = partitions.actors[0].__ray_call__.remote(lambda _: time.sleep(60))
        with pytest.raises(
            TaskFailed, match=r"worker 1 of 1 of a training was lost 3 times: .*[Mm]emory.*more execution\.tr"
        ):
            partitions._answer(0, answer)
    finally:
        ray.shutdown()


def test_a_stuck_worker_does_not_hold_up_the_job(
    corpus: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_runner, "_LEAST_SECONDS", 1.0)
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=_STORE_BYTES, log_to_driver=False)
    stopped: list[int] = []

    def stop_a_worker() -> None:
        while not stopped:
            for process in psutil.process_iter(["cmdline"]):
                if not stopped and (process.info["cmdline"] or [""])[0].startswith("ray::encode"):
                    os.kill(process.pid, signal.SIGSTOP)
                    stopped.append(process.pid)
            time.sleep(0.002)

    stopper = threading.Thread(target=stop_a_worker)
    stopper.start()
    try:
        _run(job(corpus, tmp_path / "out", address="auto", shard_bytes=8_000))
    finally:
        stopped.append(0)
        stopper.join()
        ray.shutdown()
    assert len(stopped) == 2
    assert published(tmp_path / "out") == undisturbed


def test_a_task_killed_for_memory_twice_stops_the_job_by_name(
    corpus: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    ray.init(
        "local", num_cpus=2, include_dashboard=False, object_store_memory=_STORE_BYTES, log_to_driver=False,
        _system_config=_LITTLE_MEMORY,
    )  # fmt: skip
    spec = job(corpus, tmp_path / "out", address="auto", retries=100)
    try:
        with pytest.raises(TaskFailed) as error:
            _run(spec)
    finally:
        ray.shutdown()
    message = r"count \d+ was killed for memory 2 times, the last time with the CPUs of a whole node.*which reads .*\.jsonl"
    assert error.match(message)
    assert not (tmp_path / "out/_SUCCESS").exists()
    _run(job(corpus, tmp_path / "out"))
    assert published(tmp_path / "out") == undisturbed
