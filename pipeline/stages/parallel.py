"""Read rows of parallel text: what says the same in several languages shares a group."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError
from pipeline.stages.lines import iter_line_blocks
from pipeline.stages.shard import FileRange

_BATCH_ROWS = 1024
_BOM = b"\xef\xbb\xbf"


class ParallelRow(NamedTuple):
    """A text, its language, and the group of those that say the same."""

    group: str
    language: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelColumns:
    """Which columns, or keys of JSON, hold what."""

    group: str
    language: str
    text: str

    @property
    def names(self) -> list[str]:
        """In the order of ``ParallelRow``."""
        return [self.group, self.language, self.text]


def read_parallel(
    file: IO[bytes], uri: str, format: Literal["jsonl", "parquet"], columns: ParallelColumns
) -> Iterator[list[ParallelRow]]:
    """The rows of a file, some at a time; a jsonl file may be compressed, as its name says.

    Raises
    ------
    DataError
        A row lacks one of the columns, or has something else there than text (a group may be a whole number).
    """
    part = FileRange(uri=uri, name=uri, num_bytes=0)
    yield from (_read_table if format == "parquet" else _read_lines)(file, part, columns)


def _read_lines(file: IO[bytes], part: FileRange, columns: ParallelColumns) -> Iterator[list[ParallelRow]]:
    fields: list[tuple[str, Any]] = [("group", str | int), ("language", str), ("text", str)]
    rename = dict(zip(("group", "language", "text"), columns.names, strict=True))
    decoder = msgspec.json.Decoder(msgspec.defstruct("Row", fields, rename=rename))
    for first, lines in iter_line_blocks(file, part):
        content = lines.removeprefix(_BOM) if first == 0 else lines
        try:
            rows: list[Any] = decoder.decode_lines(content)
            yield [ParallelRow(str(row.group), row.language, row.text) for row in rows]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            at = first + len(lines) - len(content)
            yield [
                _slow_row(line, f"{part.uri}: the line at byte {start}", columns)
                for start, line in _lines_at(content, at)
                if line.strip()
            ]


def _lines_at(content: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    for line in content.split(b"\n"):
        yield at, line
        at += len(line) + 1


def _slow_row(line: bytes, where: str, columns: ParallelColumns) -> ParallelRow:
    """A row of a block that the fast decoder refuses: it may be the one that is wrong."""
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON in UTF-8: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON object is expected, not {type(row).__name__}")
    for field in columns.names:
        if field not in row:
            raise DataError(f"{where}: no {field!r}; it has {', '.join(map(repr, row))}. {_REMEDY}")
    values = [row[field] for field in columns.names]
    if isinstance(values[0], int) and not isinstance(values[0], bool):
        values[0] = str(values[0])
    for field, value in zip(columns.names, values, strict=True):
        if not isinstance(value, str):
            raise DataError(f"{where}: {field!r} is {value!r}; text is expected")
        if not _is_encodable(value):
            raise DataError(f"{where}: {field!r} holds half of a surrogate pair, which no UTF-8 can hold")
    return ParallelRow(*values)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_REMEDY = "Set group_column, language_column and text_column of evaluate.parallel to what the file has."


def _read_table(file: IO[bytes], part: FileRange, columns: ParallelColumns) -> Iterator[list[ParallelRow]]:
    row = 0
    try:
        parquet = pq.ParquetFile(file, pre_buffer=False)
        have = parquet.schema_arrow.names
        for field in columns.names:
            if field not in have:
                raise DataError(f"{part.uri}: no column {field!r}; its columns are {', '.join(have)}. {_REMEDY}")
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=list(dict.fromkeys(columns.names)), use_threads=False):
            values = [_texts(batch.column(field), field, row, part) for field in columns.names]
            yield [ParallelRow(*some) for some in zip(*values, strict=True)]
            row += len(batch)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{part.uri}: cannot be read as parquet: {error}") from error


def _texts(column: pa.Array, field: str, first_row: int, part: FileRange) -> list[str]:
    if column.null_count:
        row = first_row + column.is_null().to_pylist().index(True)
        raise DataError(f"{part.uri}: row {row}: {field!r} is null; text is expected")
    try:
        texts: list[str] = column.cast(pa.large_string()).to_pylist()
    except pa.ArrowNotImplementedError as error:
        raise DataError(f"{part.uri}: column {field!r} is {column.type}; text is expected") from error
    return texts
