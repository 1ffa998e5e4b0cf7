"""A job over FASTA files: what is packed spells the sequences, whatever the shards."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from pipeline.errors import DataError
from pipeline.jobs.load import parse_spec
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.tokenizer import Tokenizer
from tests.corpus import published
from tests.test_dna import MOTIFS, sequence

END = "<|end|>"


def fasta(sequences: dict[str, str], width: int = 60, end: str = "\n") -> str:
    """Records, of which every third is soft-masked."""
    records = []
    for number, (name, letters) in enumerate(sequences.items()):
        shown = letters.lower() if number % 3 == 0 else letters
        lines = (shown[at : at + width] for at in range(0, len(shown), width))
        records.append(end.join([f">{name} of a test", *lines, ""]))
    return "".join(records)


SEQUENCES = [
    {f"s{source}.{number}": sequence(size, seed=10 * source + number) for number, size in enumerate(sizes)}
    for source, sizes in enumerate([(40_000, 3, 700, 90_000), (500, 60_000, 1), (2_000, 30_000)])
]


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    root = tmp_path / "genome"
    root.mkdir()
    (root / "a.fa").write_text("; made for a test\n\n" + fasta(SEQUENCES[0]), newline="")
    (root / "b.fna").write_text(fasta(SEQUENCES[1], 70, "\r\n") + ">nothing\n", newline="")
    (root / "c.fa.gz").write_bytes(gzip.compress(fasta(SEQUENCES[2], 100_000).encode(), mtime=0))
    return root


def run(genome: Path, output: Path, source: dict[str, Any] | None = None, **execution: Any) -> dict[str, Any]:
    """Train and pack; returns the manifest."""
    spec = {
        "name": "dna",
        "output": str(output),
        "sources": [{"name": "genome", "uris": [f"{genome}/*"], **(source or {})}],
        "holdout": {"fraction": 0},
        "tokenizers": [
            {
                "name": "bpe",
                "vocab_size": 300,
                "pretokenizer": "none",
                "initial_alphabet": "seen",
                "special_tokens": [END],
            }
        ],
        "pack": {"tokenizers": ["bpe"], "sequence_length": 512, "strategy": "concat", "shuffle": None, "append": END},
        "execution": {"address": "local", "retries": 0, **execution},
    }
    manifest: dict[str, Any] = run_job(parse_spec(spec), Progress(io.StringIO())).manifest
    return manifest


def unpacked(output: Path) -> list[str]:
    """The texts of the packed rows, one after the other, cut where a document ends."""
    tokenizer = Tokenizer.load(output / "tokenizers/bpe")
    rows = datasets.load_from_disk(str(output / "packed/bpe/train"))
    ids = [i for row in rows for i in row["input_ids"][: sum(row["seq_lengths"])]]
    return tokenizer.decode(ids).split(END)[:-1]


def test_what_is_packed_spells_the_sequences(genome: Path, tmp_path: Path) -> None:
    manifest = run(genome, tmp_path / "out")
    assert unpacked(tmp_path / "out") == [letters for some in SEQUENCES for letters in some.values()]
    assert manifest["accounting"]["sources"]["genome"]["dropped"] == {"empty": 1}
    tokens = json.loads((tmp_path / "out/tokenizers/bpe/tokenizer.json").read_text())["model"]["vocab"]
    assert set(MOTIFS) <= tokens.keys()
    assert {letter for token in tokens if token != END for letter in token} == set("ACGT")


def test_the_same_bytes_for_any_shards(genome: Path, tmp_path: Path) -> None:
    run(genome, tmp_path / "whole")
    for shard_bytes in (1_000, 33_333):
        run(genome, tmp_path / str(shard_bytes), shard_bytes=shard_bytes)
        assert published(tmp_path / str(shard_bytes)) == published(tmp_path / "whole")


def test_letters_that_are_not_allowed(genome: Path, tmp_path: Path) -> None:
    (genome / "d.fa").write_text(">rna 1\nACGU\n>dna\nACGT\n")
    with pytest.raises(
        DataError, match=r"d\.fa: record 'rna': 'U' at byte 10; letters is dna, which allows ACGTN\. Set lett"
    ):
        run(genome, tmp_path / "stop")
    manifest = run(genome, tmp_path / "skip", {"errors": "skip"})
    assert manifest["accounting"]["sources"]["genome"]["dropped"] == {"empty": 1, "letters": 1}
    assert unpacked(tmp_path / "skip")[-1] == "ACGT"
    run(genome, tmp_path / "replace", {"errors": "replace"})
    assert unpacked(tmp_path / "replace")[-2:] == ["ACGN", "ACGT"]
    run(genome, tmp_path / "iupac", {"letters": "iupac"})
    assert unpacked(tmp_path / "iupac")[-2:] == ["ACGU", "ACGT"]


def test_case_may_be_kept(genome: Path, tmp_path: Path) -> None:
    run(genome, tmp_path / "out", {"case": "keep"})
    first, *others = unpacked(tmp_path / "out")
    assert first == SEQUENCES[0]["s0.0"].lower()
    assert others[0] == SEQUENCES[0]["s0.1"]


def test_names_as_ids(genome: Path, tmp_path: Path) -> None:
    run(genome, tmp_path / "places")
    run(genome, tmp_path / "names", {"id_column": "name"})
    assert published(tmp_path / "names") == published(tmp_path / "places")  # ids decide nothing here
