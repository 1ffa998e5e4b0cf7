"""Files of many record batches, of which every reader wants one: its partition, or its bucket, from each file.

Such a file is an Arrow IPC stream. An index beside it says where each batch lies, how long it is, and its CRC-32. All its
entries have one size and a checksum of their own, so that a reader asks the store for two things a file: an entry and
a batch, many files at a time: with S shards and B buckets that is done S · B times. No byte goes into a result unchecked.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from pipeline import storage
from pipeline.arrow import compact
from pipeline.errors import ArtifactError
from pipeline.jobs.tasks import Job, Outputs, disown

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_FILES_AT_ONCE = 256

_ENTRY = struct.Struct("<qqI")
"""Of an index: offset and length of a record batch, as an Arrow IPC message, and its checksum; that of the entry follows."""

_CHECKSUM_BYTES = 4
_ENTRY_BYTES = _ENTRY.size + _CHECKSUM_BYTES


def _index_path(path: str) -> str:
    return f"{path}.index"


def write_parts(outputs: Outputs, path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Publish a file of parts and its index; ``path`` is below the output."""
    index = b""
    with outputs.publish(path) as sink:
        sink.write(schema.serialize())
        for batch in batches:
            message = compact(batch).serialize()
            entry = _ENTRY.pack(sink.num_bytes, len(message), zlib.crc32(message))
            index += entry + _checksum(entry)
            sink.write(message)
        sink.write(_END_OF_STREAM)
    outputs.write_bytes(_index_path(path), index)


def _checksum(entry: bytes) -> bytes:
    return zlib.crc32(entry).to_bytes(_CHECKSUM_BYTES, "little")


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
            start = number * _ENTRY_BYTES
            entries = storage.read_ranges([(_index_path(uri), start, start + _ENTRY_BYTES) for uri in uris])
            places = [_place(job, step, file, entry, number) for file, entry in zip(some, entries, strict=True)]
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


def _place(job: Job, step: str, file: tuple[str, str], content: bytes, number: int) -> tuple[int, int, int]:
    """Offset, length and checksum of a part."""
    path, name = file
    entry, checksum = content[: _ENTRY.size], content[_ENTRY.size :]
    if len(content) != _ENTRY_BYTES or _checksum(entry) != checksum:
        raise disown(job, step, name, _index_path(path), f"its entry {number} is damaged")
    offset, length, crc32 = _ENTRY.unpack(entry)
    return offset, length, crc32
