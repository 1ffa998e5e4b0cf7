"""What a shard is, and how a listing is cut into shards of about equal size: arithmetic over names and sizes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Format = Literal["jsonl", "parquet", "arrow", "txt", "fasta"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How the files of a source are read; see ``spec.SourceSpec``."""

    format: Format
    text_column: str = "text"
    id_column: str | None = None
    documents: Literal["file", "line"] = "file"
    errors: Literal["stop", "replace", "skip"] = "stop"
    letters: Literal["dna", "iupac", "protein", "any"] = "dna"
    case: Literal["upper", "keep"] = "upper"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRange:
    """A file, or a part of it: ``[start, stop)`` in bytes of a plain file or row groups of a parquet file; None: all."""

    uri: str
    name: str
    num_bytes: int
    version: str = ""
    start: int | None = None
    stop: int | None = None

    def ids_at(self, places: NDArray[np.int64]) -> pa.LargeStringArray:
        """The default ids of documents: the file's name, and their rows or the bytes where their lines start."""
        name, colon = (pa.scalar(part, pa.large_string()) for part in (self.name, ":"))
        return pc.binary_join_element_wise(name, pa.array(places).cast(pa.large_string()), colon)


COMPRESSION_RATIO = 4
"""How much larger a compressed stream is taken to be than its file; only balances the shards."""


_USUAL_SHARD = 128 << 20
_SMALLEST_SHARD = 4 << 20
_LARGEST_SHARD = 512 << 20
_LEAST_SHARDS = 16
_MOST_SHARDS = 8192


def usual_shard_bytes(total: int) -> int:
    """128 MiB. For less than 2 GiB of input a 16th of it, so that every core has work, but at least 4 MiB; for more than
    1 TiB an 8,192nd, so that the driver has not too many to keep, but at most 512 MiB.
    """
    usual = min(_USUAL_SHARD, max(_SMALLEST_SHARD, -(-total // _LEAST_SHARDS)))
    return max(usual, min(_LARGEST_SHARD, total // _MOST_SHARDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A piece of one source: ``parts`` are read one after the other. ``num_bytes``: of text, about."""

    index: int
    source: int
    parts: tuple[FileRange, ...]
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """A file of a source. ``row_groups``: bytes of text, about, in each row group of a parquet file; else empty."""

    uri: str
    name: str
    num_bytes: int
    version: str = ""
    row_groups: tuple[int, ...] = ()


def can_cut_anywhere(uri: str, options: ReadOptions) -> bool:
    """Whether the file may be cut at any byte: a range has the lines, or the FASTA records, that start in it."""
    is_plain = not uri.endswith((".gz", ".zst"))
    is_lines = options.format == "txt" and options.documents == "line"
    return is_plain and (is_lines or options.format in ("jsonl", "fasta"))


def _pieces(file: ListedFile, options: ReadOptions, shard_bytes: int) -> list[tuple[FileRange, int]]:
    """A file as ranges of at most about ``shard_bytes``, each with its size."""

    def part(start: int | None = None, stop: int | None = None) -> FileRange:
        return FileRange(
            uri=file.uri, name=file.name, num_bytes=file.num_bytes, version=file.version, start=start, stop=stop
        )

    if can_cut_anywhere(file.uri, options) and file.num_bytes > shard_bytes:
        num_ranges = -(-file.num_bytes // shard_bytes)
        cuts = [file.num_bytes * i // num_ranges for i in range(num_ranges + 1)]
        return [(part(a, b), b - a) for a, b in itertools.pairwise(cuts)]
    if file.row_groups and sum(file.row_groups) > shard_bytes:
        ranges, start, size = [], 0, 0
        for group, group_bytes in enumerate(file.row_groups):
            if size and size + group_bytes > shard_bytes:
                ranges.append((part(start, group), size))
                start, size = group, 0
            size += group_bytes
        return [*ranges, (part(start, len(file.row_groups)), size)]
    ratio = COMPRESSION_RATIO if file.uri.endswith((".gz", ".zst")) else 1
    return [(part(), sum(file.row_groups) or file.num_bytes * ratio)]


def plan_shards(sources: Sequence[tuple[Sequence[ListedFile], ReadOptions]], shard_bytes: int) -> tuple[Shard, ...]:
    """Cut every source into shards of about ``shard_bytes``: large files apart, small ones together, order kept.

    Examples
    --------
    Files of 5, 1, 1 and 1 bytes, lines, 3 bytes a shard: the first is cut in two; the others share a shard.
    """
    shards: list[Shard] = []

    def close(source: int, pieces: list[tuple[FileRange, int]]) -> None:
        if pieces:
            parts = tuple(part for part, _ in pieces)
            shards.append(Shard(index=len(shards), source=source, parts=parts, num_bytes=sum(size for _, size in pieces)))

    for index, (files, options) in enumerate(sources):
        waiting: list[tuple[FileRange, int]] = []
        waiting_bytes = 0
        for file in files:
            for piece in _pieces(file, options, shard_bytes):
                if waiting and waiting_bytes + piece[1] > shard_bytes:
                    close(index, waiting)
                    waiting, waiting_bytes = [], 0
                waiting.append(piece)
                waiting_bytes += piece[1]
        close(index, waiting)
    return tuple(shards)
