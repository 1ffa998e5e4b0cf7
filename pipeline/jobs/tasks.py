"""What a task is, and what it leaves: outputs and a receipt.

A task is one step applied to one shard, partition, tokenizer or bucket. It reads and writes storage and returns its
receipt, nothing else. ``jobs.steps`` does the work, ``jobs.schedule`` says which tasks there are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import storage
from pipeline.errors import ArtifactError
from pipeline.spec import JobSpec

SPLITS = ("train", "holdout")
FORMAT_VERSION = 1

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """What every task knows: the spec, and the output as an absolute path or URI."""

    spec: JobSpec
    output: str

    def path(self, *parts: str) -> str:
        """A path below the output."""
        return storage.join(self.output, *parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """``num_bytes``: how large the work is, to start the largest first. ``params``: what the step's function takes."""

    step: str
    name: str
    num_bytes: int
    params: dict[str, Any]

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.step} {self.name}"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A task's published record: its outputs (path below the output directory, bytes, sha256) and its figures."""

    step: str
    name: str
    outputs: tuple[dict[str, Any], ...]
    report: Report
    seconds: float

    def to_json(self) -> bytes:
        """The receipt's file."""
        return json.dumps(dataclasses.asdict(self)).encode()


def parse_receipt(content: bytes, where: str) -> Receipt:
    """ArtifactError if the receipt is damaged."""
    try:
        root = json.loads(content)
        return Receipt(root["step"], root["name"], tuple(root["outputs"]), root["report"], root["seconds"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{where}: damaged receipt; delete it to do the task again") from error


class Outputs:
    """Publishes the files of a task and remembers them for its receipt."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.entries: list[dict[str, Any]] = []

    def write_bytes(self, path: str, content: bytes) -> None:
        """A small file; ``path`` is below the output."""
        self.entries.append({"path": path, **storage.publish_bytes(self._job.path(path), content)})

    def write_batches(self, path: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch], *, stream: bool) -> None:
        """An Arrow IPC stream, or an IPC file for access by batch number."""
        new_writer = pa.ipc.new_stream if stream else pa.ipc.new_file
        with storage.publish(self._job.path(path)) as sink, new_writer(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        self.entries.append({"path": path, "bytes": sink.num_bytes, "sha256": sink.sha256})


def receipt_path(step: str, name: str) -> str:
    """Where a task's receipt lies, below the output."""
    return f"_work/receipts/{step}/{name}.json"
