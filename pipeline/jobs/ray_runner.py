"""Run tasks on a Ray cluster; the only home of Ray.

Plain tasks in a bounded window; a task returns its receipt and nothing else, all data goes through storage. Retried: lost
workers (by Ray) and StorageError. An out-of-memory kill is retried once, then the job stops.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.errors import PipelineError, StorageError, TaskFailed
from pipeline.jobs.runner import gave_up
from pipeline.jobs.steps import run_task
from pipeline.jobs.tasks import Job, Receipt, Task

_OBJECT_STORE_BYTES = 100 << 20
"""Receipts only; Ray's own default is 30 % of the machine's memory."""

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS", "ARROW_IO_THREADS"), "1"
) | {"TOKENIZERS_PARALLELISM": "false"}


class RayRunner:
    """``address``: ``auto`` (a running cluster, else one starts here) or a cluster's address."""

    def __init__(self, address: str, max_in_flight: int | None, max_retries: int) -> None:
        self.retries = 0
        self._max_retries = max_retries
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            _connect(address)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cpus = int(resources.get("CPU", 1))
        self._window = max_in_flight or 2 * cpus

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        """See ``runner.Runner``. Tasks start in the order given; at most ``max_in_flight`` are submitted at once."""
        options = {"num_cpus": 1, "max_retries": self._max_retries, "retry_exceptions": [StorageError]}
        remote = ray.remote(run_task).options(**options)
        shared = ray.put(job)
        waiting = iter(tasks)
        in_flight: dict[Any, Task] = {}
        try:
            while True:
                while len(in_flight) < self._window and (task := next(waiting, None)) is not None:
                    in_flight[remote.remote(shared, task)] = task
                if not in_flight:
                    return
                ready, _ = ray.wait(list(in_flight), num_returns=1)
                for reference in ready:
                    yield self._result(reference, in_flight.pop(reference))
        finally:
            for reference in in_flight:
                ray.cancel(reference, force=True)

    def _result(self, reference: Any, task: Task) -> Receipt:
        try:
            return ray.get(reference)  # type: ignore[no-any-return]
        except PipelineError as error:  # Ray's error is also of the class of the task's own error
            cause = error.cause if isinstance(error, RayTaskError) else error
            raise gave_up(task, self._max_retries + 1, cause) from None
        except RayTaskError:
            raise  # a bug: the remote traceback is what helps
        except RayError as error:
            first_line = str(error).strip().split("\n")[0]
            raise TaskFailed(
                f"{task.label} failed: {type(error).__name__}: {first_line}; run the same command to go on"
            ) from error

    def close(self) -> None:
        """Leave the cluster, or stop the one that was started here."""
        if self._owns_ray:
            ray.shutdown()


def _connect(address: str) -> None:
    os.environ.setdefault("RAY_task_oom_retries", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    there = {"runtime_env": {"env_vars": _ONE_THREAD}, **quiet}
    if address != "auto":
        try:
            ray.init(address=address, **there)
        except (ConnectionError, ValueError) as error:
            raise TaskFailed(f"execution.address is {address!r}: no Ray cluster answers there: {error}") from error
        return
    try:
        ray.init(address="auto", **there)
    except ConnectionError:
        # Workers inherit this environment: unlike with a runtime_env, those that Ray starts ahead of time can be used.
        os.environ.update(_ONE_THREAD)
        ray.init(include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **quiet)
