"""Rows of parquet and Arrow IPC files as ids and texts (binary: not yet known to be UTF-8), batch after batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import DataError
from pipeline.stages.shard import FileRange, ReadOptions

_END_MARK = b"\xff\xff\xff\xff\0\0\0\0"

TABLE_ROWS = 1024
"""Rows decoded at a time."""


def _pick_columns(schema: pa.Schema, part: FileRange, options: ReadOptions) -> list[str]:
    wanted = [options.text_column] + ([options.id_column] if options.id_column else [])
    for name in wanted:
        if schema.names.count(name) > 1:
            raise DataError(f"{part.uri}: {schema.names.count(name)} columns are called {name!r}; rename all but one")
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
        return part.ids_at(np.arange(first_row, first_row + len(texts))), texts
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


def read_parquet(file: IO[bytes], part: FileRange, options: ReadOptions) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Rows of the row groups of a part."""
    with _arrow_errors(part, "parquet"):
        parquet = pq.ParquetFile(file, pre_buffer=False)
        columns = _pick_columns(parquet.schema_arrow, part, options)
        groups = range(part.start or 0, parquet.num_row_groups if part.stop is None else part.stop)
        first_row = sum(parquet.metadata.row_group(g).num_rows for g in range(groups.start))
    for group in groups:
        with _arrow_errors(part, f"parquet, row group {group}"):
            for batch in parquet.iter_batches(TABLE_ROWS, row_groups=[group], columns=columns, use_threads=False):
                yield _table_rows(batch, first_row, part, options)
                first_row += len(batch)


def _check_structure(column: pa.Array) -> None:
    """ArrowInvalid if offsets or indices lead out of the array, as those of a damaged file may; UTF-8 is judged later."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        if "Invalid UTF8" not in str(error):
            raise
        if isinstance(column, pa.DictionaryArray) and len(column):
            column.indices.validate(full=True)
            if pc.min(column.indices).as_py() < 0 or pc.max(column.indices).as_py() >= len(column.dictionary):
                raise


def read_arrow(file: IO[bytes], part: FileRange, options: ReadOptions) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Rows of an Arrow IPC file or stream."""
    first_row = 0
    with _arrow_errors(part, "Arrow IPC"):
        is_file = file.read(6) == b"ARROW1"
        if not is_file and part.num_bytes:
            file.seek(max(part.num_bytes - len(_END_MARK), 0))
            if file.read() != _END_MARK:  # Arrow itself takes a stream that just stops for one that has ended
                raise DataError(f"{part.uri}: cannot be read as Arrow IPC: the stream has no end mark; copy the file again")
        file.seek(0)
        reader = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
        columns = _pick_columns(reader.schema, part, options)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else iter(reader)
        for batch in batches:
            for start in range(0, len(batch), TABLE_ROWS):
                piece = batch.slice(start, TABLE_ROWS).select(columns)
                for column in piece.columns:
                    _check_structure(column)
                yield _table_rows(piece, first_row, part, options)
                first_row += len(piece)


@contextlib.contextmanager
def _arrow_errors(part: FileRange, what: str) -> Iterator[None]:
    """What Arrow says of a damaged file, as a DataError with the file's name."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{part.uri}: cannot be read as {what}: {error}") from error
