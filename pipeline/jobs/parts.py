"""Files of many record batches, of which every reader wants one: its partition, or its bucket, from each file.

Such a file is an Arrow IPC stream; an index beside it says where each batch lies, and its checksum, and ends with a checksum
of itself. So a reader asks the store for two things a file, many files at a time, and no byte goes into a result unchecked.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from pipeline import storage
from pipeline.errors import ArtifactError
from pipeline.jobs.tasks import Job, Outputs, disown
from pipeline.schema import PARTS_INDEX

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_FILES_AT_ONCE = 256


def _index_path(path: str) -> str:
    return f"{path}.index"


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little")


def write_parts(outputs: Outputs, path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Publish a file of parts and its index; ``path`` is below the output."""
    offsets, lengths, checksums = [], [], []
    with outputs.publish(path) as sink:
        sink.write(schema.serialize())
        for batch in batches:
            message = batch.serialize()
            offsets.append(sink.num_bytes)
            lengths.append(sink.write(message))
            checksums.append(zlib.crc32(message))
        sink.write(_END_OF_STREAM)
    columns = [pa.array(offsets, pa.int64()), pa.array(lengths, pa.int64()), pa.array(checksums, pa.uint32())]
    index = pa.RecordBatch.from_arrays(columns, schema=PARTS_INDEX)
    content = b"".join([PARTS_INDEX.serialize(), index.serialize(), _END_OF_STREAM])
    outputs.write_bytes(_index_path(path), content + _checksum(content))


def read_parts(
    job: Job, step: str, files: Sequence[tuple[str, str]], number: int, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """One batch of each file, in order.

    Parameters
    ----------
    job
        Whose output the files are in.
    step
        The step that wrote them.
    files
        Path below the output, and the task that published it.
    number
        Of the batch in each file.
    schema
        Of the batches.

    Raises
    ------
    ArtifactError
        A file is gone or damaged; the receipt of its task is deleted, so that the next run makes it anew.
    """
    for first in range(0, len(files), _FILES_AT_ONCE):
        some = files[first : first + _FILES_AT_ONCE]
        uris = [job.path(path) for path, _ in some]
        try:
            indexes = storage.read_all([_index_path(uri) for uri in uris])
            places = [_place(job, step, file, index, number) for file, index in zip(some, indexes, strict=True)]
            ranges = [(uri, offset, offset + length) for uri, (offset, length, _) in zip(uris, places, strict=True)]
            messages = storage.read_ranges(ranges)
        except ArtifactError:
            for path, name in some:
                if not all(storage.exists(job.path(found)) for found in (path, _index_path(path))):
                    raise disown(job, step, name, path, "it is gone") from None
            raise
        for (path, name), (_, length, checksum), message in zip(some, places, messages, strict=True):
            if len(message) != length or zlib.crc32(message) != checksum:
                raise disown(job, step, name, path, f"its part {number} is damaged")
            yield pa.ipc.read_record_batch(pa.py_buffer(message), schema)


def _place(job: Job, step: str, file: tuple[str, str], index: bytes, number: int) -> tuple[int, int, int]:
    """Offset, length and checksum of a part."""
    path, name = file
    try:
        if _checksum(index[:-4]) != index[-4:]:
            raise ValueError("its content has changed")
        row = pa.ipc.open_stream(index).read_next_batch().slice(number, 1).to_pydict()
        return int(row["offset"][0]), int(row["length"][0]), int(row["crc32"][0])
    except (ValueError, OSError, LookupError, StopIteration, TypeError) as error:
        raise disown(job, step, name, _index_path(path), f"its entry {number} cannot be read: {error}") from error
