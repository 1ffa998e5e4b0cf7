"""One task by itself, as the message of a failed job says how."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.jobs.cli import main
from pipeline.jobs.load import parse_spec
from pipeline.jobs.passes import counting_pass
from pipeline.jobs.schedule import PLAIN_STEPS

ROOT = Path(__file__).parents[2]

Told = tuple[int, str, str]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Run a verb in this process: exit status, stdout, stderr."""

    def run_main(*args: object) -> Told:
        capsys.readouterr()
        status = main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run_main


def task_names(fields: dict[str, Any]) -> dict[str, str]:
    """A task of each step of the small job."""
    counting = counting_pass(parse_spec(fields).tokenizers[0]).name
    return {
        "count": "00000",
        "merge": f"{counting}/00000",
        "train": "tok",
        "evaluate": "tok/main/00000",
        "encode": "tok/00000",
        "pack": "tok/train/00000",
    }


def test_task_after_task_is_the_whole_job(
    call: Callable[..., Told], fields: dict[str, Any], spec_file: Path, tmp_path: Path, run: Callable[..., Any],
    hashes: Callable[[Path], dict[str, str]],
) -> None:  # fmt: skip
    undisturbed = run({"output": str(tmp_path / "undisturbed")})
    names = task_names(fields)
    assert list(names) == list(PLAIN_STEPS)
    for step, name in names.items():
        status, out, err = call("run", spec_file, "--only", f"{step}/{name}")
        assert (status, err) == (0, "")
        receipt = json.loads((tmp_path / f"out/_work/receipts/{step}/{name}.json").read_bytes())["receipt"]
        assert json.loads(out) == receipt
        assert all((tmp_path / "out" / entry["path"]).stat().st_size == entry["bytes"] for entry in receipt["outputs"])
        assert call("run", spec_file, "--only", f"{step}/{name}")[1] == out  # done already: the same receipt
    assert not (tmp_path / "out/_SUCCESS").exists()
    assert hashes(run().out) == hashes(undisturbed.out)


@pytest.mark.parametrize("step", PLAIN_STEPS[1:])
def test_a_task_whose_predecessors_are_missing(
    call: Callable[..., Told], fields: dict[str, Any], spec_file: Path, tmp_path: Path, step: str
) -> None:
    label = f"{step}/{task_names(fields)[step]}"
    status, out, err = call("run", spec_file, "--only", label)
    assert (status, out) == (1, "")
    assert err == (
        f"error: --only {label}: count 00000 is not done yet, which comes before it; run the job without --only\n"
    )
    assert not (tmp_path / "out/_work").exists()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("cuont/00000", f"STEP/NAME is expected; steps: {', '.join(PLAIN_STEPS)}"),
        ("", f"STEP/NAME is expected; steps: {', '.join(PLAIN_STEPS)}"),
        ("/count", f"STEP/NAME is expected; steps: {', '.join(PLAIN_STEPS)}"),
        ("count/00001", "count has no such task; its 1 are 00000 to 00000"),
        ("count", "count has no such task; its 1 are 00000 to 00000"),
        ("count/", "count has no such task; its 1 are 00000 to 00000"),
        ("count/0", "count has no such task; its 1 are 00000 to 00000"),
    ],
)
def test_a_task_that_there_is_not(call: Callable[..., Told], spec_file: Path, label: str, message: str) -> None:
    assert call("run", spec_file, "--only", label) == (1, "", f"error: --only {label}: {message}\n")


def test_a_step_without_tasks(
    call: Callable[..., Told], run: Callable[..., Any], fields: dict[str, Any], tmp_path: Path
) -> None:
    del fields["pack"]
    fields["holdout"] = {"fraction": 0}
    run({"pack": None})
    (tmp_path / "job.json").write_text(json.dumps(fields))
    for step in ("evaluate", "encode", "pack"):
        status, out, err = call("run", tmp_path / "job.json", "--only", f"{step}/tok/00000")
        assert (status, out) == (1, "")
        assert err == f"error: --only {step}/tok/00000: {step} has no such task; this job has none of it\n"


# --- from the message of a failed job ---------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """A shell that knows the command, as it is in this checkout."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/tokenmill"
    script.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m pipeline.jobs.cli "$@"\n'
    )
    script.chmod(0o755)
    (tmp_path / "elsewhere").mkdir()

    def run_line(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line, shell=True, cwd=tmp_path / "elsewhere", env=os.environ | {"PATH": f"{script.parent}:{os.environ['PATH']}"},
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    return run_line


@pytest.mark.parametrize("address", ["local", pytest.param("auto", marks=pytest.mark.xdist_group("ray"))])
def test_the_command_in_the_message_shows_the_same_error(
    shell: Callable[[str], subprocess.CompletedProcess[str]],
    fields: dict[str, Any],
    corpus: Path,
    tmp_path: Path,
    address: str,
) -> None:
    """Literally: with a blank in the spec's name, and what was set beside it."""
    lines = (corpus / "b.jsonl").read_text().splitlines(keepends=True)
    (corpus / "b.jsonl").write_text("".join([*lines[:50], '{"text": 7}\n', *lines[51:]]))
    spec = tmp_path / "my job.json"
    spec.write_text(json.dumps(fields | {"sources": [{"name": "main", "uris": ["/nowhere/*.jsonl"]}]}))
    sets = [f'sources.0.uris=["{corpus}/*.jsonl"]', "execution.shard_bytes=3000", f"execution.address={address}"]
    failed = shell(shlex.join(["tokenmill", "run", str(spec), *(word for text in sets for word in ("--set", text))]))
    assert failed.returncode == 1
    message = failed.stderr.splitlines()[-1]
    found = re.fullmatch(
        rf"(error: {corpus}/b\.jsonl: the line at byte \d+: .*); in task (count \d+), which reads "
        rf"{corpus}/b\.jsonl from \d+ to \d+( and \d more)?; to run it alone: (.*)",
        message,
    )
    assert found, message
    error, label, _, command = found.groups()
    assert command.endswith(f"--only {label.replace(' ', '/')}")
    alone = shell(command)
    assert alone.returncode == 1
    assert alone.stderr.splitlines()[-1] == error
    assert "Traceback" not in alone.stderr
