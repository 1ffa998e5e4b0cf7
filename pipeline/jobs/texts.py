"""Texts of files for commands that are no job: any format a job reads, told by the file's ending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from pipeline import storage
from pipeline.errors import SpecError
from pipeline.jobs.plan import format_of
from pipeline.schema import DOCUMENTS
from pipeline.stages.shard import FileRange, ReadOptions
from pipeline.stages.source import coalesce, read_documents


def read_texts(pattern: str, dropped: Counter[str]) -> Iterator[pa.LargeStringArray]:
    """The documents of the files that a path or glob names, some at a time; adds to ``dropped`` what is left out, and why.

    A text file is one document; of tables and JSON lines the column ``text`` is read. What is not UTF-8 is left out.

    Raises
    ------
    SpecError
        There is no such file, or its ending tells no format.
    DataError
        A file is not what its ending says.
    """
    files = storage.list_files(storage.absolute(pattern))
    if not files:
        raise SpecError(f"{pattern} matches no file; name a file, or a glob in quotation marks")
    for file in files:
        found = format_of(file.uri)
        if found is None:
            raise SpecError(
                f"{file.uri}: its ending tells no format; .jsonl, .parquet, .arrow, .fasta and .txt do, and lines also "
                "before .gz or .zst: rename or convert the file"
            )
        part = FileRange(uri=file.uri, name=file.name, num_bytes=file.num_bytes)
        options = ReadOptions(format=found, errors="skip")
        with storage.open_input(file.uri) as opened:
            for batch in coalesce(read_documents(opened, part, options, dropped)):
                yield batch.column(DOCUMENTS.get_field_index("text"))
