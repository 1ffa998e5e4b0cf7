"""Small tables and lists that people write: tab-separated or one thing a line, UTF-8, with the line in every error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import SpecError


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table, and where it stands."""

    place: str
    cells: tuple[str, ...]

    def error(self, message: str) -> SpecError:
        """What is wrong with the row, behind file and line."""
        return SpecError(f"{self.place}: {message}")


def read_lines(content: bytes, place: str, what: str) -> Iterator[tuple[str, str]]:
    """Where each line stands, and its text; ``place`` names the file in errors, ``what`` says what kind it is.

    Raises
    ------
    SpecError
        A line is not UTF-8.
    """
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        where = f"{place}, line {number}"
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise SpecError(
                f"{where}: byte {error.start} is not UTF-8 (0x{line[error.start]:02x}); save the {what} as UTF-8"
            ) from error
        yield where, text.rstrip("\r")


def read_table(content: bytes, place: str, columns: tuple[str, ...]) -> Iterator[Line]:
    """The rows of a table; ``place`` names the file in errors.

    The first line that is not empty and no comment (``#``) names the columns; a cell that is ``-`` stands for nothing.

    Raises
    ------
    SpecError
        It is not UTF-8, has other columns, or a row with too few or too many.
    """
    seen_header = False
    for where, text in read_lines(content, place, "table"):
        if not text.strip() or text.startswith("#"):
            continue
        cells = tuple(cell.strip() for cell in text.split("\t"))
        if not seen_header:
            if cells != columns:
                raise SpecError(f"{where}: the columns are {', '.join(cells)}; {', '.join(columns)} are expected")
            seen_header = True
            continue
        if len(cells) != len(columns):
            raise SpecError(
                f"{where}: {len(cells)} cells; {len(columns)} ({', '.join(columns)}), separated by tabs, are expected"
            )
        if "" in cells:
            raise SpecError(f"{where}: the {columns[cells.index('')]} is empty; - stands for nothing")
        yield Line(where, cells)
    if not seen_header:
        raise SpecError(f"{place}: it is empty; a line with the columns {', '.join(columns)} is expected")
