"""What a task is, and what it leaves: outputs and a receipt.

A task is one step applied to one shard, partition, tokenizer or bucket. It reads and writes storage and returns its
receipt, nothing else. ``jobs.steps`` does the work, ``jobs.schedule`` says which tasks there are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import storage
from pipeline.errors import ArtifactError
from pipeline.spec import JobSpec

SPLITS = ("train", "holdout")
FORMAT_VERSION = 1

ALL = "all sources"
"""What reports call them together."""

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """What every task knows: the spec, without credentials, and the output as an absolute path or URI. ``conditional``:
    whether the output's store can create a file only if it is absent.
    """

    spec: JobSpec
    output: str
    conditional: bool = True

    def path(self, *parts: str) -> str:
        """A path below the output."""
        return storage.join(self.output, *parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """``num_bytes``: how large the work is, to start the largest first. ``params``: what the step's function takes.
    ``reads``: which of the user's files, for messages. ``memory_bytes``: what it needs, about, if that is known.
    """

    step: str
    name: str
    num_bytes: int
    params: dict[str, Any]
    reads: str = ""
    memory_bytes: int = 0

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
        """The receipt's file: the receipt, and the hash of it."""
        body = json.dumps(dataclasses.asdict(self))
        return f'{{"sha256": "{_sha256(body)}", "receipt": {body}}}\n'.encode()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def parse_receipt(content: bytes, where: str) -> Receipt:
    """ArtifactError if the receipt is damaged, by one byte or more."""
    try:
        root = json.loads(content)
        body = root["receipt"]
        if root["sha256"] != _sha256(json.dumps(body)):
            raise ValueError("its content has changed")
        return Receipt(body["step"], body["name"], tuple(body["outputs"]), body["report"], body["seconds"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{where}: damaged receipt: {error}; run the same command again: its task is done anew"
        ) from error


def read_receipts(output: str, step: str) -> dict[str, Receipt]:
    """The receipts of a step, by task; ArtifactError if one is damaged."""
    folder = storage.join(output, "_work/receipts", step)
    uris = [storage.join(folder, name) for name in storage.list_names(folder)]
    found = (parse_receipt(content, uri) for uri, content in zip(uris, storage.read_all(uris), strict=True))
    return {receipt.name: receipt for receipt in found}


def disown(job: Job, step: str, name: str, path: str, what: str) -> ArtifactError:
    """The error for an output that is not what its task published. The task's receipt is deleted: it has to be done anew."""
    with contextlib.suppress(ArtifactError):
        storage.remove(job.path(receipt_path(step, name)))
    return ArtifactError(f"{job.path(path)}: {what}; run the same command again: {step} {name} is done anew")


def read_output(job: Job, step: str, name: str, entry: dict[str, Any]) -> pa.Buffer:
    """A whole output of a task, as in its receipt; ArtifactError, and no receipt any more, if it is not that."""
    try:
        content = storage.read_bytes(job.path(entry["path"]))
    except ArtifactError:
        raise disown(job, step, name, entry["path"], "it is gone") from None
    if len(content) != entry["bytes"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise disown(job, step, name, entry["path"], "it is damaged")
    return pa.py_buffer(content)


class Outputs:
    """Publishes the files of a task and remembers them for its receipt.

    Work files need not outlive a loss of power: each is checked when it is read, and made again if it is not what it was.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.entries: list[dict[str, Any]] = []

    def write_bytes(self, path: str, content: bytes) -> None:
        """A small file; ``path`` is below the output."""
        uri, durable = self._job.path(path), not path.startswith("_work/")
        self.entries.append({"path": path, **storage.publish_bytes(uri, content, durable=durable)})

    @contextlib.contextmanager
    def publish(self, path: str) -> Iterator[storage.Sink]:
        """A file that becomes visible all at once, and is then remembered."""
        with storage.publish(self._job.path(path), durable=not path.startswith("_work/")) as sink:
            yield sink
        self.entries.append({"path": path, "bytes": sink.num_bytes, "sha256": sink.sha256})

    def write_batches(self, path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """An Arrow IPC stream."""
        with self.publish(path) as sink, pa.ipc.new_stream(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)


def shard_name(index: int) -> str:
    """What the task of a shard is called, in the steps that have one for each."""
    return f"{index:05d}"


def part_name(index: int, count: int) -> str:
    """The name of the file made of shard ``index``, or of a partition."""
    return f"part-{index:05d}-of-{count:05d}"


def receipt_path(step: str, name: str) -> str:
    """Where a task's receipt lies, below the output."""
    return f"_work/receipts/{step}/{name}.json"
