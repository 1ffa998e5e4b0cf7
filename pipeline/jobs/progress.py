"""One line of progress: rewritten on a terminal, repeated every few seconds in a log file."""

from __future__ import annotations

import json
import sys
import time
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


class Progress:
    """Shows how far each step is. ``as_json``: an event a line instead, for machines."""

    def __init__(self, stream: TextIO | None = None, *, as_json: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._as_json = as_json
        self._is_terminal = self._stream.isatty() and not as_json
        self._shown_at = 0.0

    def start(self, step: str, tasks: list[Task], missing: list[Task]) -> None:
        """A step begins; ``tasks`` without ``missing`` were done before."""
        self._step = step
        self._total = len(tasks)
        self._done = len(tasks) - len(missing)
        self._bytes_total = sum(task.num_bytes for task in missing)
        self._sizes = {task.name: task.num_bytes for task in missing}
        self._bytes_done = self._tokens = 0
        self._started = self._shown_at = time.monotonic()
        self._retries = 0
        self._shown_done = -1
        if self._done and missing:
            self._show()

    def advance(self, receipt: Receipt, retries: int) -> None:
        """A task has ended."""
        self._done += 1
        self._bytes_done += self._sizes[receipt.name]
        tokens = receipt.report.get("tokens", 0)
        self._tokens += sum(tokens.values()) if isinstance(tokens, dict) else tokens
        self._retries = retries
        now = time.monotonic()
        if now - self._shown_at >= (_TERMINAL_SECONDS if self._is_terminal else _LOG_SECONDS):
            self._shown_at = now
            self._show()

    def finish(self) -> None:
        """The step has ended."""
        if self._shown_done != self._done or self._is_terminal:
            self._show()
        if self._is_terminal:
            self._stream.write("\n")

    def _figures(self) -> dict[str, Any]:
        seconds = max(time.monotonic() - self._started, 1e-6)
        rate = self._bytes_done / seconds
        return {
            "step": self._step,
            "done": self._done,
            "total": self._total,
            "bytes": self._bytes_done,
            "bytes_per_second": round(rate),
            "tokens": self._tokens,
            "retries": self._retries,
            "seconds": round(seconds, 1),
            "eta_seconds": round((self._bytes_total - self._bytes_done) / rate) if rate and self._done < self._total else 0,
        }

    def _show(self) -> None:
        self._shown_done = self._done
        figures = self._figures()
        if self._as_json:
            self._stream.write(json.dumps(figures) + "\n")
        else:
            parts = [f"{self._step:<8} {self._done}/{self._total}"]
            if self._bytes_done:
                parts.append(f"{human_bytes(self._bytes_done)} · {human_bytes(figures['bytes_per_second'])}/s")
            if self._tokens:
                parts.append(f"{self._tokens:,} tokens")
            if self._retries:
                parts.append(f"{self._retries} retries")
            parts.append(f"ETA {figures['eta_seconds']} s" if figures["eta_seconds"] else f"{figures['seconds']} s")
            line = " · ".join(parts)
            self._stream.write(f"\r\x1b[2K{line}" if self._is_terminal else line + "\n")
        self._stream.flush()
