"""Lines and whole files, plain or compressed, as ids and texts (binary: not yet known to be UTF-8)."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import IO, Any

import msgspec
import numpy as np
import pyarrow as pa
import zstandard
from numpy.typing import NDArray

from pipeline.arrow import binary_array
from pipeline.errors import DataError
from pipeline.kernels.keys import PADDING
from pipeline.kernels.ragged import gather_ranges, line_starts
from pipeline.stages.shard import FileRange, ReadOptions

_READ_BYTES = 4 << 20
_COMPRESSED_BYTES = 256 << 10
_BOM = b"\xef\xbb\xbf"


def _compression(name: str) -> str | None:
    return next((ending for ending in (".gz", ".zst") if name.endswith(ending)), None)


def _iter_blocks(file: IO[bytes], part: FileRange) -> Iterator[bytes]:
    """The file's bytes, decompressed; DataError if a compressed stream is damaged or cut off."""
    ending = _compression(part.uri)
    if ending is None:
        while block := file.read(_READ_BYTES):
            yield block
        return
    opened = gzip.GzipFile(fileobj=file) if ending == ".gz" else _ZstdFrames(file)
    try:
        while block := opened.read(_READ_BYTES):
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


def _line_start(file: IO[bytes], at: int) -> int:
    """The first line start at or after byte ``at`` of a plain file; its end if there is none."""
    if at == 0:
        return 0
    file.seek(at - 1)
    at -= 1
    while block := file.read(_READ_BYTES):
        end = block.find(b"\n")
        if end >= 0:
            return at + end + 1
        at += len(block)
    return at


def _iter_range(file: IO[bytes], start: int, stop: int) -> Iterator[bytes]:
    file.seek(start)
    while start < stop and (block := file.read(min(_READ_BYTES, stop - start))):
        yield block
        start += len(block)


def iter_line_blocks(file: IO[bytes], part: FileRange) -> Iterator[tuple[int, bytes]]:
    """Whole lines, several at a time, with the byte where the first starts. Of a range: the lines that *start* in it."""
    at = 0
    if part.start is not None and part.stop is not None:
        at = _line_start(file, part.start)
        blocks = _iter_range(file, at, _line_start(file, part.stop))
    else:
        blocks = _iter_blocks(file, part)
    pieces: list[bytes] = []
    for block in blocks:
        last = block.rfind(b"\n") + 1
        if last == 0:
            pieces.append(block)
            continue
        lines = b"".join([*pieces, block[:last]])
        yield at, lines
        at += len(lines)
        pieces = [block[last:]] if last < len(block) else []
    if pieces:
        yield at, b"".join(pieces)


def _line_starts(lines: bytes) -> NDArray[np.int64]:
    padded = np.frombuffer(lines + bytes(PADDING), dtype=np.uint8)
    starts: NDArray[np.int64] = line_starts(padded, len(lines))
    return starts


def read_text(file: IO[bytes], part: FileRange, options: ReadOptions) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Documents of plain text: the whole file, or its lines without their ends."""
    if options.documents == "file":
        text = b"".join(_iter_blocks(file, part))
        yield pa.array([part.name], type=pa.large_string()), pa.array([text], type=pa.large_binary())
        return
    for first, lines in iter_line_blocks(file, part):
        starts = _line_starts(lines)
        chars = np.frombuffer(lines, dtype=np.uint8)
        stops = np.append(starts[1:], len(lines) + (not lines.endswith(b"\n"))) - 1
        stops -= (stops > starts) & (chars[stops - 1] == ord("\r"))
        yield part.ids_at(starts + first), binary_array(*gather_ranges(chars, starts, stops))


def read_jsonl(file: IO[bytes], part: FileRange, options: ReadOptions) -> Iterator[tuple[pa.Array, pa.Array]]:
    """A document a line of JSON; what the fast decoder refuses goes line by line, to be judged or named."""
    decoder = msgspec.json.Decoder(_row_type(options))
    for first, lines in iter_line_blocks(file, part):
        if first == 0 and lines.startswith(_BOM):
            first, lines = len(_BOM), lines[len(_BOM) :]
        starts = _line_starts(lines)
        try:
            rows: list[Any] = decoder.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            rows = []
        if len(rows) == len(starts) and _are_objects(lines, starts):
            texts = pa.array([row.text for row in rows], type=pa.large_string()).cast(pa.large_binary())
            if options.id_column:
                own_id = options.id_column != options.text_column
                ids = pa.array([str(row.id) for row in rows], type=pa.large_string()) if own_id else texts
            else:
                ids = part.ids_at(starts + first)
            yield ids, texts
        else:
            yield _slow_json_rows(lines, first, file, part, options)


def _row_type(options: ReadOptions) -> type[Any]:
    if options.id_column is None:
        return msgspec.defstruct("Row", [("text", str | None)], rename={"text": options.text_column})
    if options.id_column == options.text_column:  # a text that is its own id; null is left to the slow way
        return msgspec.defstruct("Row", [("text", str)], rename={"text": options.text_column})
    names = {"text": options.text_column, "id": options.id_column}
    return msgspec.defstruct("Row", [("text", str | None), ("id", str | int)], rename=names)


def _are_objects(lines: bytes, starts: NDArray[np.int64]) -> bool:
    """Whether each line begins as an object and ends as one, so that rows and lines are the same."""
    chars = np.frombuffer(lines, dtype=np.uint8)
    stops = np.append(starts[1:], len(lines) if lines.endswith(b"\n") else len(lines) + 1) - 2
    stops = stops - (chars[stops] == ord("\r"))
    return bool((chars[starts] == ord("{")).all() and (chars[stops] == ord("}")).all())


def _parse_int(digits: str) -> int | str:
    return int(digits) if len(digits) < 4000 else digits  # Python refuses to make longer ones numbers


def _slow_json_rows(
    lines: bytes, first: int, file: IO[bytes], part: FileRange, options: ReadOptions
) -> tuple[pa.Array, pa.Array]:
    """Line by line, for blocks with blank lines, invalid UTF-8, lone surrogates, or an error to be named."""
    ids: list[str] = []
    texts: list[bytes | None] = []
    at = first
    for line in lines.split(b"\n"):
        where = f"{part.uri}: the line at byte {at}"
        if line.strip():
            try:
                row = json.loads(line.decode("utf-8", errors="surrogateescape"), parse_int=_parse_int)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: not JSON: {error}") from error
            ids.append(_json_id(row, f"{part.name}:{at}", where, options))
            texts.append(_json_text(row, _is_utf8(line), where, options))
        at += len(line) + 1
    return pa.array(ids, type=pa.large_string()), pa.array(texts, type=pa.large_binary())


def _json_text(row: Any, is_utf8: bool, where: str, options: ReadOptions) -> bytes | None:
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON object is expected, not {type(row).__name__}")
    if options.text_column not in row:
        raise DataError(
            f"{where}: no column {options.text_column!r}; it has {', '.join(map(repr, row))}. Set the source's text_column."
        )
    text = row[options.text_column]
    if text is None:
        return None
    if not isinstance(text, str):
        raise DataError(f"{where}: column {options.text_column!r} is {type(text).__name__}, expected a string")
    # Bytes that were not UTF-8 come back as they were; a surrogate that JSON itself spelled out becomes three bytes
    # that are not UTF-8 either. The policy for invalid UTF-8 then decides about both.
    if is_utf8:
        return text.encode("utf-8", errors="surrogatepass")
    return b"".join(
        bytes([ord(c) - 0xDC00]) if 0xDC80 <= ord(c) <= 0xDCFF else c.encode("utf-8", errors="surrogatepass") for c in text
    )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _json_id(row: Any, default: str, where: str, options: ReadOptions) -> str:
    if options.id_column is None:
        return default
    value = row.get(options.id_column) if isinstance(row, dict) else None
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(f"{where}: {options.id_column!r} is {value!r}; a string or an integer is expected")
    return str(value).encode(errors="replace").decode()
