"""What does not fit in memory, in files of the scratch space (``TMPDIR``): a fast, local disk."""

from __future__ import annotations

import contextlib
import tempfile
import weakref
import zlib
from collections.abc import Iterable
from typing import IO, NamedTuple

import pyarrow as pa

from pipeline.errors import StorageError


class _Place(NamedTuple):
    """Where a record batch lies in a run, as an Arrow IPC message, and its CRC-32."""

    offset: int
    num_bytes: int
    checksum: int


class Runs:
    """Files of record batches, one for each group, that are read back group by group.

    The files have no names: they go with the object, and with the process, however it ends.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._files: list[tuple[IO[bytes], list[_Place]]] = []
        self._open = contextlib.ExitStack()
        weakref.finalize(self, self._open.close)

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self._files)

    def add(self, batches: Iterable[pa.RecordBatch], what: str) -> None:
        """Write a run; ``what`` it is, for the message.

        Raises
        ------
        StorageError
            There is no room, or no such folder.
        """
        places = []
        try:
            file = self._open.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 - the stack closes it
            for batch in batches:
                message = memoryview(batch.serialize())
                places.append(_Place(file.tell(), len(message), zlib.crc32(message)))
                while message:
                    message = message[file.write(message) :]
        except OSError as error:
            raise StorageError(
                f"{tempfile.gettempdir()}: cannot keep {what} there: {error.strerror or error}. "
                "Set TMPDIR to a folder with more room"
            ) from error
        self._files.append((file, places))

    def groups(self, num_groups: int) -> Iterable[list[pa.RecordBatch]]:
        """For each group, its batches in the order of the runs.

        Raises
        ------
        StorageError
            The disk does not give back what was written.
        """
        return ([self._read(file, places[group]) for file, places in self._files] for group in range(num_groups))

    def _read(self, file: IO[bytes], place: _Place) -> pa.RecordBatch:
        try:
            file.seek(place.offset)
            message = bytearray()
            while len(message) < place.num_bytes and (more := file.read(place.num_bytes - len(message))):
                message += more
        except OSError as error:
            raise StorageError(f"{tempfile.gettempdir()}: cannot read back: {error.strerror or error}") from error
        if len(message) != place.num_bytes or zlib.crc32(message) != place.checksum:
            raise StorageError(f"{tempfile.gettempdir()}: what was written there is not what is read: is the disk failing?")
        return pa.ipc.read_record_batch(pa.py_buffer(message), self._schema)
