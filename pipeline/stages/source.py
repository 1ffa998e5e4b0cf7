"""Read documents out of open files, batch after batch.

Every reader is a stream: memory holds a block and the longest document, whatever the size of the file. What cannot be a
document is either dropped under a name (``null``, ``empty``, ``invalid_utf8``) or ends in a DataError that says where.

A document's default id is ``FILE:ROW`` for tables and ``FILE:BYTE`` (where its line starts) for lines, so that it does
not depend on how a file was cut into shards.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from pipeline.errors import DataError
from pipeline.schema import DOCUMENTS

BATCH_BYTES = 8 << 20
"""Text per batch, about."""

_READ_BYTES = 4 << 20
_COMPRESSED_BYTES = 256 << 10
_TABLE_ROWS = 1024

Format = Literal["jsonl", "parquet", "arrow", "txt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How the files of a source are read; see ``spec.SourceSpec``."""

    format: Format
    text_column: str = "text"
    id_column: str | None = None
    documents: Literal["file", "line"] = "file"
    errors: Literal["stop", "replace", "skip"] = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRange:
    """A file, or a part of it: ``[start, stop)`` in bytes of a plain file or row groups of a parquet file; None: all."""

    uri: str
    name: str
    num_bytes: int
    start: int | None = None
    stop: int | None = None


def read_documents(
    file: IO[bytes], part: FileRange, options: ReadOptions, dropped: Counter[str]
) -> Iterator[pa.RecordBatch]:
    """Documents of a file or a part of it, as ``schema.DOCUMENTS`` batches; adds to ``dropped`` what it leaves out.

    Raises
    ------
    DataError
        The file is cut off, of another format, lacks the column, or holds what is not text.
    """
    if options.format == "parquet":
        raw = _read_parquet(file, part, options)
    elif options.format == "arrow":
        raw = _read_arrow(file, part, options)
    elif options.format == "jsonl":
        raw = _read_jsonl(file, part, options)
    else:
        raw = _read_text(file, part, options)
    for ids, texts in raw:
        yield from _clean(ids, texts, part, options, dropped)


def coalesce(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same documents in batches of about ``BATCH_BYTES``, so that what follows costs little per document."""
    waiting: list[pa.RecordBatch] = []
    num_bytes = 0
    for batch in batches:
        waiting.append(batch)
        num_bytes += batch.nbytes
        if num_bytes >= BATCH_BYTES:
            yield pa.concat_batches(waiting)
            waiting, num_bytes = [], 0
    if waiting:
        yield pa.concat_batches(waiting)


# --- from raw rows to documents ---------------------------------------------------------------------------------------


def _clean(
    ids: pa.Array, texts: pa.Array, part: FileRange, options: ReadOptions, dropped: Counter[str]
) -> Iterator[pa.RecordBatch]:
    """Drop nulls, invalid and empty texts. ``texts`` is binary: not yet known to be UTF-8."""
    if texts.null_count:
        dropped["null"] += texts.null_count
        valid = texts.is_valid()
        ids, texts = ids.filter(valid), texts.filter(valid)
    if not _is_utf8(texts):
        ids, texts = _apply_policy(ids, texts, part, options, dropped)
    texts = texts.cast(pa.large_string())
    is_empty = pc.equal(pc.binary_length(texts), 0)
    if num_empty := pc.sum(is_empty).as_py() or 0:
        dropped["empty"] += num_empty
        ids, texts = ids.filter(pc.invert(is_empty)), texts.filter(pc.invert(is_empty))
    if len(texts):
        yield pa.RecordBatch.from_arrays([ids.cast(pa.large_string()), texts], schema=DOCUMENTS)


def _is_utf8(texts: pa.Array) -> bool:
    try:
        texts.cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def _apply_policy(
    ids: pa.Array, texts: pa.Array, part: FileRange, options: ReadOptions, dropped: Counter[str]
) -> tuple[pa.Array, pa.Array]:
    keep, repaired = [], []
    for row, raw in enumerate(texts.to_pylist()):
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            if options.errors == "stop":
                where = ids[row].cast(pa.large_binary()).as_py().decode(errors="replace")
                raise DataError(
                    f"{part.uri}: document {where}: invalid UTF-8 at byte {error.start} of its text; "
                    "set errors: replace or errors: skip to go on"
                ) from error
            if options.errors == "skip":
                dropped["invalid_utf8"] += 1
                continue
            raw = raw.decode(errors="replace").encode()
        keep.append(row)
        repaired.append(raw)
    return ids.take(pa.array(keep, type=pa.int64())), pa.array(repaired, type=pa.large_binary())


def _default_ids(part: FileRange, places: Iterable[int]) -> pa.Array:
    return pa.array([f"{part.name}:{place}" for place in places], type=pa.large_string())


# --- tables -----------------------------------------------------------------------------------------------------------


def _pick_columns(schema: pa.Schema, part: FileRange, options: ReadOptions) -> list[str]:
    wanted = [options.text_column] + ([options.id_column] if options.id_column else [])
    for name in wanted:
        if name not in schema.names:
            remedy = _REMEDY[name == options.text_column]
            raise DataError(f"{part.uri}: no column {name!r}; its columns are {', '.join(schema.names)}. {remedy}")
    kind = schema.field(options.text_column).type
    value_kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(test(value_kind) for test in _TEXT_TYPES):
        raise DataError(
            f"{part.uri}: column {options.text_column!r} is {kind}, expected string; set text_column to a column of text"
        )
    return list(dict.fromkeys(wanted))


_REMEDY = {True: "Set the source's text_column.", False: "Set the source's id_column."}
_TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
)


def _table_rows(batch: pa.RecordBatch, first_row: int, part: FileRange, options: ReadOptions) -> tuple[pa.Array, pa.Array]:
    texts = batch.column(options.text_column)
    if pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_decode()
    texts = texts.cast(pa.large_binary())
    if options.id_column is None:
        return _default_ids(part, range(first_row, first_row + len(texts))), texts
    ids = batch.column(options.id_column)
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    try:
        ids = ids.cast(pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{part.uri}: column {options.id_column!r} is {ids.type}, which cannot be an id") from error
    return _require_ids(ids, first_row, part, options), texts


def _require_ids(ids: pa.Array, first_row: int, part: FileRange, options: ReadOptions) -> pa.Array:
    if ids.null_count:
        row = first_row + ids.is_null().to_pylist().index(True)
        raise DataError(
            f"{part.uri}: row {row}: {options.id_column!r} is null; every document needs an id, or leave id_column out"
        )
    return ids


def _read_parquet(file: IO[bytes], part: FileRange, options: ReadOptions) -> Iterator[tuple[pa.Array, pa.Array]]:
    with _arrow_errors(part, "parquet"):
        parquet = pq.ParquetFile(file, pre_buffer=False)
        columns = _pick_columns(parquet.schema_arrow, part, options)
        groups = range(part.start or 0, parquet.num_row_groups if part.stop is None else part.stop)
        first_row = sum(parquet.metadata.row_group(g).num_rows for g in range(groups.start))
    for group in groups:
        with _arrow_errors(part, f"parquet, row group {group}"):
            for batch in parquet.iter_batches(_TABLE_ROWS, row_groups=[group], columns=columns, use_threads=False):
                yield _table_rows(batch, first_row, part, options)
                first_row += len(batch)


def _read_arrow(file: IO[bytes], part: FileRange, options: ReadOptions) -> Iterator[tuple[pa.Array, pa.Array]]:
    first_row = 0
    with _arrow_errors(part, "Arrow IPC"):
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        reader = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
        columns = _pick_columns(reader.schema, part, options)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else iter(reader)
        for batch in batches:
            for start in range(0, len(batch), _TABLE_ROWS):
                piece = batch.slice(start, _TABLE_ROWS).select(columns)
                yield _table_rows(piece, first_row, part, options)
                first_row += len(piece)


@contextlib.contextmanager
def _arrow_errors(part: FileRange, what: str) -> Iterator[None]:
    """What Arrow says of a damaged file, as a DataError with the file's name."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{part.uri}: cannot be read as {what}: {error}") from error


# --- lines and whole files --------------------------------------------------------------------------------------------


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


def _iter_line_blocks(file: IO[bytes], part: FileRange) -> Iterator[tuple[int, bytes]]:
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


def _line_starts(lines: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    ends = np.flatnonzero(np.frombuffer(lines, dtype=np.uint8) == 10) + 1
    starts = np.concatenate(([0], ends))
    return starts[:-1] if starts[-1] == len(lines) else starts


def _read_text(file: IO[bytes], part: FileRange, options: ReadOptions) -> Iterator[tuple[pa.Array, pa.Array]]:
    if options.documents == "file":
        text = b"".join(_iter_blocks(file, part))
        yield pa.array([part.name], type=pa.large_string()), pa.array([text], type=pa.large_binary())
        return
    for first, lines in _iter_line_blocks(file, part):
        starts = _line_starts(lines)
        texts = lines.split(b"\n")[: len(starts)]
        texts = [text[:-1] if text.endswith(b"\r") else text for text in texts]
        yield _default_ids(part, (starts + first).tolist()), pa.array(texts, type=pa.large_binary())


def _read_jsonl(file: IO[bytes], part: FileRange, options: ReadOptions) -> Iterator[tuple[pa.Array, pa.Array]]:
    decoder = msgspec.json.Decoder(_row_type(options))
    for first, lines in _iter_line_blocks(file, part):
        starts = _line_starts(lines)
        try:
            rows: list[Any] = decoder.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError):
            rows = []
        if len(rows) == len(starts) and _are_objects(lines, starts):
            texts = pa.array([row.text for row in rows], type=pa.large_string()).cast(pa.large_binary())
            if options.id_column:
                own_id = options.id_column != options.text_column
                ids = pa.array([str(row.id) for row in rows], type=pa.large_string()) if own_id else texts
            else:
                ids = _default_ids(part, (starts + first).tolist())
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


def _are_objects(lines: bytes, starts: np.ndarray[Any, np.dtype[np.int64]]) -> bool:
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
            texts.append(_json_text(row, where, options))
        at += len(line) + 1
    return pa.array(ids, type=pa.large_string()), pa.array(texts, type=pa.large_binary())


def _json_text(row: Any, where: str, options: ReadOptions) -> bytes | None:
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON object is expected, not {type(row).__name__}")
    if options.text_column not in row:
        raise DataError(f"{where}: no column {options.text_column!r}; it has {', '.join(map(repr, row))}. {_REMEDY[True]}")
    text = row[options.text_column]
    if text is None:
        return None
    if not isinstance(text, str):
        raise DataError(f"{where}: column {options.text_column!r} is {type(text).__name__}, expected a string")
    if _is_encodable(text):
        return text.encode()
    # Bytes that were not UTF-8 come back as they were; a surrogate that JSON itself spelled out becomes three bytes
    # that are not UTF-8 either. The policy for invalid UTF-8 then decides about both.
    return b"".join(
        bytes([ord(c) - 0xDC00]) if 0xDC80 <= ord(c) <= 0xDCFF else c.encode("utf-8", errors="surrogatepass") for c in text
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_id(row: Any, default: str, where: str, options: ReadOptions) -> str:
    if options.id_column is None:
        return default
    value = row.get(options.id_column) if isinstance(row, dict) else None
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(f"{where}: {options.id_column!r} is {value!r}; a string or an integer is expected")
    return str(value).encode(errors="replace").decode()
