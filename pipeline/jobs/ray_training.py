"""Training on several workers of a Ray cluster: actors that each own a part of the words, and may be lost. The third, and
last, home of Ray.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from pipeline.jobs.steps import run_task
from pipeline.jobs.tasks import Job, Receipt, Task
from pipeline.jobs.training import WordFigures, WordFiles, read_words
from pipeline.trainers.partitioned import Partition, PartitionLost, Partitions, words_of


def run_task_on_ray(job: Job, task: Task) -> Receipt:
    """``run_task`` inside a Ray task: if training wants several workers, they are actors."""
    return run_task(job, task, open_ray_partitions)


class _Worker:
    """An actor: reads its words, and does as it is told. One that was lost reads them again elsewhere."""

    def __init__(self, share: WordFiles) -> None:
        words, counts, self._figures = read_words(share)
        self._partition = Partition(words_of(words, counts))

    def figures(self) -> WordFigures:
        """What there is to train on."""
        return self._figures

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """A method of ``Partition``."""
        return getattr(self._partition, method)(*arguments)


class _RayPartitions:
    """See ``trainers.partitioned.Partitions``."""

    def __init__(self, shares: Sequence[WordFiles]) -> None:
        # Without a CPU of their own: a task that waits for actors, which wait for CPUs that such tasks hold, would wait for
        # ever. The task that asks them waits while they work, so that it is one worker too many at most.
        self._actor: Any = ray.remote(_Worker).options(num_cpus=0, scheduling_strategy="SPREAD")
        self._shares = shares
        self.actors: list[Any] = [self._actor.remote(share) for share in shares]

    def __len__(self) -> int:
        return len(self._shares)

    def call(self, method: str, arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        references = {index: self.actors[index].call.remote(method, args) for index, args in arguments.items()}
        return {index: _answer(reference) for index, reference in references.items()}

    def replace(self, index: int) -> None:
        ray.kill(self.actors[index])
        self.actors[index] = self._actor.remote(self._shares[index])

    def figures(self) -> list[WordFigures]:
        """Of each share, asked until no worker is lost meanwhile."""
        found: list[Any] = [PartitionLost()] * len(self)
        while lost := [index for index, figures in enumerate(found) if isinstance(figures, PartitionLost)]:
            references = {index: self.actors[index].figures.remote() for index in lost}
            for index, reference in references.items():
                found[index] = _answer(reference)
                if isinstance(found[index], PartitionLost):
                    self.replace(index)
        return found


def _answer(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayActorError as error:
        if (cause := getattr(error, "cause", None)) is not None:  # it could not read its words
            raise cause from None
        return PartitionLost()


@contextlib.contextmanager
def open_ray_partitions(shares: Sequence[WordFiles]) -> Iterator[tuple[Partitions, list[WordFigures]]]:
    """Workers that are actors of this cluster, spread over its nodes."""
    partitions = _RayPartitions(shares)
    try:
        yield partitions, partitions.figures()
    finally:
        for actor in partitions.actors:
            ray.kill(actor)
