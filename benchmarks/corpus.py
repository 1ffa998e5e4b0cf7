"""The corpus of all groups: at least so many megabytes of mixed text, in the forms the two sides read.

``corpus.jsonl`` and ``corpus.arrow`` hold the documents. ``lines.txt`` holds their lines without white space at the end
and without blank lines, one a line: gigabpe and ``tokenizers`` read a line with its ending, tokenmill without, so on this
file both see the same words but for a lone newline, which no merge can touch. ``lines-N.txt`` are its first N percent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zstandard
from pyarrow import feather

CACHE = Path(__file__).parent / ".cache"
MIX = ("prose", "legal", "code", "turkish", "multilingual", "biomed")
PERCENTS = (12.5, 25, 50, 100)
"""Of ``lines.txt``, for the scaling curves: 25, 50, 100 and 200 MB."""


@dataclass(frozen=True)
class Corpus:
    """A folder that ``make_corpus`` filled."""

    folder: Path
    facts: dict[str, Any]

    @property
    def jsonl(self) -> str:
        """The documents, a JSON object a line."""
        return str(self.folder / "corpus.jsonl")

    @property
    def arrow(self) -> str:
        """The documents, one ``large_string`` column ``text``."""
        return str(self.folder / "corpus.arrow")

    def lines(self, percent: float = 100) -> str:
        """The lines, or the first ``percent`` of them by bytes."""
        return str(self.folder / ("lines.txt" if percent == 100 else f"lines-{percent}.txt"))


def make_corpus(source: Path, megabytes: float) -> Corpus:
    """The corpus from the .jsonl.zst files under ``source``, or the one made of them before."""
    key = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:8]
    folder = CACHE / f"{megabytes:g}-{key}"
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=CACHE))
        try:
            _fill(made, source, int(megabytes * 1e6))
            os.rename(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return Corpus(folder, json.loads((folder / "facts.json").read_text()))


def _iter_texts(source: Path) -> Iterator[str]:
    """A document of every file in turn, until all are read."""
    files = [file for folder in MIX for file in sorted((source / folder).glob("*.jsonl.zst"))]
    if not files:
        sys.exit(f"{source}: no .jsonl.zst files in {', '.join(MIX)}; name another folder with CORPUS=")
    with ExitStack() as stack:
        streams = [stack.enter_context(zstandard.open(file, "rt", encoding="utf-8", newline="\n")) for file in files]
        while streams:
            for stream in list(streams):
                if line := stream.readline():
                    yield json.loads(line)["text"]
                else:
                    streams.remove(stream)


def _fill(folder: Path, source: Path, num_bytes: int) -> None:
    texts: list[str] = []
    line_bytes = document_bytes = 0
    digest = hashlib.sha256()
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as documents, (folder / "lines.txt").open("wb") as lines:
        for text in _iter_texts(source):
            texts.append(text)
            documents.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            kept = "".join(f"{line}\n" for line in map(str.rstrip, text.split("\n")) if line).encode()
            lines.write(kept)
            digest.update(kept)
            line_bytes += len(kept)
            document_bytes += len(text.encode())
            if line_bytes >= num_bytes:
                break
    table = pa.table({"text": pa.array(texts, type=pa.large_string())})
    feather.write_feather(table, str(folder / "corpus.arrow"), compression="uncompressed")
    whole = (folder / "lines.txt").read_bytes()
    for percent in PERCENTS[:-1]:
        stop = whole.index(b"\n", int(len(whole) * percent / 100)) + 1
        (folder / f"lines-{percent}.txt").write_bytes(whole[:stop])
    facts = {
        "documents": len(texts),
        "text_bytes": document_bytes,
        "line_bytes": line_bytes,
        "lines_sha256": digest.hexdigest(),
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def read_documents(file: str, max_bytes: int | None = None) -> pa.LargeStringArray:
    """The documents of ``corpus.arrow`` in memory, all or the first few that have ``max_bytes`` together."""
    texts = feather.read_table(file, memory_map=False).column("text").combine_chunks()
    if max_bytes is None:
        return texts
    stops = np.cumsum(pc.binary_length(texts).to_numpy())
    return pa.concat_arrays([texts.slice(0, int(np.searchsorted(stops, max_bytes)) + 1)])


def read_lines(file: str) -> pa.LargeStringArray:
    """The lines of ``lines.txt`` in memory, without their ending."""
    whole = pa.array([Path(file).read_bytes()[:-1]], type=pa.large_binary()).cast(pa.large_string())
    return pc.split_pattern(whole, "\n").flatten()


def text_bytes(texts: pa.LargeStringArray) -> int:
    """Bytes of all texts together."""
    return int(pc.sum(pc.binary_length(texts)).as_py())
