"""A small corpus, a spec over it, and ways to run them."""

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import Outcome, run_job

EOS = "<|endoftext|>"
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "naïve",
    "日本語",
    "readers",
    "count",
    "1234567",
    "tokens,",
    "don't",
    "they?",
    "🙂",
]


def make_texts(count: int = 200) -> list[str]:
    """Small documents that all differ, with a special token's text, line ends and characters of every length."""
    texts = []
    for i in range(count):
        words = [WORDS[(i * 7 + j * (i % 5 + 1)) % len(WORDS)] for j in range(5 + i % 23)]
        texts.append(f"{i}: " + " ".join(words) + (f"\nsaid {EOS}\r\n" if i % 10 == 3 else "."))
    return texts


def write_jsonl(path: Path, texts: list[str | None], first_id: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"text": text, "id": f"id-{first_id + i}"} for i, text in enumerate(texts))
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="\n")


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return make_texts()


@pytest.fixture
def corpus(tmp_path: Path, texts: list[str]) -> Path:
    """Two hundred documents in two jsonl files."""
    write_jsonl(tmp_path / "corpus" / "a.jsonl", texts[:120])
    write_jsonl(tmp_path / "corpus" / "b.jsonl", texts[120:], 120)
    return tmp_path / "corpus"


def spec_fields(corpus: Path, output: Path | str) -> dict[str, Any]:
    return {
        "name": "small",
        "output": str(output),
        "sources": [{"name": "main", "uris": [f"{corpus}/*.jsonl"], "id_column": "id"}],
        "holdout": {"fraction": 0.1, "seed": 1},
        "tokenizers": [{"name": "tok", "vocab_size": 330, "special_tokens": [EOS]}],
        "pack": {"tokenizers": ["tok"], "sequence_length": 64, "append": EOS},
        "execution": {"address": "local", "retries": 0},
    }


def merged(base: Any, changes: Any) -> Any:
    """``base`` with ``changes`` laid over it, mapping by mapping; None takes a key away."""
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    result = {key: merged(base.get(key), value) if key in base else value for key, value in changes.items()}
    return {k: v for k, v in (base | result).items() if not (k in changes and changes[k] is None)}


@pytest.fixture
def fields(corpus: Path, tmp_path: Path) -> dict[str, Any]:
    """A spec as a mapping, to be changed and parsed by a test."""
    return spec_fields(corpus, tmp_path / "out")


@pytest.fixture
def lay_over() -> Callable[[Any, Any], Any]:
    return merged


@pytest.fixture
def run(fields: dict[str, Any]) -> Callable[..., SimpleNamespace]:
    """Run a small job in this process, with changes to its spec; what it left, ready to look at."""

    def run_with(changes: dict[str, Any] | None = None) -> SimpleNamespace:
        spec = parse_spec(merged(fields, changes or {}))
        shown = io.StringIO()
        outcome: Outcome = run_job(spec, Progress(shown))
        return SimpleNamespace(
            spec=spec,
            out=Path(spec.output),
            outcome=outcome,
            manifest=outcome.manifest,
            accounting=outcome.manifest["accounting"],
            progress=shown.getvalue(),
        )

    return run_with


@pytest.fixture
def jsonl() -> Callable[..., None]:
    return write_jsonl


@pytest.fixture
def hashes() -> Callable[[Path], dict[str, str]]:
    """Path and sha256 of every file under tokenizers/ and packed/: what a run promises to the byte."""

    def hashes_of(output: Path) -> dict[str, str]:
        return {
            str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in ("tokenizers", "packed")
            for path in sorted((output / folder).rglob("*"))
            if path.is_file()
        }

    return hashes_of


@pytest.fixture
def spec_file(fields: dict[str, Any], tmp_path: Path) -> Path:
    """The spec as a file; JSON is YAML."""
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(fields, indent=2), encoding="utf-8")
    return path


@pytest.fixture
def tokenmill(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The installed command, in a process of its own, in ``tmp_path``."""
    command = Path(sys.executable).with_name("tokenmill")

    def run_command(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(command), *map(str, args)],
            capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, **options,
        )  # fmt: skip

    return run_command
