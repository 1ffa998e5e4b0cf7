"""Files of many parts: what is read is what was written, or an error that has the part made again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.errors import ArtifactError
from pipeline.jobs.parts import read_parts, write_parts
from pipeline.jobs.tasks import Job, Outputs, receipt_path
from pipeline.schema import WORD_COUNTS, token_rows
from tests.s3 import Bucket

NO_SPEC: Any = None

Row = tuple[bytes, int]


def batch(*rows: Row) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array([word for word, _ in rows], pa.large_binary()), pa.array([n for _, n in rows], pa.int64())],
        schema=WORD_COUNTS,
    )


def rows_of_file(index: int, number: int) -> list[Row]:
    """What part ``number`` of file ``index`` holds; some parts hold nothing."""
    return [(f"{index}/{number}/{i}".encode(), index * 1000 + i) for i in range((index + number) % 4)]


def write(job: Job, index: int, num_parts: int) -> tuple[str, str]:
    """A file, and a receipt that stands for its task's; the file as ``read_parts`` takes it."""
    path, task = f"_work/count/words/part-{index:05d}.arrow", f"{index:05d}"
    outputs = Outputs(job)
    write_parts(outputs, path, WORD_COUNTS, (batch(*rows_of_file(index, number)) for number in range(num_parts)))
    assert [entry["path"] for entry in outputs.entries] == [path, f"{path}.index"]
    storage.publish_bytes(job.path(receipt_path("count", task)), b"{}")
    return path, task


def read(job: Job, files: list[tuple[str, str]], number: int) -> list[pa.RecordBatch]:
    return list(read_parts(job, "count", files, number, WORD_COUNTS))


def receipts(job: Job) -> list[str]:
    return storage.list_names(job.path("_work/receipts/count"))


@pytest.fixture(params=["disk", "s3"])
def any_job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Job]:
    """Outputs on a disk and on S3."""
    if request.param == "disk":
        yield Job(NO_SPEC, str(tmp_path))
    else:
        bucket: Bucket = request.getfixturevalue("bucket")
        yield Job(NO_SPEC, f"{bucket.uri}/out")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(NO_SPEC, str(tmp_path))


def test_one_part_of_each_of_many_files_in_their_order(job: Job) -> None:
    """More files than are asked for at once."""
    files = [write(job, index, 3) for index in range(300)]
    for number in range(3):
        found = read(job, files, number)
        assert all(part.schema == WORD_COUNTS for part in found)
        assert [list(zip(*part.to_pydict().values(), strict=True)) for part in found] == [
            rows_of_file(index, number) for index in range(300)
        ]
    assert read(job, [], 0) == []
    assert [part.to_pydict() for part in read(job, files[::-7], 2)] == [
        batch(*rows_of_file(index, 2)).to_pydict() for index in range(299, -1, -7)
    ]


def test_parts_of_a_store(any_job: Job) -> None:
    files = [write(any_job, index, 5) for index in range(9)]
    for number in range(5):
        found = read(any_job, files, number)
        assert [part.to_pydict() for part in found] == [
            batch(*rows_of_file(index, number)).to_pydict() for index in range(9)
        ]


def test_a_file_of_parts_is_an_arrow_stream(job: Job) -> None:
    path, _ = write(job, 2, 6)
    with pa.ipc.open_stream(job.path(path)) as stream:
        assert stream.schema == WORD_COUNTS
        assert [part.to_pydict() for part in stream] == [batch(*rows_of_file(2, n)).to_pydict() for n in range(6)]


def test_rows_of_ids_keep_their_type(job: Job) -> None:
    for dtype in ("uint16", "uint32"):
        schema = token_rows(pa.scalar(0, getattr(pa, dtype)()).type.to_pandas_dtype())
        ids = [[1, 2, 65_535], [], [7]]
        rows = pa.RecordBatch.from_pydict({"key": [2**64 - 1, 0, 5], "ids": ids}, schema=schema)
        path = f"_work/encode/{dtype}.arrow"
        write_parts(Outputs(job), path, schema, [rows.slice(0, 0), rows, rows.slice(1, 1)])
        for number, expected in enumerate([rows.slice(0, 0), rows, rows.slice(1, 1)]):
            (found,) = read_parts(job, "encode", [(path, "x")], number, schema)
            assert found.schema == schema
            assert found.to_pydict() == expected.to_pydict()


def test_a_file_without_parts_has_none_to_read(any_job: Job) -> None:
    files = [write(any_job, 0, 3), write(any_job, 1, 0)]
    with pytest.raises(ArtifactError, match=r"part-00001\.arrow\.index: its entry 0 is damaged.*count 00001 is done anew"):
        read(any_job, files, 0)
    assert receipts(any_job) == ["00000.json"]


@pytest.mark.parametrize("number", [3, 4, 1_000_000])
def test_a_number_that_the_file_does_not_have(any_job: Job, number: int) -> None:
    with pytest.raises(ArtifactError, match=rf"index: its entry {number} is damaged"):
        read(any_job, [write(any_job, 5, 3)], number)
    assert receipts(any_job) == []


@pytest.mark.parametrize("which", ["index", "data"])
def test_a_flipped_bit_anywhere_is_found_or_means_nothing(job: Job, which: str) -> None:
    """Three files, of which the second is damaged at each of its bytes in turn."""
    files = [write(job, index, 3) for index in (1, 2, 3)]
    originals = [[part.to_pydict() for part in read(job, files, number)] for number in range(3)]
    path = Path(job.path(files[1][0] + (".index" if which == "index" else "")))
    receipt = Path(job.path(receipt_path("count", "00002")))
    content = path.read_bytes()
    found = set()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        for number in range(3):
            error = None
            try:
                assert [part.to_pydict() for part in read(job, files, number)] == originals[number]
            except ArtifactError as raised:
                error = str(raised)
            assert receipt.exists() is (error is None)
            if error is not None:
                assert files[1][0] in error
                assert "run the same command again: count 00002 is done anew" in error
                assert receipts(job) == ["00001.json", "00003.json"]
                receipt.write_bytes(b"{}")
                found.add(at)
    assert len(found) == len(content) if which == "index" else len(content) > len(found) > len(content) / 2


@pytest.mark.parametrize("which", ["", ".index"])
@pytest.mark.parametrize("left", [0, 0.3, 0.6, 0.95])
def test_a_file_that_is_cut_off(any_job: Job, which: str, left: float) -> None:
    files = [write(any_job, index, 3) for index in (6, 7, 8)]
    uri = any_job.path(files[1][0] + which)
    content = storage.read_bytes(uri)
    storage.publish_bytes(uri, content[: int(len(content) * left)])
    errors = []
    for number in range(3):
        try:
            found = [part.to_pydict() for part in read(any_job, files, number)]
            assert found == [batch(*rows_of_file(index, number)).to_pydict() for index in (6, 7, 8)]
        except ArtifactError as error:
            errors.append(str(error))
    assert all("count 00007 is done anew" in error for error in errors)
    assert receipts(any_job) == ["00006.json", "00008.json"]
    assert len(errors) == 3 if left < 0.3 else errors  # what lies before the cut is read, and right


@pytest.mark.parametrize("which", ["", ".index"])
def test_a_file_that_is_gone_is_made_again_by_its_own_task(any_job: Job, which: str) -> None:
    files = [write(any_job, index, 2) for index in range(4)]
    storage.remove(any_job.path(files[2][0] + which))
    with pytest.raises(ArtifactError, match=rf"{files[2][0]}: it is gone; .*count 00002 is done anew"):
        read(any_job, files, 1)
    assert receipts(any_job) == ["00000.json", "00001.json", "00003.json"]
