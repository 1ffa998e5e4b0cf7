"""Run tasks in this process, and what every runner has in common: when a task is tried again, and when the job stops."""

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

_LONGEST_WAIT = 30.0


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
        for attempt in range(1, self._max_retries + 2):
            try:
                return run_task(job, task)
            except StorageError as error:
                if attempt > self._max_retries:
                    raise gave_up(task, attempt, error) from error
                with self._lock:
                    self.retries += 1
                time.sleep(wait_before_retry(task, attempt, error))
            except PipelineError as error:
                raise gave_up(task, attempt, error) from error
            except Exception as error:
                error.add_note(f"in {where(task)}")
                raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Wait for the tasks that still run."""
        if self._pool is not None:
            self._pool.shutdown()


def wait_before_retry(task: Task, attempt: int, error: BaseException) -> float:
    """Say that a task is tried again; returns after how many seconds: each time twice as long."""
    logger.warning("%s: %s; trying again", task.label, str(error).split("\n")[0])
    return min(0.2 * 2.0 ** min(attempt, 10), _LONGEST_WAIT)


def where(task: Task) -> str:
    """Which task it is, what it reads, and how it is run alone."""
    reads = f", which reads {task.reads}" if task.reads else ""
    return f"task {task.label}{reads}; to run it alone: tokenmill run SPEC --only {task.step}/{task.name}"


def gave_up(task: Task, attempts: int, error: BaseException) -> PipelineError:
    """The error of a task that failed for good; what the user's data caused stays what it is."""
    if isinstance(error, PipelineError) and not isinstance(error, StorageError):
        return type(error)(f"{error}; in {where(task)}")
    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return TaskFailed(f"{task.label} failed after {times}: {error}; in {where(task)}")
