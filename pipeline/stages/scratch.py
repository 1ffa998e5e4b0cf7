"""What does not fit in memory, in files of the scratch space (``TMPDIR``): a fast, local disk."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from pipeline.errors import StorageError


class Runs:
    """Files of record batches, one for each group, that are read back group by group. They go when the object goes."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._files: list[Path] = []

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
        try:
            if not self._files:
                self._folder = Path(tempfile.mkdtemp(prefix="tokenmill-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            path = self._folder / f"{len(self._files)}.arrow"
            with pa.ipc.new_file(str(path), self._schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
        except OSError as error:
            raise StorageError(
                f"{tempfile.gettempdir()}: cannot keep {what} there: {error.strerror or error}. "
                "Set TMPDIR to a folder with more room"
            ) from error
        self._files.append(path)

    def groups(self, num_groups: int) -> Iterable[list[pa.RecordBatch]]:
        """For each group, its batches in the order of the runs."""
        readers = [pa.ipc.open_file(str(path)) for path in self._files]
        return ([reader.get_batch(group) for reader in readers] for group in range(num_groups))
