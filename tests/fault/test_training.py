"""Training on several workers: the same tokenizers for any number, for lost ones, and from a checkpoint after a kill."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import ray
from ruamel.yaml import YAML

from pipeline.errors import ArtifactError, TaskFailed
from pipeline.jobs import ray_training, training
from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.jobs.tasks import Job, read_receipts
from pipeline.jobs.training import WordFiles
from pipeline.trainers.partitioned import PartitionLost
from tests.corpus import job, published

ROOT = Path(__file__).parents[2]


def _run(spec: dict[str, Any]) -> None:
    run_job(parse_spec(spec), Progress(io.StringIO()))


@pytest.fixture
def wide(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The corpus, with words in more partitions than its size asks for."""
    monkeypatch.setattr("pipeline.jobs.plan._PARTITION_BYTES", 10_000)
    return corpus


def _trained(output: Path) -> dict[str, Any]:
    return {name: receipt.report["training"] for name, receipt in read_receipts(str(output), "train").items()}


def _tokenizers(hashes: dict[str, str]) -> dict[str, str]:
    """Without our own description, which names the files of words."""
    return {path: h for path, h in hashes.items() if path.startswith("tokenizers/") and "tokenmill.json" not in path}


@pytest.mark.parametrize("num_workers", [2, 3, 7])
def test_any_number_of_workers_trains_the_same(
    num_workers: int, wide: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    _run(job(wide, tmp_path / "out", train_workers=num_workers))
    assert _tokenizers(published(tmp_path / "out")) == _tokenizers(undisturbed)
    for name, workers in _trained(tmp_path / "out").items():
        assert workers["workers"] == num_workers, name
        assert workers["merges"] > 0
        assert workers["bytes_sent"] > 0
        assert workers["rebuilt"] == 0


def _kill_a_trainer(killed: list[int], stop: threading.Event) -> None:
    """SIGKILL an actor that trains, as soon as there are some, and another a little later."""
    while not stop.is_set() and len(killed) < 2:
        for process in psutil.Process().children(recursive=True):
            try:
                command = " ".join(process.cmdline())
                if command.startswith("ray::_Worker") and process.pid not in killed:
                    process.kill()
                    killed.append(process.pid)
                    break
            except psutil.Error:
                continue
        time.sleep(0.05)


def test_lost_workers_change_nothing(wide: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    killed, stop = list[int](), threading.Event()
    killer = threading.Thread(target=_kill_a_trainer, args=(killed, stop))
    killer.start()
    try:
        _run(job(wide, tmp_path / "out", address="auto", train_workers=2))
    finally:
        stop.set()
        killer.join()
        ray.shutdown()
    assert len(killed) == 2
    assert _tokenizers(published(tmp_path / "out")) == _tokenizers(undisturbed)


_SAVING = """
import sys
from pipeline.jobs import plan, training
training.CHECKPOINT_SECONDS = 0.0
plan._PARTITION_BYTES = 10_000
from pipeline.jobs.cli import main
sys.exit(main(sys.argv[1:]))
"""


def _write(spec: dict[str, Any], path: Path) -> str:
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(spec, file)
    return str(path)


def _killed_in_training(spec: dict[str, Any], tmp_path: Path) -> Path:
    """Kill a driver as soon as a merge log is saved; returns the log's file."""
    log = tmp_path / "out/_work/train/one.arrow"
    command = [sys.executable, "-c", _SAVING, "run", _write(spec, tmp_path / "job.yaml")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not log.exists() and process.poll() is None:
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out/_SUCCESS").exists()
    return log


def test_training_goes_on_from_its_checkpoint(wide: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    spec = job(wide, tmp_path / "out", train_workers=2, max_in_flight=1)
    log = _killed_in_training(spec, tmp_path)
    num_saved = len(pa.ipc.open_stream(log.read_bytes()).read_all())
    assert num_saved > 0
    receipt = tmp_path / "out/_work/receipts/train/one.json"
    receipt.unlink(missing_ok=True)
    _run(spec)
    assert _trained(tmp_path / "out")["one"]["resumed_at_merge"] == num_saved
    assert _tokenizers(published(tmp_path / "out")) == _tokenizers(undisturbed)


@pytest.mark.parametrize("damage", ["a changed byte", "cut off", "of another training"])
def test_a_damaged_checkpoint_is_not_used(
    damage: str, wide: Path, undisturbed: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = job(wide, tmp_path / "out", train_workers=2, max_in_flight=1)
    log = _killed_in_training(spec, tmp_path)
    (tmp_path / "out/_work/receipts/train/one.json").unlink(missing_ok=True)
    content = bytearray(log.read_bytes())
    if damage == "of another training":
        table = pa.ipc.open_stream(content).read_all()
        schema = table.schema.with_metadata({**table.schema.metadata, b"identity": b"another"})
        with pa.ipc.new_stream(str(log), schema) as writer:
            writer.write_table(table.cast(schema))
    else:
        content[len(content) * 3 // 4] ^= 1
        log.write_bytes(content if damage == "a changed byte" else content[: len(content) // 2])
    _run(spec)
    assert "training starts anew" in caplog.text
    assert _trained(tmp_path / "out")["one"]["resumed_at_merge"] == 0
    assert _tokenizers(published(tmp_path / "out")) == _tokenizers(undisturbed)


def test_as_many_workers_as_the_words_need(
    wide: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.jobs.schedule.SYMBOLS_PER_WORKER", 100)
    assert training.SYMBOLS_PER_WORKER > 100
    _run(job(wide, tmp_path / "out"))
    assert all(workers["workers"] > 1 for workers in _trained(tmp_path / "out").values())
    assert _tokenizers(published(tmp_path / "out")) == _tokenizers(undisturbed)
    assert os.path.exists(tmp_path / "out/_SUCCESS")


def test_words_that_cannot_be_read_stop_the_job(wide: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    """On actors: they say so, and are not started again and again."""
    spec = job(wide, tmp_path / "out")
    _run(spec)
    (tmp_path / "out/_SUCCESS").unlink()
    for step in ("subwords", "train"):
        shutil.rmtree(tmp_path / "out/_work/receipts" / step)
    (words,) = list((tmp_path / "out/_work/words").glob("*/part-00001-*.arrow"))[:1]
    times, content = words.stat(), bytearray(words.read_bytes())
    content[len(content) // 2] ^= 1
    words.write_bytes(content)
    os.utime(words, ns=(times.st_atime_ns, times.st_mtime_ns))
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    again = job(wide, tmp_path / "out", address="auto", train_workers=2)
    try:
        with pytest.raises(ArtifactError, match=r"part-00001.*it is damaged; run the same command again: merge \S+ is done"):
            _run(again)
        _run(again)
    finally:
        ray.shutdown()
    assert _tokenizers(published(tmp_path / "out")) == _tokenizers(undisturbed)


def test_a_worker_that_is_lost_again_and_again_stops_the_training(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_training, "_LONGEST_PAUSE", 0.0)
    spec = parse_spec(job(corpus, tmp_path / "out"))
    share = WordFiles(job=Job(spec, spec.output), parts=[], weights=(1, 1), min_word_count=1)
    ray.init("local", num_cpus=1, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    try:
        partitions = ray_training._RayPartitions([share])
        for _ in range(8):
            ray.kill(partitions.actors[0])
            assert isinstance(partitions.call("seen", {0: ()})[0], PartitionLost)
            partitions.replace(0)
        ray.kill(partitions.actors[0])
        with pytest.raises(TaskFailed, match=r"worker 1 of 1 of a training was lost 9 times: .*more execution.train_work"):
            partitions.call("seen", {0: ()})
    finally:
        ray.shutdown()
