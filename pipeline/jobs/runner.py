"""Run tasks in this process. The seam that ``ray_runner`` fills for a cluster."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol

from pipeline.errors import PipelineError, StorageError, TaskFailed
from pipeline.jobs.steps import run_task
from pipeline.jobs.tasks import Job, Receipt, Task

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """Runs tasks in any order; yields a receipt for each as it ends. ``retries``: how many attempts were repeated."""

    retries: int

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        """Start the tasks in the order given; raises PipelineError if one failed for good."""
        ...

    def close(self) -> None:
        """Release what the runner holds."""
        ...


class LocalRunner:
    """Threads of this process, one for each of its CPUs: kernels, Arrow and polars work side by side.

    With ``max_in_flight`` 1 there are no threads: what a debugger wants, and the measure for every other runner.
    """

    def __init__(self, max_in_flight: int | None, max_retries: int) -> None:
        self.retries = 0
        self._lock = threading.Lock()
        self._max_retries = max_retries
        num_threads = min(max_in_flight or sys.maxsize, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(num_threads, "task") if num_threads > 1 else None

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        """See ``Runner``."""
        if self._pool is None:
            for task in tasks:
                yield self._attempt(job, task)
            return
        futures = [self._pool.submit(self._attempt, job, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

    def _attempt(self, job: Job, task: Task) -> Receipt:
        for attempt in range(self._max_retries + 1):
            try:
                return run_task(job, task)
            except StorageError as error:
                if attempt == self._max_retries:
                    raise gave_up(task, attempt + 1, error) from error
                with self._lock:
                    self.retries += 1
                logger.warning("%s: %s; trying again", task.label, error)
                time.sleep(min(0.2 * 2**attempt, 10))
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Wait for the tasks that still run."""
        if self._pool is not None:
            self._pool.shutdown()


def gave_up(task: Task, attempts: int, error: BaseException) -> PipelineError:
    """The error of a task that failed for good; what the user's data caused stays what it is."""
    if isinstance(error, PipelineError) and not isinstance(error, StorageError):
        return error
    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return TaskFailed(f"{task.label} failed after {times}: {error}")
