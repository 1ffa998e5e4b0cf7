"""The fresh process of one measurement: ``python -m benchmarks.probe MODULE.FUNCTION CORES ARGUMENTS``.

Takes its cores before anything heavy is imported, calls the function, and prints what it returns as one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from pathlib import Path


def memory_bytes(field: str) -> int:
    """Of this process: ``VmRSS``, what it has now, or ``VmHWM``, the most it ever had."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def main() -> None:
    """One measurement."""
    name, cores, arguments = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])
    module, function = name.split(".")
    result = getattr(importlib.import_module(f"benchmarks.{module}"), function)(**arguments)
    print(json.dumps({"cores": len(os.sched_getaffinity(0)), "peak_rss_bytes": memory_bytes("VmHWM")} | result))


if __name__ == "__main__":
    main()
