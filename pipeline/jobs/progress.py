"""One line of progress: rewritten on a terminal, repeated every few seconds in a log file."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any, TextIO

from pipeline.jobs.tasks import Receipt, Task

_LOG_SECONDS = 5.0
_TERMINAL_SECONDS = 0.2


def human_bytes(num_bytes: float) -> str:
    """``1536`` is ``1.5 kB``; units of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(num_bytes) < 1000:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.2f} TB"


@dataclass(slots=True)
class StepFigures:
    """How far a step is. ``bytes`` and ``seconds``: of what this driver did; ``slowest``: seconds and name of a task."""

    done: int
    total: int
    bytes_to_do: int
    started: float
    found: int
    bytes: int = 0
    tokens: int = 0
    retries: int = 0
    failed: int = 0
    seconds: float = 0.0
    slowest: tuple[float, str] = (0.0, "")

    def to_dict(self) -> dict[str, Any]:
        """For machines, and for the drivers' status in storage."""
        rate = self.bytes / max(self.seconds, 1e-6)
        eta = round((self.bytes_to_do - self.bytes) / rate) if rate and self.done < self.total else 0
        return {
            "done": self.done,
            "total": self.total,
            "found": self.found,
            "bytes": self.bytes,
            "bytes_per_second": round(rate),
            "tokens": self.tokens,
            "retries": self.retries,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "eta_seconds": eta,
            "slowest": {"task": self.slowest[1], "seconds": self.slowest[0]} if self.slowest[1] else None,
        }


class Progress:
    """Shows how far each step is. ``as_json``: an event a line instead, for machines."""

    def __init__(self, stream: TextIO | None = None, *, as_json: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._as_json = as_json
        self._is_terminal = self._stream.isatty() and not as_json
        self._shown_at = 0.0
        self._step = ""
        self._is_over = True
        self._steps: dict[str, StepFigures] = {}

    def start(self, step: str, tasks: list[Task], missing: list[Task], retries: int) -> None:
        """A step begins; ``tasks`` without ``missing`` were done before. ``retries``: of the runner, so far."""
        found = len(tasks) - len(missing)
        num_bytes = sum(task.num_bytes for task in missing)
        self._now = StepFigures(found, len(tasks), num_bytes, time.monotonic(), found)
        self._steps[step] = self._now
        self._step = step
        self._is_over = False
        self._retries_before = retries
        self._sizes = {task.name: task.num_bytes for task in missing}
        self._shown_at = self._now.started
        self._shown_done = -1
        if found and missing:
            self._show()

    def advance(self, receipt: Receipt, retries: int) -> None:
        """A task has ended."""
        now = self._now
        now.done += 1
        now.bytes += self._sizes[receipt.name]
        now.slowest = max(now.slowest, (receipt.seconds, receipt.name))
        tokens = receipt.report.get("tokens", 0)
        now.tokens += sum(tokens.values()) if isinstance(tokens, dict) else tokens
        self._tick(retries)
        if time.monotonic() - self._shown_at >= (_TERMINAL_SECONDS if self._is_terminal else _LOG_SECONDS):
            self._shown_at = time.monotonic()
            self._show()

    def finish(self, retries: int, *, failed: bool = False) -> None:
        """The step has ended."""
        self._tick(retries)
        self._is_over = True
        self._now.failed += failed
        if (self._shown_done != self._now.done and not failed) or self._is_terminal:
            self._show()
        if self._is_terminal:
            self._stream.write("\n")

    def status(self) -> dict[str, Any]:
        """How far everything is: the step under way, and the figures of this and of those before."""
        if self._step and not self._is_over:
            self._now.seconds = time.monotonic() - self._now.started
        return {"step": self._step, "steps": {name: figures.to_dict() for name, figures in list(self._steps.items())}}

    def _tick(self, retries: int) -> None:
        self._now.seconds = time.monotonic() - self._now.started
        self._now.retries = retries - self._retries_before

    def _show(self) -> None:
        now = self._now
        self._shown_done = now.done
        now.seconds = time.monotonic() - now.started
        figures = now.to_dict()
        if self._as_json:
            self._stream.write(json.dumps({"step": self._step, **figures}) + "\n")
        else:
            parts = [f"{self._step:<8} {now.done}/{now.total}"]
            if now.bytes:
                parts.append(f"{human_bytes(now.bytes)} · {human_bytes(figures['bytes_per_second'])}/s")
            if now.tokens:
                parts.append(f"{now.tokens:,} tokens")
            if now.retries:
                parts.append(f"{now.retries} retries")
            parts.append(f"ETA {figures['eta_seconds']} s" if figures["eta_seconds"] else f"{now.seconds:.1f} s")
            line = " · ".join(parts)
            self._stream.write(f"\r\x1b[2K{line}" if self._is_terminal else line + "\n")
        self._stream.flush()
