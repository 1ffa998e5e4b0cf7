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
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from pipeline import storage
from pipeline.errors import OutputInUse, StorageError

BEAT_SECONDS = 5.0
_SILENT_BEATS = 4
"""A driver elsewhere that has written nothing for so many beats is dead."""

Status = dict[str, Any]


class Check(Protocol):
    """Raises OutputInUse if the lease was lost; ``ask``: look now, and not only what the last beat found."""

    def __call__(self, *, ask: bool = False) -> None:
        """See the class."""


@contextlib.contextmanager
def hold(output: str, conditional: bool, status: Callable[[], Status]) -> Iterator[Check]:
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
    contents = storage.read_all([storage.join(folder, name) for name in storage.list_names(folder)])
    return [found for found in map(_parse, contents) if found]  # of one that is damaged the figures are lost, nothing else


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
        number = self._newest()
        if number and not self._is_dead(number):
            raise self._in_use(number)
        self._number = number + 1
        if storage.create_first(self._uri(self._number), self._content(), conditional=self._conditional):
            raise OutputInUse(
                f"{self._output}: another driver started at the same moment, so this one stops; if none runs now, start "
                "it again"
            )

    def release(self) -> None:
        if not self._taken_over:
            with contextlib.suppress(StorageError):  # then the next driver waits until this one seems dead
                storage.publish_bytes(self._uri(self._number), self._content(released=True))

    def beat(self) -> None:
        """Until the end: show that this driver lives."""
        while not self.stopped.wait(BEAT_SECONDS) and not self._taken_over:
            with contextlib.suppress(StorageError):  # the next beat may get through
                self._taken_over = self._newest() > self._number
                if not self._taken_over:
                    storage.publish_bytes(self._uri(self._number), self._content())

    def check(self, *, ask: bool = False) -> None:
        """``ask``: look now, and not only what the last beat found."""
        if ask and self._newest() > self._number:
            self._taken_over = True
        if self._taken_over:
            raise OutputInUse(f"{self._output}: another driver has taken over, for this one gave no sign of life; it stops")

    def _uri(self, number: int) -> str:
        return storage.join(self._folder, f"{number:06d}.json")

    def _content(self, *, released: bool = False) -> bytes:
        return json.dumps({**self._driver, "released": released, "beat": time.time(), **self._status()}).encode()

    def _newest(self) -> int:
        """The highest number; 0 if there is none."""
        names = storage.list_names(self._folder)
        return max((int(name[:-5]) for name in names if re.fullmatch(r"\d+\.json", name)), default=0)

    def _in_use(self, number: int) -> OutputInUse:
        holder = _parse(storage.read_bytes(self._uri(number)))
        host = str(holder.get("host", "?")).split("/")[0]
        return OutputInUse(
            f"{self._output}: another driver runs this job: process {holder.get('process', '?')} on {host}, "
            f"in step {holder.get('step') or '?'}. Wait for it or stop it, or name another output"
        )

    def _is_dead(self, number: int) -> bool:
        """Whether the holder of a lease has ended.

        It says so itself; or it ran here, and its process tells; or, elsewhere, it writes nothing for a while.
        """
        content = storage.read_bytes(self._uri(number))
        holder = _parse(content)
        if holder.get("released"):
            return True
        if holder.get("host") == _machine() and holder.get("started") is not None:
            return bool(_started(holder["process"]) != holder["started"])
        for _ in range(_SILENT_BEATS):
            time.sleep(BEAT_SECONDS)
            if self._newest() != number or storage.read_bytes(self._uri(number)) != content:
                return False
        return True


def _parse(content: bytes) -> Status:
    """What a driver wrote; nothing if it is damaged."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and {"host", "process", "started", "released", "beat"} <= found.keys() else {}


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
