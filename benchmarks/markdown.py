"""Tables in Markdown, and pages whose tables are made anew between markers."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, with a line break at its end."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def with_tables(document: str, blocks: dict[str, str]) -> str:
    """The document with what stands between the two markers of each block made anew."""
    for name, text in blocks.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, rest = document.split(start)
        document = f"{before}{start}\n{text}\n{end}{rest.split(end)[1]}"
    return document
