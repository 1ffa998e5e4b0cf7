"""Lines and whole files, plain or compressed, as ids and texts (binary: not yet known to be UTF-8)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.arrow import binary_array
from pipeline.errors import DataError
from pipeline.kernels.ragged import gather_ranges
from pipeline.stages.blocks import BOM, iter_blocks, iter_part, starts_of_lines
from pipeline.stages.shard import FileRange, ReadOptions


def iter_line_blocks(file: IO[bytes], part: FileRange) -> Iterator[tuple[int, bytes]]:
    """Whole lines, several at a time, with the byte where the first starts. Of a range: the lines that *start* in it."""
    at, blocks = iter_part(file, part, b"\n")
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


def read_text(file: IO[bytes], part: FileRange, options: ReadOptions) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Documents of plain text: the whole file, or its lines without their ends."""
    if options.documents == "file":
        text = b"".join(iter_blocks(file, part))
        yield pa.array([part.name], type=pa.large_string()), pa.array([text], type=pa.large_binary())
        return
    for first, lines in iter_line_blocks(file, part):
        starts = starts_of_lines(lines)
        chars = np.frombuffer(lines, dtype=np.uint8)
        stops = np.append(starts[1:], len(lines) + (not lines.endswith(b"\n"))) - 1
        stops -= (stops > starts) & (chars[stops - 1] == ord("\r"))
        yield part.ids_at(starts + first), binary_array(*gather_ranges(chars, starts, stops))


def read_jsonl(file: IO[bytes], part: FileRange, options: ReadOptions) -> Iterator[tuple[pa.Array, pa.Array]]:
    """A document a line of JSON; what the fast decoder refuses goes line by line, to be judged or named."""
    decoder = msgspec.json.Decoder(_row_type(options))
    for first, lines in iter_line_blocks(file, part):
        if first == 0 and lines.startswith(BOM):
            first, lines = len(BOM), lines[len(BOM) :]
        starts = starts_of_lines(lines)
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
