"""The local runner: threads or none, errors, repeated attempts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.errors import DataError, StorageError, TaskFailed
from pipeline.jobs import runner as runner_module
from pipeline.jobs.runner import LocalRunner
from pipeline.jobs.tasks import Receipt, Task

JOB: Any = None


def receipt(task: Task) -> Receipt:
    return Receipt(task.step, task.name, (), {}, 0.0)


def tasks(count: int) -> list[Task]:
    return [Task(step="count", name=f"{n:02}", num_bytes=1, params={}) for n in range(count)]


@pytest.fixture
def make_runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LocalRunner]]:
    """A runner on a machine of four CPUs that does ``work`` instead of its tasks, and never sleeps between attempts."""
    made: list[LocalRunner] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(runner_module.time, "sleep", lambda _: None)

    def make(work: Callable[[Task], Receipt], max_in_flight: int | None = None, max_retries: int = 0) -> LocalRunner:
        monkeypatch.setattr(runner_module, "run_task", lambda job, task: work(task))
        made.append(LocalRunner(max_in_flight, max_retries))
        return made[-1]

    yield make
    for runner in made:
        runner.close()


@pytest.mark.parametrize("max_in_flight", [None, 1, 2, 9])
def test_a_receipt_for_each_task(make_runner: Callable[..., LocalRunner], max_in_flight: int | None) -> None:
    runner = make_runner(receipt, max_in_flight)
    for count in (0, 1, 20):
        assert sorted(found.name for found in runner.run(JOB, tasks(count))) == [task.name for task in tasks(count)]
    assert runner.retries == 0


@pytest.mark.parametrize(("max_in_flight", "side_by_side"), [(None, 4), (2, 2), (9, 4)])
def test_as_many_tasks_side_by_side_as_allowed(
    make_runner: Callable[..., LocalRunner], max_in_flight: int | None, side_by_side: int
) -> None:
    """No more than that, and all of those: each waits until the others are there too."""
    lock, meeting = threading.Lock(), threading.Barrier(side_by_side, timeout=20)
    running, most = set[int](), 0

    def meet(task: Task) -> Receipt:
        nonlocal most
        with lock:
            running.add(threading.get_ident())
            most = max(most, len(running))
        meeting.wait()
        with lock:
            running.discard(threading.get_ident())
        return receipt(task)

    assert len(list(make_runner(meet, max_in_flight).run(JOB, tasks(3 * side_by_side)))) == 3 * side_by_side
    assert most == side_by_side


def test_without_threads_tasks_run_here_and_in_order(make_runner: Callable[..., LocalRunner]) -> None:
    seen: list[tuple[int, str]] = []

    def work(task: Task) -> Receipt:
        seen.append((threading.get_ident(), task.name))
        return receipt(task)

    for number, found in enumerate(make_runner(work, 1).run(JOB, tasks(3)), start=1):
        assert found.name == seen[-1][1]
        assert len(seen) == number  # the next task starts when it is asked for
    assert seen == [(threading.get_ident(), task.name) for task in tasks(3)]


@pytest.mark.parametrize("max_in_flight", [1, 2])
def test_an_error_surfaces_and_no_further_task_starts(make_runner: Callable[..., LocalRunner], max_in_flight: int) -> None:
    started: list[str] = []

    def work(task: Task) -> Receipt:
        started.append(task.name)
        if task.name == "01":
            raise DataError("line 3: no text")
        if task.name > "01":
            raised.wait(20)
        return receipt(task)

    raised = threading.Event()
    runner = make_runner(work, max_in_flight, 5)
    with pytest.raises(
        DataError, match=r"^line 3: no text; in task count 01; to run it alone: tokenmill run SPEC --only count/01$"
    ):
        list(runner.run(JOB, tasks(40)))
    raised.set()
    runner.close()
    assert started.count("01") == 1  # the user's data stay as they are: no second attempt
    assert len(started) < 6
    assert runner.retries == 0


@pytest.mark.parametrize("max_in_flight", [1, 3])
def test_trouble_with_storage_is_tried_again_and_counted(
    make_runner: Callable[..., LocalRunner], max_in_flight: int
) -> None:
    lock, attempts = threading.Lock(), dict[str, int]()

    def work(task: Task) -> Receipt:
        with lock:
            attempts[task.name] = attempts.get(task.name, 0) + 1
            if attempts[task.name] <= int(task.name) % 3:
                raise StorageError("connection reset")
        return receipt(task)

    runner = make_runner(work, max_in_flight, 2)
    assert len(list(runner.run(JOB, tasks(9)))) == 9
    assert attempts == {task.name: 1 + int(task.name) % 3 for task in tasks(9)}
    assert runner.retries == 9


@pytest.mark.parametrize("max_in_flight", [1, 3])
def test_trouble_that_does_not_end_names_the_task(make_runner: Callable[..., LocalRunner], max_in_flight: int) -> None:
    def work(task: Task) -> Receipt:
        if task.name == "02":
            raise StorageError("connection reset")
        return receipt(task)

    runner = make_runner(work, max_in_flight, 2)
    with pytest.raises(TaskFailed, match="count 02 failed after 3 attempts: connection reset"):
        list(runner.run(JOB, tasks(4)))
    assert runner.retries == 2


def test_each_wait_is_twice_as_long_up_to_half_a_minute() -> None:
    (task,) = tasks(1)
    waits = [runner_module.wait_before_retry(task, attempt, StorageError("x")) for attempt in range(1, 2_000)]
    assert waits[:7] == pytest.approx([0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6])
    assert set(waits[7:]) == {30.0}


@pytest.mark.parametrize("max_in_flight", [1, 2])
def test_between_attempts_it_waits_that_long(
    make_runner: Callable[..., LocalRunner], monkeypatch: pytest.MonkeyPatch, max_in_flight: int
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(runner_module.time, "sleep", waited.append)

    def work(_: Task) -> Receipt:
        raise StorageError("full")

    runner = make_runner(work, max_in_flight, 9)
    with pytest.raises(TaskFailed, match="count 00 failed after 10 attempts: full"):
        list(runner.run(JOB, tasks(1)))
    assert waited == pytest.approx([0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0])
    assert runner.retries == 9


def test_who_stops_asking_for_receipts_stops_the_tasks(make_runner: Callable[..., LocalRunner]) -> None:
    started: list[str] = []
    stopped = threading.Event()

    def work(task: Task) -> Receipt:
        started.append(task.name)
        if task.name > "01":
            stopped.wait(20)
        return receipt(task)

    runner = make_runner(work, 2)
    receipts = runner.run(JOB, tasks(40))
    next(receipts)
    receipts.close()  # type: ignore[attr-defined]
    stopped.set()
    runner.close()
    assert len(started) < 6
