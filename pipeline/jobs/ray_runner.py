"""Run tasks on a Ray cluster; the first home of Ray.

Plain tasks in a bounded window; a task returns its receipt and nothing else, all data goes through storage. Ray itself
retries nothing: here it is known why an attempt ended, and how often that may happen.
"""

from __future__ import annotations

import heapq
import json
import logging
import os
import re
import socket
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray._private.services import find_bootstrap_address
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.util import metrics

from pipeline.errors import PipelineError, SpecError, StorageError, TaskFailed
from pipeline.jobs.ray_training import run_task_on_ray
from pipeline.jobs.runner import gave_up, wait_before_retry, where
from pipeline.jobs.tasks import Job, Receipt, Task

logger = logging.getLogger(__name__)

_OBJECT_STORE_BYTES = 100 << 20
"""Receipts only; Ray's own default is 30 % of the machine's memory."""

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS", "ARROW_IO_THREADS"), "1"
) | {"TOKENIZERS_PARALLELISM": "false"}

_MOST_KILLS = 2
"""So often is a task killed for memory; the second time it had the CPUs of a whole node."""

_SMALLER_SHARDS = "cut the input smaller: a lower execution.shard_bytes with another output, or smaller compressed files"
_REMEDIES = {
    "count": "set a lower execution.task_memory_bytes",
    "merge": "set a lower execution.task_memory_bytes",
    "train": "more execution.train_workers, or a higher min_word_count",
}

_MOST_LOST_NODES = 20
"""So often may the node of a task be lost, which is not the task's fault: spot machines go all the time."""

_LONG = 3.0
_LEAST_SECONDS = 10.0
"""An attempt is late if it takes longer than this, and so many times longer than is usual for its size."""

_NEVER_TWICE = {"train"}
"""Steps whose tasks differ too much for one to be called late."""

_LEAST_WINDOW = 64
"""Tasks that are submitted to a cluster that has few CPUs, or none yet: an autoscaler goes by what is waiting."""

_CPUS_ARE_NEWS_SECONDS = 5.0
_LONG_WITHOUT_NODES = 60.0


@dataclass(slots=True)
class _Tries:
    """What has become of the attempts at a task. ``running``: those that are under way."""

    task: Task
    ended: Counter[str] = field(default_factory=Counter)
    running: dict[Any, float] = field(default_factory=dict)
    is_alone: bool = False


_SUBMITTED_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the driver of a submitted job, and by nobody else: the runtime_env that the job was sent with."""


class RayRunner:
    """``address``: ``auto`` (a running cluster, else one starts here) or a cluster's address. ``task_memory``: bytes that
    are reserved for each task, if any.
    """

    def __init__(self, address: str, max_in_flight: int | None, max_retries: int, task_memory: int | None = None) -> None:
        self.retries = 0
        self._connected = not ray.is_initialized()
        self.started_ray = self._connected and _connect(address)
        self._max_retries = max_retries
        self._max_in_flight = max_in_flight
        self._options: dict[str, Any] = {"num_cpus": 1, "max_retries": 0}
        if task_memory is not None:
            self._options["memory"] = task_memory
        self._remote = ray.remote(run_task_on_ray)
        self._cpus = 0
        self._cpus_asked = -_CPUS_ARE_NEWS_SECONDS
        self._fit_seen = time.monotonic()
        self._attempts = metrics.Counter("tokenmill_attempts", "Attempts at tasks, by how they ended", ("step", "outcome"))
        self._bytes = metrics.Counter("tokenmill_bytes", "Bytes of work done", ("step",))

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        """See ``runner.Runner``. Tasks start in the order given; at most ``max_in_flight`` are submitted at once."""
        waiting = deque(_Tries(task) for task in tasks)
        resting: list[tuple[float, int, _Tries]] = []  # those to be tried again, and when
        in_flight: dict[Any, _Tries] = {}
        self._rates: list[float] = []
        everything_runs = time.monotonic()
        try:
            while waiting or resting or in_flight:
                now = time.monotonic()
                while resting and resting[0][0] <= now:
                    waiting.appendleft(heapq.heappop(resting)[2])
                window = self._window(now)
                while waiting and len(in_flight) < window:
                    self._start(job, waiting.popleft(), in_flight)
                if waiting or resting or len(in_flight) > self._cpus:
                    everything_runs = now
                else:
                    self._start_late_ones_again(job, in_flight, everything_runs)
                ready, _ = ray.wait(list(in_flight), num_returns=1, timeout=1.0) if in_flight else ([], [])
                if not in_flight:
                    time.sleep(max(0.0, resting[0][0] - now))
                for reference in ready:
                    if (receipt := self._ended(reference, in_flight, resting)) is not None:
                        yield receipt
        finally:
            for reference in in_flight:
                ray.cancel(reference, force=True)

    def _ended(
        self, reference: Any, in_flight: dict[Any, _Tries], resting: list[tuple[float, int, _Tries]]
    ) -> Receipt | None:
        """The receipt of an attempt that has ended; None if the task will be tried again, or was done by another attempt."""
        tries = in_flight.pop(reference)
        started = tries.running.pop(reference)
        step = tries.task.step
        try:
            receipt: Receipt = ray.get(reference)
        except RayError as error:
            self._attempts.inc(1, {"step": step, "outcome": type(_cause(error)).__name__})
            if not tries.running:
                wait = self._wait_before_retry(tries, error)
                heapq.heappush(resting, (time.monotonic() + wait, id(tries), tries))
            return None
        self._attempts.inc(1, {"step": step, "outcome": "done"})
        self._bytes.inc(max(tries.task.num_bytes, 1), {"step": step})
        self._rates.append((time.monotonic() - started) / max(tries.task.num_bytes, 1))
        for other in tries.running:
            del in_flight[other]
            ray.cancel(other, force=True)
        return receipt

    def _window(self, now: float) -> int:
        """How many tasks may be submitted: more than can run, so that none waits, and an autoscaler sees what is wanted."""
        if now - self._cpus_asked >= _CPUS_ARE_NEWS_SECONDS:
            memory = self._options.get("memory", 0)
            fit = [node for node in _nodes() if node.get("memory", 0) >= memory]
            self._cpus, self._cpus_asked = sum(int(node["CPU"]) for node in fit), now
            if fit:
                self._fit_seen = now
            elif self.started_ray and not _nodes():  # a cluster may get new ones, this one will not
                raise TaskFailed("the Ray that was started here has lost its only node; run the same command to go on")
            elif self.started_ray:
                raise SpecError(f"execution.task_memory_bytes is {memory}; no task may take so much here: {_nodes()}")
            elif now - self._fit_seen > _LONG_WITHOUT_NODES:
                wanted = f"a CPU and {memory:,} bytes of memory" if memory else "a CPU"
                logger.warning("for %.0f s no node of the cluster has had %s; tasks wait", now - self._fit_seen, wanted)
        return self._max_in_flight or max(_LEAST_WINDOW, 2 * self._cpus)

    def _start(self, job: Job, tries: _Tries, in_flight: dict[Any, _Tries]) -> None:
        options = dict(self._options)
        if tries.is_alone:  # all CPUs of the smallest node: whatever nodes come and go, it fits one
            options["num_cpus"] = min((int(node["CPU"]) for node in _nodes()), default=1)
        if tries.task.memory_bytes:  # several trainings side by side take a node's memory only as far as it goes
            largest = max((int(node.get("memory", 0)) for node in _nodes()), default=0)
            options["memory"] = max(options.get("memory", 0), min(tries.task.memory_bytes, largest))
        reference = self._remote.options(**options, name=tries.task.label).remote(job, tries.task)
        tries.running[reference] = time.monotonic()
        in_flight[reference] = tries

    def _start_late_ones_again(self, job: Job, in_flight: dict[Any, _Tries], everything_runs: float) -> None:
        """Try what takes too long a second time, side by side, when nothing else is left: its node may be slow or stuck.
        Whoever publishes the receipt first is taken; both would publish the same.
        """
        if len(self._rates) < 3:
            return
        now, usual = time.monotonic(), statistics.median(self._rates)
        for tries in {id(tries): tries for tries in in_flight.values()}.values():
            seconds = now - max(everything_runs, *tries.running.values())
            is_late = seconds > max(_LEAST_SECONDS, _LONG * usual * tries.task.num_bytes)
            if is_late and len(tries.running) == 1 and tries.task.step not in _NEVER_TWICE:
                logger.warning("%s takes long: %.0f s; it is tried a second time, side by side", tries.task.label, seconds)
                self.retries += 1
                self._start(job, tries, in_flight)

    def _wait_before_retry(self, tries: _Tries, error: RayError) -> float:
        """Seconds until the next attempt; raises the error if there is none."""
        task = tries.task
        if isinstance(error, OutOfMemoryError):
            tries.ended["memory"] += 1
            if tries.ended["memory"] >= _MOST_KILLS:
                raise TaskFailed(
                    f"{task.label} was killed for memory {_MOST_KILLS} times, the last time with the CPUs of a whole node. "
                    f"Take nodes with more memory, or {_REMEDIES.get(task.step, _SMALLER_SHARDS)}; in {where(task)}"
                ) from error
            tries.is_alone = True
        elif isinstance(error, NodeDiedError | LocalRayletDiedError):
            tries.ended["node"] += 1
            if tries.ended["node"] > _MOST_LOST_NODES:
                raise TaskFailed(f"{task.label} lost its node {_MOST_LOST_NODES} times; in {where(task)}") from error
        elif isinstance(error, StorageError | WorkerCrashedError):  # Ray's error is also of the class of the task's own
            tries.ended["failure"] += 1
            if tries.ended["failure"] > self._max_retries:
                raise gave_up(task, tries.ended["failure"], _cause(error)) from error
        elif isinstance(error, PipelineError):
            raise gave_up(task, 1, _cause(error)) from None
        elif not isinstance(error, RayTaskError):
            first_line = str(error).strip().split("\n")[0]
            raise TaskFailed(
                f"{task.label} failed: {type(error).__name__}: {first_line}; run the same command to go on; in {where(task)}"
            ) from error
        else:  # a bug: the remote traceback is what helps
            error.add_note(f"in {where(task)}")
            raise error
        self.retries += 1
        return wait_before_retry(task, tries.ended.total(), _cause(error))

    def close(self) -> None:
        """Leave the cluster, or stop the one that was started here."""
        if self._connected:
            ray.shutdown()


def _cause(error: BaseException) -> BaseException:
    return error.cause if isinstance(error, RayTaskError) else error


def _nodes() -> list[dict[str, float]]:
    """The resources of each node that has a CPU."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # ray does not say
    return [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU")]


def _connect(address: str) -> bool:
    """Join a cluster, or start Ray; whether it was started here.

    ``auto`` joins what ``RAY_ADDRESS`` or the last ``ray start`` on this machine names. Not any Ray that runs here, as Ray
    itself would: that of another job ends with it. And a head that was killed is not waited for, as Ray would for a minute.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    submitted = json.loads(os.environ.get(_SUBMITTED_JOB, "null"))
    named = os.environ.get("RAY_ADDRESS") if address == "auto" else address
    found = named or find_bootstrap_address(None)
    if not named and not submitted and (found is None or not _answers(found)):
        # Workers inherit this environment: unlike with a runtime_env, those that Ray starts ahead of time can be used.
        os.environ.update(ONE_THREAD)
        ray.init(address="local", include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **quiet)
        return True
    if found and re.fullmatch(r"[^/]+:\d+", found) and not _answers(found):  # Ray would wait, and then end this process
        raise TaskFailed(f"execution.address is {address!r}: no Ray cluster answers at {found}; ray start --head starts one")
    try:
        ray.init(address=found, runtime_env={"env_vars": _missing_variables(submitted)}, **quiet)
    except (ConnectionError, ValueError) as error:
        raise TaskFailed(f"execution.address is {address!r}: no Ray cluster answers at {found}: {error}") from error
    return False


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            return True
    except (OSError, ValueError):
        return False


def _missing_variables(submitted: dict[str, Any] | None) -> dict[str, str]:
    """The variables of one thread that a submitted job was not sent with: Ray refuses one that is given twice."""
    given = ((submitted or {}).get("runtime_env") or {}).get("env_vars") or {}
    return {name: value for name, value in ONE_THREAD.items() if name not in given}
