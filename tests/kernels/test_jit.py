"""Machine code is kept from process to process, and never used once a source of the kernels has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).parents[2] / "pipeline"

SCRIPT = """
import json
import numpy as np
from pipeline.kernels.count import WordTable, count_words
from pipeline.kernels.keys import PADDING

values = np.frombuffer(b"to be to" + bytes(PADDING), dtype=np.uint8)
table = WordTable(np.zeros((8, 4), dtype=np.uint64), np.zeros(9, dtype=np.uint8), np.zeros(3, dtype=np.int64))
count_words(values, 0, np.array([2, 5, 8]), table)
taken = table.entries[table.entries[:, 3] > 0]
stats = count_words.stats
print(json.dumps({
    "words": {int(low): int(count) for low, _, count, _ in taken},
    "loaded": sum(stats.cache_hits.values()),
    "compiled": sum(stats.cache_misses.values()),
}))
"""

TO, BE, TO_AGAIN = (int.from_bytes(word, "little") for word in (b"to", b" be", b" to"))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package without any machine code."""
    copy = tmp_path / "pipeline"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def start(package: Path, **variables: str) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    env |= {"PYTHONPATH": str(package.parent), **variables}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=env,
        cwd=package.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def test_a_kernel_is_compiled_once_and_again_when_one_that_it_calls_has_changed(package: Path) -> None:
    counted = {str(TO): 1, str(BE): 1, str(TO_AGAIN): 1}
    assert result_of(start(package)) == {"words": counted, "loaded": 0, "compiled": 1}
    assert result_of(start(package)) == {"words": counted, "loaded": 1, "compiled": 0}

    # Another file, and a constant in it: no more than two bytes of a word count.
    keys = package / "kernels/keys.py"
    source = keys.read_text()
    changed = source.replace(
        "_LOW_MASKS = _MASKS[np.minimum(np.arange(SHORT_BYTES + 1), 8)]", "_LOW_MASKS = _MASKS[[2] * 16]"
    )
    assert changed != source
    keys.write_text(changed)
    of_two_bytes = {str(word & 0xFFFF): 1 for word in (TO, BE, TO_AGAIN)}
    assert result_of(start(package)) == {"words": of_two_bytes, "loaded": 0, "compiled": 1}

    # What was compiled of the first state is still there.
    keys.write_text(source)
    assert result_of(start(package)) == {"words": counted, "loaded": 1, "compiled": 0}


def test_a_copy_of_the_package_finds_what_was_compiled_for_the_original(package: Path, tmp_path: Path) -> None:
    """As a job on a cluster brings one along: another folder each time, and one NUMBA_CACHE_DIR on each node."""
    shared = str(tmp_path / "cache/of/the/node")
    assert result_of(start(package, NUMBA_CACHE_DIR=shared))["compiled"] == 1
    copy = shutil.copytree(package, tmp_path / "job/pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    assert result_of(start(copy, NUMBA_CACHE_DIR=shared))["loaded"] == 1
    assert not list(tmp_path.glob("**/__pycache__/kernels-*"))


def test_processes_that_compile_side_by_side(package: Path) -> None:
    processes = [start(package) for _ in range(2)]
    results = [result_of(process) for process in processes]
    assert all(result["words"] == {str(TO): 1, str(BE): 1, str(TO_AGAIN): 1} for result in results)
    assert sum(result["compiled"] for result in results) == 1
    assert result_of(start(package))["compiled"] == 0


def test_without_a_place_for_machine_code_kernels_run_all_the_same(package: Path) -> None:
    """Where a folder would have to be made, there is a file."""
    (package / "kernels/__pycache__").touch()
    process = start(package, HOME="/dev/null", XDG_CACHE_HOME="/dev/null")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["words"] == {str(TO): 1, str(BE): 1, str(TO_AGAIN): 1}
    assert err.count("Set NUMBA_CACHE_DIR to a folder that can be written") == 1
