"""A Ray head with dashboard and jobs, in processes of its own that a test can kill without touching any other Ray."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
_START_SECONDS = 60


class Head:
    """Own ports, own folder, own token. ``env`` is that of the head, and of whoever wants to talk to it."""

    def __init__(self) -> None:
        # Short, for the sockets below it have names of at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="tm", dir="/tmp"))
        self._gcs, self._dashboard, self._agent = _free_ports(3)
        self.address = f"http://127.0.0.1:{self._dashboard}"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            # What was compiled for the sources here serves the copy that a job brings along.
            "NUMBA_CACHE_DIR": str(ROOT / "pipeline/kernels/__pycache__"),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when jobs can be submitted."""
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats",
            "--include-dashboard=true", "--num-cpus=2", f"--object-store-memory={100 << 20}", f"--temp-dir={self.folder}",
            f"--port={self._gcs}", f"--dashboard-port={self._dashboard}", f"--dashboard-agent-listen-port={self._agent}",
        ]  # fmt: skip
        with open(self.folder / "head.log", "ab") as log:
            self._process = subprocess.Popen(
                command, env=self.env, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "head.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "head.log").read_text()
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            self.get("/api/version")
        except OSError:
            return False
        return True

    def get(self, path: str) -> Any:
        """What the head itself says, as JSON."""
        request = urllib.request.Request(
            self.address + path, headers={"Authorization": f"Bearer {self.env['RAY_AUTH_TOKEN']}"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def kill(self) -> None:
        """SIGKILL for every process of the head, its workers and the jobs' drivers, and for no other."""
        if self._process is None:
            return
        found = {process.pid: process for process in self._processes()}
        while alive := [process for process in found.values() if _is_alive(process)]:
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            found |= {process.pid: process for process in self._processes()}
            time.sleep(0.05)
        self._process.wait()  # ours to reap; the others are init's
        self._process = None

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        try:
            root = psutil.Process(self._process.pid)
            found = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            found = []
        return found + [p for p in psutil.process_iter(["cmdline"]) if str(self.folder) in " ".join(p.info["cmdline"] or [])]

    def close(self) -> None:
        """Kill it, and leave nothing behind."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def submit(self, spec: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """``tokenmill submit``, in a process that knows the head's token."""
        process = self.begin(spec, *args, **variables)
        out, err = process.communicate(timeout=200)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def begin(self, spec: Path, *args: str, **variables: str) -> subprocess.Popen[str]:
        """As ``submit``, and does not wait."""
        command = [sys.executable, "-m", "pipeline.jobs.cli", "submit", str(spec), "--address", self.address, *args]
        return subprocess.Popen(
            command, env=self.env | variables, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
