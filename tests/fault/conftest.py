"""One corpus, and the bytes an undisturbed run makes of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from tests.corpus import documents, job, published, write_jsonl


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for index in range(3):
        write_jsonl(root / f"a/part-{index}.jsonl", documents(60, seed=index), first_id=60 * index)
    write_jsonl(root / "b/all.jsonl", documents(80, seed=9))
    return root


@pytest.fixture(scope="session")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    run_job(parse_spec(job(corpus, output)), Progress(io.StringIO()))
    return published(output)
