"""What a job on sequences costs, by the length of its records: ``python -m benchmarks.dna``.

Writes the table of docs/dna.md. Measuring takes a few minutes; ``--stored`` only writes the table, from
``results/dna.json``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.markdown import table, with_tables
from benchmarks.measure import Probe, describe_run, run_probe
from benchmarks.superword_probes import records

HERE = Path(__file__).parent
RESULT = HERE / "results/dna.json"
DOCUMENT = HERE.parent / "docs/dna.md"

CORES = 1
STEPS = ("count", "train", "encode", "pack")

Result = dict[str, Any]


# --- text -------------------------------------------------------------------------------------------------------------


def _random(size: int) -> str:
    return np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(0).integers(4, size=size)].tobytes().decode()


def _genome(corpora: Path) -> list[str]:
    """*E. coli* 536, of which the corpora have the head in lines of JSON and the tail in FASTA."""
    head = "".join(record["text"] for record in records(corpora / "dna/dna_ecoli_genome.jsonl.zst"))
    with gzip.open(corpora / "dna/ecoli536_tail.fa.gz", "rt") as file:
        tail = "".join(line.strip() for line in file if not line.startswith(">"))
    return [head + tail]


def _with_a_gap(_: Path) -> list[str]:
    letters = _random(10_000_000)
    return [letters[:4_500_000] + "N" * 1_000_000 + letters[5_500_000:]]


def _reads(_: Path) -> list[str]:
    letters = _random(30_000_000)
    return [letters[start : start + 150] for start in range(0, len(letters), 150)]


CASES: dict[str, Callable[[Path], list[str]]] = {
    "random letters, few": lambda _: [_random(100_000)],
    "*E. coli* 536": _genome,
    "random letters": lambda _: [_random(10_000_000)],
    "the same with a million N in the middle": _with_a_gap,
    "random letters, records of 150": _reads,
    "random letters, long": lambda _: [_random(100_000_000)],
}


# --- measuring --------------------------------------------------------------------------------------------------------


def measure(corpora: Path) -> Result:
    """Each case in a job of its own: one tokenizer of 4,096 tokens, no pretokenizer."""
    cases = {}
    for name, make in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            sequences = make(corpora)
            file = Path(folder, "sequences.fa")
            file.write_text("".join(f">record{number}\n{letters}\n" for number, letters in enumerate(sequences)))
            fields = {
                "sources": [{"name": "sequences", "uris": [str(file)]}],
                "tokenizers": [{"name": "dna", "kind": "dna"}],
                "holdout": {"fraction": 0},
                "pack": {"tokenizers": ["dna"], "sequence_length": 2048},
            }
            run = run_probe(Probe("morphology_probes.job", CORES, {"folder": folder, "fields": fields}))
        cases[name] = {
            "letters": sum(map(len, sequences)),
            "records": len(sequences),
            "seconds": run["seconds"],
            "step_seconds": run["report"]["execution"]["step_seconds"],
            "peak_rss_bytes": run["peak_rss_bytes"],
        }
        print(f"{name}: {run['seconds']:.1f} s", flush=True)
    return {"cases": cases}


# --- tables -----------------------------------------------------------------------------------------------------------


def blocks_of(result: Result) -> dict[str, str]:
    """What ``docs/dna.md`` has between its markers."""
    rows = []
    for name, case in result["cases"].items():
        seconds = [*(case["step_seconds"][step] for step in STEPS), case["seconds"]]
        size = [f"{case['letters'] / 1e6:.1f}", f"{case['records']:,}"]
        rows.append([name, *size, *(f"{some:.1f} s" for some in seconds), f"{case['peak_rss_bytes'] / 1e6:,.0f} MB"])
    return {"costs": table(["", "million letters", "records", *STEPS, "whole job", "memory"], rows)}


def main() -> None:
    """See ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dna", description=__doc__)
    parser.add_argument("--stored", action="store_true", help="measure nothing: the table from results/dna.json")
    parser.add_argument("--corpora", type=Path, default=HERE.parents[1] / "shared/corpora")
    args = parser.parse_args()
    if not args.stored:
        found = describe_run("dna") | measure(args.corpora.resolve())
        RESULT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), blocks_of(json.loads(RESULT.read_text()))))


if __name__ == "__main__":
    main()
