"""Scratch files: what is read back is what was put there, or an error; and nothing is left behind, whatever happens."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import StorageError
from pipeline.schema import WORD_COUNTS
from pipeline.stages.scratch import Runs

ROOT = Path(__file__).parents[2]


def batch(number: int) -> pa.RecordBatch:
    words = [f"{number}-{i}".encode() for i in range(number)]
    return pa.RecordBatch.from_arrays(
        [pa.array(words, pa.large_binary()), pa.array([number] * number, pa.int64())], schema=WORD_COUNTS
    )


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_groups_come_back_in_the_order_of_the_runs(scratch: Path) -> None:
    runs = Runs(WORD_COUNTS)
    assert len(runs) == 0
    for run in range(3):
        runs.add((batch(run + group) for group in range(4)), "some rows")
    assert len(runs) == 3
    found = [[part.to_pylist() for part in parts] for parts in runs.groups(4)]
    assert found == [[batch(run + group).to_pylist() for run in range(3)] for group in range(4)]
    assert list(scratch.iterdir()) == []


def test_files_are_closed_with_their_object(scratch: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    runs = Runs(WORD_COUNTS)
    for _ in range(5):
        runs.add([batch(3)], "some rows")
    assert len(os.listdir("/proc/self/fd")) == before + 5
    del runs
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_bit_that_the_disk_has_changed_is_found(scratch: Path) -> None:
    runs = Runs(WORD_COUNTS)
    runs.add([batch(1), batch(200), batch(1)], "some rows")
    file, places = runs._files[0]
    at = places[1].offset + places[1].num_bytes // 2
    (byte,) = os.pread(file.fileno(), 1, at)
    os.pwrite(file.fileno(), bytes([byte ^ 1]), at)
    groups = iter(runs.groups(3))
    assert next(groups)[0].equals(batch(1))
    with pytest.raises(StorageError, match=rf"^{scratch}: what was written there is not what is read"):
        next(groups)


def test_a_file_that_was_cut_off_is_found(scratch: Path) -> None:
    runs = Runs(WORD_COUNTS)
    runs.add([batch(9)], "some rows")
    os.ftruncate(runs._files[0][0].fileno(), 10)
    with pytest.raises(StorageError, match="is not what is read"):
        list(runs.groups(1))


_KILLED = """
import os, signal, sys
from pipeline.stages.scratch import Runs
from tests.stages.test_scratch import batch
from pipeline.schema import WORD_COUNTS
runs = Runs(WORD_COUNTS)
runs.add([batch(100)], "some rows")
os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_nothing_behind(how: signal.Signals, tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", _KILLED, str(int(how))], cwd=ROOT, env=env, check=False)
    assert result.returncode == -how
    assert list(tmp_path.iterdir()) == []


def test_no_such_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(StorageError, match=rf"^{tmp_path}/none: cannot keep 5 rows there: No such file or directory\. Set"):
        Runs(WORD_COUNTS).add([batch(5)], "5 rows")
