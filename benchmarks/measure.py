"""How a measurement is made: each in a fresh process on its own cores, the sides taking turns."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("tokenmill", "numba", "numpy", "pyarrow", "ray", "gigabpe", "gigatoken", "tokenizers", "tiktoken")
_THREADS = ("RAYON", "NUMBA", "OMP", "OPENBLAS", "MKL")


@dataclass(frozen=True)
class Probe:
    """A function of ``ours`` or ``peers``, the number of cores it gets, and what it is called with.

    ``repeats``: fewer than the group's, for a side that takes minutes.
    """

    name: str
    cores: int
    arguments: dict[str, Any] = field(default_factory=dict)
    repeats: int | None = None


def run_probe(probe: Probe) -> dict[str, Any]:
    """What the probe returns, with ``peak_rss_bytes`` of its process, from a fresh process."""
    threads = {f"{name}_NUM_THREADS": str(probe.cores) for name in _THREADS}
    environment = os.environ | threads | {"POLARS_MAX_THREADS": str(probe.cores), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "benchmarks.probe", probe.name, str(probe.cores), json.dumps(probe.arguments)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{probe.name} {probe.arguments} failed:\n{ended.stdout[-2000:]}{ended.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def alternate(sides: dict[str, Probe], repeats: int) -> dict[str, list[dict[str, Any]]]:
    """A B A B …: every side once, then every side again."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for repeat in range(repeats):
        for side, probe in sides.items():
            if repeat < (probe.repeats or repeats):
                runs[side].append(run_probe(probe))
                seconds = runs[side][-1].get("seconds")
                print(f"  {repeat + 1}/{repeats} {side}: " + (f"{seconds:.2f} s" if seconds else "done"), flush=True)
    return runs


def _describe_machine() -> dict[str, Any]:
    """What of the machine bears on the figures."""
    cpu = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "processor": cpu[0] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def _describe_versions() -> dict[str, str]:
    """The versions of both sides."""
    return {name: version(name) for name in PACKAGES}


def describe_run(group: str) -> dict[str, Any]:
    """What every result begins with: what was measured, when, on what."""
    return {
        "group": group,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _describe_machine(),
        "versions": _describe_versions(),
    }
