"""Read documents out of open files, batch after batch.

Every reader is a stream: memory holds a block and the longest document, whatever the size of the file. What cannot be a
document is either dropped under a name (``null``, ``empty``, ``invalid_utf8``, ``letters``) or ends in a DataError that
says where.

A document's default id is ``FILE:ROW`` for tables and ``FILE:BYTE`` (where its line, or its header, starts) for lines and
FASTA, so that it does not depend on how a file was cut into shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError
from pipeline.schema import DOCUMENTS
from pipeline.stages.fasta import read_fasta
from pipeline.stages.lines import read_jsonl, read_text
from pipeline.stages.shard import FileRange, ReadOptions
from pipeline.stages.tables import read_arrow, read_parquet

BATCH_BYTES = 8 << 20
"""Text per batch, about."""


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
        raw = read_parquet(file, part, options)
    elif options.format == "arrow":
        raw = read_arrow(file, part, options)
    elif options.format == "jsonl":
        raw = read_jsonl(file, part, options)
    elif options.format == "fasta":
        raw = read_fasta(file, part, options, dropped)
    else:
        raw = read_text(file, part, options)
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
            yield pa.concat_batches(waiting) if len(waiting) > 1 else batch  # without a copy of what is large
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
    try:
        texts = texts.cast(pa.large_string())
    except pa.ArrowInvalid:
        ids, texts = _apply_policy(ids, texts, part, options, dropped)
        texts = texts.cast(pa.large_string())
    is_empty = pc.equal(pc.binary_length(texts), 0)
    if num_empty := pc.sum(is_empty).as_py() or 0:
        dropped["empty"] += num_empty
        ids, texts = ids.filter(pc.invert(is_empty)), texts.filter(pc.invert(is_empty))
    if len(texts):
        yield pa.RecordBatch.from_arrays([ids.cast(pa.large_string()), texts], schema=DOCUMENTS)


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
