"""The kernels are right as plain Python too, so what they do is in their text and not in their compilation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_kernel_tests_pass_without_numba() -> None:
    """Python's own integers warn where hashes wrap around, which compiled ones do silently."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/kernels"]
    command += ["--ignore=tests/kernels/test_jit.py"]  # of compilation itself
    command += ["-W", "ignore:overflow encountered in scalar:RuntimeWarning"]
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "TOKENMILL_MAX_EXAMPLES": "8"}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-5_000:]
    assert " passed" in result.stdout
