"""A scratch disk that is too small for what a count has to put aside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.corpus import published

ROOT = Path(__file__).parents[2]
_WORDS = 1_150_000
"""More distinct words than the table of a task with the least memory holds."""

_WITH_DISK = """
mount -t tmpfs -o size="$1" none "$2" || exit 77
export TMPDIR="$2"
shift 2
"$@"
status=$?
ls -A "$TMPDIR" >&2
exit $status
"""


@pytest.fixture(scope="module")
def many_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "words.txt"
    words = (f"{n * 7919 % _WORDS:x}" for n in range(_WORDS))
    path.write_text(" ".join(f"{word}\n" if n % 1000 == 999 else word for n, word in enumerate(words)))
    return path


def spec(source: Path, output: Path, **execution: Any) -> dict[str, Any]:
    return {
        "name": "many",
        "output": str(output),
        "sources": [{"name": "main", "uris": [str(source)], "documents": "line"}],
        "holdout": {"fraction": 0},
        "tokenizers": [{"name": "tok", "vocab_size": 260, "pretokenizer": "whitespace"}],
        "execution": {"address": "local", "shard_bytes": 1 << 30, "retries": 1, **execution},
    }


def run(spec: dict[str, Any], folder: Path, size: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command; with ``size``, in a mount namespace whose TMPDIR is a disk of that size."""
    (folder / "job.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "pipeline.jobs.cli", "run", str(folder / "job.json")]
    if size is not None:
        (folder / "scratch").mkdir(exist_ok=True)
        inside = ["sh", "-c", _WITH_DISK, "sh", size, str(folder / "scratch"), *command]
        command = ["unshare", "--user", "--map-root-user", "--mount", *inside]
    result = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=200, check=False)
    if size is not None and (result.returncode == 77 or result.stderr.startswith("unshare:")):
        pytest.skip(f"no mount namespaces here: {result.stderr}")
    return result


def test_a_full_scratch_disk_is_named_and_with_room_the_same_command_goes_on(many_words: Path, tmp_path: Path) -> None:
    little = spec(many_words, tmp_path / "out", task_memory_bytes=512 << 20)
    failed = run(little, tmp_path, "64k")
    assert failed.returncode == 1
    lines = failed.stderr.splitlines()
    kept = rf"{tmp_path}/scratch: cannot keep [\d,]+ counted words there: .*\. Set TMPDIR to a folder with more room"
    assert re.fullmatch(rf"WARNING count 00000: {kept}; trying again", lines[0])
    wanted = rf"error: count 00000 failed after 2 attempts: {kept}; in task count 00000, which reads {many_words}.*"
    assert re.fullmatch(wanted, lines[1])
    assert "No space left on device" in lines[1]
    assert lines[2:] == []  # of what was begun nothing is left on the disk
    assert not list((tmp_path / "out/_work/count").rglob("part-*"))
    done = run(little, tmp_path, "200m")
    assert done.returncode == 0, done.stderr
    assert "counted words" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("train")  # the disk is empty again
    roomy = spec(many_words, tmp_path / "roomy")  # never puts anything aside
    assert run(roomy, tmp_path).returncode == 0
    assert published(tmp_path / "out") == published(tmp_path / "roomy")
    receipts = [json.loads((tmp_path / f"{name}/_work/receipts/count/00000.json").read_bytes()) for name in ("out", "roomy")]
    assert [receipt["receipt"]["report"]["distinct_words"] for receipt in receipts] == [
        {next(iter(receipts[0]["receipt"]["report"]["words"])): _WORDS}
    ] * 2
