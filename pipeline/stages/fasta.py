r"""Records of FASTA files as ids and sequences (binary), plain or compressed, of any length.

A record is a header, a line that starts with ``>``, and the lines up to the next one: its sequence, line breaks and blanks
left out. Lines that start with ``;`` are comments, as in old files. Which letters are allowed is told by ``letters``; others
end in a DataError, become N (X in proteins), or drop the record, as the source's ``errors`` says.

A block of the file is taken apart as a whole, however many records it holds: the starts of lines come from a kernel; blanks
are left out, letters made capitals and others marked in one pass of ``bytes.translate``. Measured on one core: 400 MB/s, a
chromosome of 250 MB or reads of 150 letters; 200 MB/s with the names of reads as ids.

Lipman, Pearson (1985), "Rapid and Sensitive Protein Similarity Searches"; letters: IUPAC-IUB (1970, 1983).

Examples
--------
``>a first\nACg\nT\n>b\nNN`` gives ``ACGT``, with the id ``FILE:0`` or, by name, ``a``; and ``NN``, ``FILE:15`` or ``b``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.arrow import binary_array
from pipeline.errors import DataError
from pipeline.kernels.keys import PADDING
from pipeline.kernels.ragged import gather_ranges
from pipeline.stages.blocks import BOM, iter_part, starts_of_lines
from pipeline.stages.shard import FileRange, ReadOptions

_BLANKS = b"\t\n\v\f\r "
_HEADER, _COMMENT = b">;"
_OTHER = b"\0"
"""In place of a letter that is not allowed."""

_LETTERS = {
    "dna": (b"ACGTN", b"N"),
    "iupac": (b"ACGTURYSWKMBDHVN-", b"N"),
    "protein": (b"ACDEFGHIKLMNPQRSTVWYBXZJUO*-", b"X"),
}
"""What is allowed, and what stands for other letters under ``errors: replace``."""


def read_fasta(
    file: IO[bytes], part: FileRange, options: ReadOptions, dropped: Counter[str]
) -> Iterator[tuple[pa.Array, pa.Array]]:
    """The sequences of records, and ``FILE:BYTE`` of their headers or (``id_column``) their first words.

    Memory: a block, and the longest record once. Records with letters that are not allowed are added to ``dropped`` as
    ``letters``, if that is the policy.

    Raises
    ------
    DataError
        A letter is not allowed; text stands before the first header, or there is no header; a name is missing.
    """
    at, blocks = iter_part(file, part, b"\n>")
    reader = _Reader(part, options, dropped, at)
    for block, starts_line in _iter_whole_headers(blocks):
        yield from reader.feed(block, starts_line)
    yield from reader.close()


def _iter_whole_headers(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The same text in blocks that do not end inside a header or a comment, and whether each starts a line."""
    waiting: list[bytes] = []
    starts_line = True
    for block in blocks:
        if waiting and b"\n" not in block:
            waiting.append(block)
            continue
        block = b"".join([*waiting, block])
        last = block.rfind(b"\n") + 1
        is_cut = (last > 0 or starts_line) and block[last : last + 1] in (b">", b";")
        waiting = [block[last:]] if is_cut else []
        if not is_cut or last > 0:
            yield (block[:last] if is_cut else block), starts_line
            starts_line = is_cut or block.endswith(b"\n")
    if waiting:
        yield b"".join(waiting), True


class _Piece(NamedTuple):
    """A block taken apart.

    ``letters``: of all records, without blanks; those that are not allowed are ``_OTHER``, or replaced. ``starts``,
    ``stops``: of headers, in the block; ``offsets``: the first of ``letters`` behind each. ``kept``: the block without
    headers and comments; ``range_starts``, ``range_offsets``: its ranges, in the block and in ``kept``. Numbers are int64.
    """

    letters: bytes
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    offsets: NDArray[np.int64]
    kept: NDArray[np.uint8]
    range_starts: NDArray[np.int64]
    range_offsets: NDArray[np.int64]

    def place_of(self, letter: int) -> int:
        """Where in the block a letter stands. Slow: for messages."""
        at = int(np.flatnonzero(~_is_blank(self.kept))[letter])
        index = int(np.searchsorted(self.range_offsets, at, side="right")) - 1
        return int(self.range_starts[index] + at - self.range_offsets[index])


def _is_blank(chars: NDArray[np.uint8]) -> NDArray[np.bool_]:
    is_blank: NDArray[np.bool_] = (chars - np.uint8(9) < 5) | (chars == ord(" "))
    return is_blank


def _take_apart(block: bytes, starts_line: bool, table: bytes) -> _Piece:
    chars = np.frombuffer(block, dtype=np.uint8)
    lines = starts_of_lines(block)
    first = chars[lines]
    is_mark = (first == _HEADER) | (first == _COMMENT)
    is_mark[:1] &= starts_line
    starts, stops = lines[is_mark], np.append(lines[1:], len(block))[is_mark]
    range_starts = np.concatenate(([0], stops))
    kept, offsets = gather_ranges(chars, range_starts, np.append(starts, len(block)))
    is_header = first[is_mark] == _HEADER
    behind = offsets[1:-1][is_header]
    if len(behind):
        behind -= np.searchsorted(np.flatnonzero(_is_blank(kept)), behind)
    letters = kept.tobytes().translate(table, _BLANKS)
    return _Piece(letters, starts[is_header], stops[is_header], behind, kept, range_starts, offsets)


def _table(options: ReadOptions) -> bytes:
    """What becomes of each byte of a sequence."""
    upper = bytes(range(256)).upper()
    same = upper if options.case == "upper" else bytes(range(256))
    if options.letters == "any":
        return same
    allowed, substitute = _LETTERS[options.letters]
    other = substitute if options.errors == "replace" else _OTHER
    return bytes(same[byte] if upper[byte] in allowed else other[0] for byte in range(256))


class _Reader:
    """What is known between blocks: of the record that is open, its letters so far, its id, and whether one is bad.

    ``_ids`` and ``_is_bad`` have an item for it, or none before the first header.
    """

    def __init__(self, part: FileRange, options: ReadOptions, dropped: Counter[str], at: int) -> None:
        self._part = part
        self._options = options
        self._dropped = dropped
        self._table = _table(options)
        self._at = at  # in the file, of the block
        self._num_lines = 0  # before the first header
        self._letters = bytearray()
        self._ids = pa.array([], type=pa.large_string())
        self._is_bad = np.zeros(0, dtype=np.bool_)
        self._name = ""

    def feed(self, block: bytes, starts_line: bool) -> Iterator[tuple[pa.Array, pa.Array]]:
        """The records that end in a block."""
        if self._at == 0 and block.startswith(BOM):
            self._at, block = len(BOM), block[len(BOM) :]
        if not block:
            return
        piece = _take_apart(block, starts_line, self._table)
        if len(self._ids) == 0:
            self._check_beginning(block, piece)
        is_bad = np.append(self._is_bad, np.zeros(len(piece.starts), dtype=np.bool_))
        if self._options.letters != "any" and _OTHER in piece.letters:
            self._judge_letters(block, piece, is_bad)
        offsets = np.append(np.zeros(len(self._ids), dtype=np.int64), piece.offsets + len(self._letters))
        self._letters += piece.letters
        self._is_bad = is_bad
        if len(piece.starts):
            self._ids = pa.concat_arrays([self._ids, self._ids_of(block, piece)])
            self._name = _first_word(block[piece.starts[-1] : piece.stops[-1]])
            last = self._letters[offsets[-1] :]
            yield from self._rows(offsets)
            self._letters, self._ids, self._is_bad = last, self._ids[-1:], is_bad[-1:]
        self._at += len(block)

    def close(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        """The record that ends with the part; DataError if a file had none, and is not empty."""
        if len(self._ids):
            self._ids = pa.concat_arrays([self._ids, pa.array([""], type=self._ids.type)])
            yield from self._rows(np.array([0, len(self._letters)]))
        elif self._at and not self._part.start and (self._part.stop is None or self._at >= self._part.num_bytes):
            raise DataError(
                f"{self._part.uri}: no line starts with '>', as each record of a FASTA file does; set the source's format, "
                "or exclude the file"
            )

    def _rows(self, offsets: NDArray[np.int64]) -> Iterator[tuple[pa.Array, pa.Array]]:
        """All records but the one that starts last."""
        if len(offsets) < 2:
            return
        self._letters += bytes(PADDING)  # so that kernels can read them as they are
        ids, texts = self._ids[:-1], binary_array(np.frombuffer(self._letters, dtype=np.uint8), offsets)
        is_bad = self._is_bad[: len(texts)]
        if is_bad.any():
            self._dropped["letters"] += int(is_bad.sum())
            ids, texts = ids.filter(pa.array(~is_bad)), texts.filter(pa.array(~is_bad))
        yield ids, texts

    def _ids_of(self, block: bytes, piece: _Piece) -> pa.Array:
        if self._options.id_column is None:
            return self._part.ids_at(piece.starts + self._at)
        places = zip(piece.starts.tolist(), piece.stops.tolist(), strict=True)
        names = [_first_word(block[start:stop]) for start, stop in places]
        if "" in names:
            at = int(piece.starts[names.index("")]) + self._at
            raise DataError(
                f"{self._part.uri}: the header at byte {at} has no name; every document needs an id, or leave id_column out"
            )
        return pa.array(names, type=pa.large_string())

    def _check_beginning(self, block: bytes, piece: _Piece) -> None:
        """DataError if there are letters before the first header, or lines end as none does."""
        first = int(piece.starts[0]) if len(piece.starts) else len(block)
        if piece.offsets[0] if len(piece.starts) else piece.letters:
            place = piece.place_of(0)
            number = self._num_lines + block.count(b"\n", 0, place) + 1
            line = block[block.rfind(b"\n", 0, place) + 1 :].split(b"\n", 1)[0][:30].decode(errors="replace")
            raise DataError(
                f"{self._part.uri}, line {number}: {line!r} stands before the first header, a line that "
                "starts with '>'; set the source's format if this is no FASTA file"
            )
        if len(piece.starts) and b"\r" in block[first : int(piece.stops[0])].rstrip(b"\r\n"):
            raise DataError(f"{self._part.uri}: its lines end in CR alone; have them end in LF or CRLF")
        self._num_lines += block.count(b"\n")

    def _judge_letters(self, block: bytes, piece: _Piece, is_bad: NDArray[np.bool_]) -> None:
        """Mark the records with letters that are not allowed, or raise."""
        places = np.flatnonzero(np.frombuffer(piece.letters, dtype=np.uint8) == _OTHER[0])
        headers = np.searchsorted(piece.offsets, places, side="right")  # behind how many of the block a letter stands
        if self._options.errors == "skip":
            is_bad[headers + len(self._ids) - 1] = True
            return
        at = piece.place_of(int(places[0]))
        header = headers[0] - 1
        name = self._name if header < 0 else _first_word(block[piece.starts[header] : piece.stops[header]])
        found = repr(chr(block[at])) if block[at] < 0x80 else f"the byte 0x{block[at]:02X}"
        allowed, substitute = (letters.decode() for letters in _LETTERS[self._options.letters])
        raise DataError(
            f"{self._part.uri}: record {name!r}: {found} at byte {self._at + at}; letters is {self._options.letters}, which "
            f"allows {allowed}. Set letters to {_others(self._options.letters)}, errors: replace to have {substitute} in "
            "its place, or errors: skip to drop such records"
        )


def _first_word(header: bytes) -> str:
    """The name in a header; empty if there is none."""
    words = header[1:].split(None, 1)
    return words[0].decode(errors="replace") if words else ""


def _others(letters: str) -> str:
    *some, last = (name for name in (*_LETTERS, "any") if name != letters)
    return f"{', '.join(some)} or {last}"
