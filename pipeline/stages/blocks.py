"""The bytes of a file, block after block: plain or decompressed, all of them or those of a range."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.kernels.keys import PADDING
from pipeline.kernels.ragged import line_starts
from pipeline.stages.shard import FileRange

READ_BYTES = 4 << 20
BOM = b"\xef\xbb\xbf"

_COMPRESSED_BYTES = 256 << 10


def _compression(name: str) -> str | None:
    return next((ending for ending in (".gz", ".zst") if name.endswith(ending)), None)


def iter_blocks(file: IO[bytes], part: FileRange) -> Iterator[bytes]:
    """The file's bytes, decompressed; DataError if a compressed stream is damaged or cut off."""
    ending = _compression(part.uri)
    if ending is None:
        while block := file.read(READ_BYTES):
            yield block
        return
    opened = gzip.GzipFile(fileobj=file) if ending == ".gz" else _ZstdFrames(file)
    try:
        while block := opened.read(READ_BYTES):
            yield block
    except EOFError as error:
        raise DataError(f"{part.uri}: the {ending[1:]} stream is cut off; copy the file again") from error
    except (zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise DataError(f"{part.uri}: damaged {ending[1:]} stream: {error}") from error


class _ZstdFrames:
    """Reads zstd frames one after the other; unlike zstandard's own reader it knows when the last is cut off.

    Input is fed in small pieces, and a piece that yields much is fed in smaller ones: a block of zstd holds at most
    128 kB of text, but a kilobyte of a repetitive stream holds thousands of blocks.
    """

    _FED_BYTES = 256

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame: Any = None
        self._pending = memoryview(b"")

    def read(self, num_bytes: int) -> bytes:
        """About ``num_bytes``, none at the end; EOFError if a frame is cut off."""
        pieces: list[bytes] = []
        size = 0
        while size < num_bytes:
            self._pending = self._pending or memoryview(self._file.read(_COMPRESSED_BYTES))
            if not self._pending:
                if self._frame is not None and not self._frame.eof:
                    raise EOFError
                break
            if self._frame is None or self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            fed, self._pending = self._pending[: self._FED_BYTES], self._pending[self._FED_BYTES :]
            pieces.append(self._frame.decompress(fed))
            size += len(pieces[-1])
            if self._frame.eof:
                self._pending = memoryview(self._frame.unused_data + self._pending)
        return b"".join(pieces)


def _start_behind(file: IO[bytes], at: int, mark: bytes) -> int:
    """The first byte at or after ``at`` of a plain file that is the second of a ``mark``; if there is none, the end."""
    if at == 0:
        return 0
    at -= 1
    file.seek(at)
    before = b""
    while block := file.read(READ_BYTES):
        found = (before + block).find(mark)
        if found >= 0:
            return at - len(before) + found + 1
        at += len(block)
        before = block[len(block) - len(mark) + 1 :]
    return at


def _iter_range(file: IO[bytes], start: int, stop: int) -> Iterator[bytes]:
    file.seek(start)
    while start < stop and (block := file.read(min(READ_BYTES, stop - start))):
        yield block
        start += len(block)


def iter_part(file: IO[bytes], part: FileRange, mark: bytes) -> tuple[int, Iterator[bytes]]:
    """The documents of a part, in blocks, and the byte where they start. Of a range: the documents that *start* in it.

    ``mark``: a line end, and what the line of a document's start begins with. A document that fills several ranges is read
    once, but looked through for its end by each of them.
    """
    if part.start is None or part.stop is None:
        return 0, iter_blocks(file, part)
    start = _start_behind(file, part.start, mark)
    if start >= part.stop:
        return start, iter(())
    return start, _iter_range(file, start, _start_behind(file, part.stop, mark))


def starts_of_lines(lines: bytes) -> NDArray[np.int64]:
    """Where the lines of a text start. ``[shape=(n_lines,), dtype=int64]``"""
    padded = np.frombuffer(lines + bytes(PADDING), dtype=np.uint8)
    starts: NDArray[np.int64] = line_starts(padded, len(lines))
    return starts
