"""Real text in every language and domain at hand, beside the checkout or where TOKENMILL_CORPORA says."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard

CORPORA = Path(os.environ.get("TOKENMILL_CORPORA", Path(__file__).parents[3] / "shared/corpora"))
TRAIN_BYTES = 340_000
TEST_BYTES = 1_000_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and "corpora" in item.path.name and not CORPORA.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"no corpora at {CORPORA}; set TOKENMILL_CORPORA"))


def _texts(path: Path) -> Iterator[str]:
    """The documents of a file, read without any code of ours."""
    if path.suffix == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches(256, columns=["text"]):
            yield from batch.column(0).to_pylist()
        return
    opener = {".zst": zstandard.open, ".gz": gzip.open}.get(path.suffix, io.open)
    with opener(path, "rt", encoding="utf-8", newline="\n") as file:
        if ".jsonl" in path.name:
            for line in file:
                yield json.loads(line)["text"]
        else:
            while block := file.read(20_000):
                yield block


def _take(texts: Iterator[str], num_bytes: int) -> list[str]:
    taken, size = [], 0
    for text in texts:
        taken.append(text)
        size += len(text.encode())
        if size >= num_bytes:
            break
    return taken


@pytest.fixture(scope="session")
def samples() -> tuple[list[str], list[str]]:
    """Some of every file to train on, and other documents of every file to encode."""
    train, test = list[str](), list[str]()
    for path in sorted(CORPORA.rglob("*")):
        if path.is_file() and path.suffix != ".md" and path.name != "MANIFEST.tsv":
            texts = _texts(path)
            train += _take(texts, TRAIN_BYTES)
            test += _take(texts, TEST_BYTES)
    return train, test
