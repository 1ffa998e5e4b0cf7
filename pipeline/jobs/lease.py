"""One driver at a time: whoever runs a job holds its output's lease, and shows there that it lives and how far it is.

The lease is a file, ``_work/driver/NUMBER.json``, created only if absent; its holder writes it anew every few seconds. To
take over from a driver that died, the next number is created: of two that try at once, one wins. A holder that finds a
higher number than its own has been taken for dead, and stops. Nothing depends on the lease but wasted work: tasks publish
the same bytes whoever runs them.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.errors import ArtifactError, OutputInUse, StorageError

BEAT_SECONDS = 5.0
_SILENT_BEATS = 4
"""A driver elsewhere that has written nothing for so many beats is dead."""

Status = dict[str, Any]


@contextlib.contextmanager
def hold(output: str, conditional: bool, status: Callable[[], Status]) -> Iterator[Callable[[], None]]:
    """Hold the lease of an output; ``status`` is written with every beat. Gives a function that raises OutputInUse if the
    lease was lost.

    Raises
    ------
    OutputInUse
        Another driver runs this job.
    """
    lease = _Lease(output, conditional, status)
    lease.acquire()
    beating = threading.Thread(target=lease.beat, name="lease", daemon=True)
    beating.start()
    try:
        yield lease.check
    finally:
        lease.stopped.set()
        beating.join()
        lease.release()


def read_statuses(output: str) -> list[Status]:
    """What the drivers of an output wrote last, in the order in which they ran."""
    folder = storage.join(output, "_work/driver")
    uris = [storage.join(folder, name) for name in sorted(storage.list_names(folder))]
    return [_parse(uri, content) for uri, content in zip(uris, storage.read_all(uris), strict=True)]


def _parse(uri: str, content: bytes) -> Status:
    try:
        found = json.loads(content)
        if not isinstance(found, dict) or not {"host", "process", "started", "released", "beat"} <= found.keys():
            raise ValueError("not what a driver writes")
    except ValueError as error:
        raise ArtifactError(f"{uri}: damaged: {error}; delete it if no other driver runs") from error
    return found


class _Lease:
    def __init__(self, output: str, conditional: bool, status: Callable[[], Status]) -> None:
        self.stopped = threading.Event()
        self._folder = storage.join(output, "_work/driver")
        self._output = output
        self._conditional = conditional
        self._status = status
        self._taken_over = False
        self._driver = {
            "token": uuid.uuid4().hex,
            "host": _machine(),
            "process": os.getpid(),
            "started": _started(os.getpid()),
        }

    def acquire(self) -> None:
        number, holder = self._newest()
        if holder is not None and not holder["released"]:
            self._wait_until_dead(number, holder)
        self._number = number + 1
        if storage.create_first(self._uri(self._number), self._content(), conditional=self._conditional):
            raise OutputInUse(f"{self._output}: another driver started at the same moment; this one stops")

    def release(self) -> None:
        if not self._taken_over:
            with contextlib.suppress(StorageError):  # then the next driver waits until this one seems dead
                storage.publish_bytes(self._uri(self._number), self._content(released=True))

    def beat(self) -> None:
        """Until the end: show that this driver lives."""
        while not self.stopped.wait(BEAT_SECONDS):
            with contextlib.suppress(StorageError):  # the next beat may get through
                if self._newest()[0] > self._number:
                    self._taken_over = True
                    return
                storage.publish_bytes(self._uri(self._number), self._content())

    def check(self) -> None:
        if self._taken_over:
            raise OutputInUse(f"{self._output}: another driver has taken over, for this one gave no sign of life; it stops")

    def _uri(self, number: int) -> str:
        return storage.join(self._folder, f"{number:06d}.json")

    def _content(self, *, released: bool = False) -> bytes:
        return json.dumps({**self._driver, "released": released, "beat": time.time(), **self._status()}).encode()

    def _newest(self) -> tuple[int, Status | None]:
        names = storage.list_names(self._folder)
        if not names:
            return 0, None
        uri = storage.join(self._folder, names[-1])
        return int(names[-1].removesuffix(".json")), _parse(uri, storage.read_bytes(uri))

    def _wait_until_dead(self, number: int, holder: Status) -> None:
        """Return if the holder of a lease is dead.

        Here its process tells; elsewhere, it is dead if it writes nothing for a while.
        """
        error = OutputInUse(
            f"{self._output}: another driver runs this job: process {holder['process']} on {holder['host'].split('/')[0]}, "
            f"in step {holder.get('step', '?')}. Wait for it or stop it, or name another output"
        )
        if holder["host"] == _machine() and holder["started"] is not None:
            if _started(holder["process"]) == holder["started"]:
                raise error
            return
        for _ in range(_SILENT_BEATS):
            time.sleep(BEAT_SECONDS)
            newer, now = self._newest()
            if (newer, now) != (number, holder):
                raise error


def _machine() -> str:
    """Names where process numbers mean the same: host, boot, and (in containers) the namespace of processes."""
    names = [socket.gethostname()]
    with contextlib.suppress(OSError):
        names += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return "/".join(names)


def _started(process: int) -> str | None:
    """When a process began: no other of its number began then. None if it has ended, or this system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
