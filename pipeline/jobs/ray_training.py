"""Training on several workers of a Ray cluster: actors that each own a part of the words, and may be lost. The third, and
last, home of Ray.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import ActorUnschedulableError, ObjectLostError, OutOfMemoryError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.errors import PipelineError, TaskFailed
from pipeline.jobs.steps import run_task
from pipeline.jobs.tasks import Job, Receipt, Task
from pipeline.jobs.training import WordFigures, WordFiles, read_share
from pipeline.trainers.partitioned import Partition, PartitionLost, Partitions

_MOST_LOSSES = 8
"""So often may a worker of a training be lost, each time after a longer pause."""

_LONGEST_PAUSE = 30.0

_LOST = (RayActorError, ActorUnschedulableError, ObjectLostError, OutOfMemoryError)
"""The worker is gone, has no node to be on, was killed for memory; or its answer went with its node."""


def run_task_on_ray(job: Job, task: Task) -> Receipt:
    """``run_task`` inside a Ray task: if training wants several workers, they are actors."""
    return run_task(job, task, open_ray_partitions)


class _Worker:
    """An actor: reads its words when it is first asked for something, and then does as it is told."""

    def __init__(self, share: WordFiles) -> None:
        self._share = share
        self._partition: Partition | None = None

    def figures(self) -> WordFigures:
        """What there is to train on."""
        words, figures = read_share(self._share)
        self._partition = Partition(words)
        return figures

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """A method of ``Partition``."""
        if self._partition is None:
            self.figures()
        return getattr(self._partition, method)(*arguments)


class _RayPartitions:
    """See ``trainers.partitioned.Partitions``. Actors go to the nodes that have CPUs, in turn."""

    def __init__(self, shares: Sequence[WordFiles]) -> None:
        self._shares = shares
        self._losses = [0] * len(shares)
        self.actors = [self._start(index) for index in range(len(shares))]

    def _start(self, index: int) -> Any:
        # Without a CPU of its own: a task that waits for actors, which wait for CPUs that such tasks hold, would wait for
        # ever. The task that asks them waits while they work, so that it is one worker too many at most.
        options: dict[str, Any] = {"num_cpus": 0}
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # ray does not say
        if with_cpus := sorted(node["NodeID"] for node in nodes if node["Alive"] and node["Resources"].get("CPU")):
            node_id = with_cpus[(index + self._losses[index]) % len(with_cpus)]
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)
        return ray.remote(_Worker).options(**options).remote(self._shares[index])

    def __len__(self) -> int:
        return len(self._shares)

    def call(self, method: str, arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        references = {index: self.actors[index].call.remote(method, args) for index, args in arguments.items()}
        return {index: self._answer(index, reference) for index, reference in references.items()}

    def replace(self, index: int) -> None:
        ray.kill(self.actors[index])
        time.sleep(min(2.0 ** self._losses[index] / 4, _LONGEST_PAUSE))
        self.actors[index] = self._start(index)

    def figures(self) -> list[WordFigures]:
        """Of each share, asked until no worker is lost meanwhile."""
        found: list[Any] = [PartitionLost()] * len(self)
        while lost := [index for index, figures in enumerate(found) if isinstance(figures, PartitionLost)]:
            references = {index: self.actors[index].figures.remote() for index in lost}
            for index, reference in references.items():
                found[index] = self._answer(index, reference)
                if isinstance(found[index], PartitionLost):
                    self.replace(index)
        return found

    def _answer(self, index: int, reference: Any) -> Any:
        """What an actor says; PartitionLost if it is gone, and TaskFailed if that has happened too often."""
        try:
            return ray.get(reference)
        except _LOST as error:
            self._losses[index] += 1
            if self._losses[index] > _MOST_LOSSES:
                num_bytes = sum(entry["bytes"] for _, entry in self._shares[index].parts)
                raise TaskFailed(
                    f"worker {index + 1} of {len(self)} of a training was lost {self._losses[index]} times: "
                    f"{' '.join(str(error).split())} It holds {num_bytes / 1e6:.0f} MB of words, which take about twenty "
                    "times that much; with more execution.train_workers each takes less"
                ) from None
            return PartitionLost()
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, PipelineError) else error from None


@contextlib.contextmanager
def open_ray_partitions(shares: Sequence[WordFiles]) -> Iterator[tuple[Partitions, list[WordFigures]]]:
    """Workers that are actors of this cluster, spread over its nodes.

    Raises
    ------
    PipelineError
        Words cannot be read, or a worker is lost again and again.
    """
    partitions = _RayPartitions(shares)
    try:
        yield partitions, partitions.figures()
    finally:
        for actor in partitions.actors:
            ray.kill(actor)
