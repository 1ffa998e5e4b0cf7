"""Tokenizers by morphemes beside others: ``python -m benchmarks.morphology``, which writes the tables of docs/morphology.md.

Measuring takes about ten minutes; ``--stored`` only writes the tables, from ``results/morphology.json``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import zstandard

from benchmarks.markdown import table, with_tables
from benchmarks.measure import Probe, alternate, describe_run, run_probe
from benchmarks.superword_probes import records

HERE = Path(__file__).parent
RESULT = HERE / "results/morphology.json"
DOCUMENT = HERE.parent / "docs/morphology.md"

CORES = 2
VOCAB_SIZE = 32_768
SHARES = (0.6, 0.8, 0.9)
ENCODED_BYTES = 20_000_000

Result = dict[str, Any]


# --- measuring --------------------------------------------------------------------------------------------------------


def _published_folder() -> str:
    """Where the package turkish-tokenizer has its dictionaries."""
    found = importlib.util.find_spec("turkish_tokenizer")
    if found is None or found.origin is None:
        raise SystemExit("turkish-tokenizer is not installed: pip install -e '.[test]'")
    return str(Path(found.origin).parent)


def _write_gold(source: Path, target: Path) -> None:
    """Words of the Turkish web treebank, each once, and their segments."""
    gold: dict[str, str] = {}
    for record in records(source):
        if "".join(record["segments"]) == record["text"] and " " not in record["text"]:
            gold.setdefault(record["text"], " ".join(record["segments"]))
    target.write_text("".join(f"{word}\t{morphs}\n" for word, morphs in gold.items()))


def _write_canonical_gold(source: Path, target: Path) -> None:
    """Words of SIGMORPHON 2022 whose morphemes, as listed, join to the word."""
    gold: dict[str, str] = {}
    with zstandard.open(source, "rt", encoding="utf-8") as file:
        for line in file:
            word, morphs, *_ = line.rstrip("\n").split("\t")
            parts = morphs.replace("@@", "").split(" ")
            if "".join(parts) == word and " " not in word:
                gold.setdefault(word, " ".join(parts))
    target.write_text("".join(f"{word}\t{morphs}\n" for word, morphs in gold.items()))


def _turkish(corpora: Path, folder: Path) -> Result:
    """All kinds on Turkish text, and the published tokenizer beside them."""
    _write_gold(corpora / "morphology/morph_tr_web_treebank_segments.jsonl.gz", folder / "gold.tsv")
    with zstandard.open(corpora / "wordlists/wordlist_turkish_hunspell.txt.zst", "rb") as file:
        (folder / "words.txt").write_bytes(file.read())
    morph = {"kind": "morph", "language": "tr", "vocab_size": VOCAB_SIZE}
    plain = {"vocab_size": VOCAB_SIZE}
    tokenizers = [
        {"name": "morph", **morph},
        {"name": "morph-longest", **morph, "segmentation": "longest"},
        {"name": "morph-free", **morph, "morphotactics": False},
        *({"name": f"morph-{100 * share:.0f}", **morph, "root_share": share} for share in SHARES),
        {"name": "morfessor", "kind": "morph", "segmenter": "morfessor", **plain},
        {"name": "morph-bpe", "morphemes": "tr", "pretokenizer": "words", **plain},
        {"name": "bpe", **plain},
        {"name": "bpe-words", "pretokenizer": "words", **plain},
        {"name": "superbpe", "kind": "superbpe", "transition": 0.8, **plain},
        {"name": "published", "kind": "morph", "compat": "turkish-tokenizer-0.2", "language": _published_folder(), **plain},
    ]
    fields = {
        "sources": [
            {"name": "lines", "uris": [f"{corpora}/turkish/*.jsonl.*"]},
            {"name": "tables", "uris": [f"{corpora}/turkish/*.parquet"]},
        ],
        "tokenizers": tokenizers,
        "holdout": {"fraction": 0.05},
        "evaluate": {
            "morphology": {"language": "tr", "words": [f"{folder}/words.txt"], "gold": f"{folder}/gold.tsv"},
        },
    }
    run = run_probe(Probe("morphology_probes.job", CORES, {"folder": f"{folder}/turkish", "fields": fields}))
    return {"seconds": run["seconds"], **_of_report(run["report"])}


def _hungarian(corpora: Path, folder: Path) -> Result:
    """A language without tables, and words of another text to measure by."""
    gold = folder / "hungarian.tsv"
    _write_canonical_gold(corpora / "morphology/morph_sigmorphon2022_hun_word.tsv.zst", gold)
    fields = {
        "sources": [{"name": "prose", "uris": [f"{corpora}/prose/prose_hu_eltec.jsonl.zst"]}],
        "tokenizers": [
            {"name": "morfessor", "kind": "morph", "segmenter": "morfessor", "vocab_size": VOCAB_SIZE},
            {"name": "morph-bpe", "morphemes": "morfessor", "pretokenizer": "words", "vocab_size": VOCAB_SIZE},
            {"name": "bpe", "vocab_size": VOCAB_SIZE},
        ],
        "holdout": {"fraction": 0.05},
        "evaluate": {"morphology": {"gold": str(gold)}},
    }
    run = run_probe(Probe("morphology_probes.job", CORES, {"folder": f"{folder}/hungarian", "fields": fields}))
    return {"seconds": run["seconds"], **_of_report(run["report"])}


def _of_report(report: Result) -> Result:
    return {key: report[key] for key in ("evaluation", "morphology", "tokenizers", "execution")}


def measure(corpora: Path, repeats: int) -> Result:
    """Everything, as ``results/morphology.json`` has it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: Result = {"turkish": _turkish(corpora, folder), "hungarian": _hungarian(corpora, folder)}
        trained = {name: f"{folder}/turkish/out/tokenizers/{name}" for name in ("morph", "bpe", "published")}
        files = sorted(map(str, (corpora / "turkish").glob("tr_*")))
        sides = {
            name: Probe(
                "morphology_probes.encode",
                1,
                {"tokenizer": path, "files": files, "max_bytes": ENCODED_BYTES},
                repeats=1 if name == "published" else None,
            )
            for name, path in trained.items()
        }
        found["encoding"] = alternate(sides, repeats)
        found["round_trip"] = {}
        for name, below in (("morph", "."), ("published", "turkish")):
            work = {"tokenizer": trained[name], "corpora": str(corpora), "below": below}
            found["round_trip"][name] = run_probe(Probe("morphology_probes.round_trip", 1, work))
        work = {"tokenizer": trained["morph"], "corpora": str(corpora), "below": "turkish"}
        found["round_trip"]["morph on turkish"] = run_probe(Probe("morphology_probes.round_trip", 1, work))
        found["sentences"] = len(list(records(corpora / "turkish/tr_web_treebank_text.jsonl.zst")))
    return found


# --- tables -----------------------------------------------------------------------------------------------------------


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _whole(evaluation: Result) -> Result:
    whole: Result = evaluation.get("all sources") or next(iter(evaluation.values()))
    return whole


def _tokens_table(found: Result) -> str:
    rows = []
    for name, morphology in found["morphology"]["tokenizers"].items():
        figures = _whole(found["evaluation"][name])
        by_type, by_occurrence = morphology["tokens_by_type"], morphology["tokens_by_occurrence"]
        rows.append(
            [
                name,
                f"{figures['tokens_per_word']:.3f}",
                f"{figures['chars_per_token']:.2f}",
                _percent(by_type["valid_fraction"]),
                _percent(by_type["pure_fraction"]),
                _percent(by_occurrence["valid_fraction"]),
                _percent(by_occurrence["pure_fraction"]),
            ]
        )
    header = [
        "tokenizer", "tokens/word", "characters/token", "valid, by type", "pure, by type", "valid, by occurrence",
        "pure, by occurrence",
    ]  # fmt: skip
    return table(header, rows)


def _boundary_table(found: Result) -> str:
    rows = []
    for name, row in found["morphology"]["tokenizers"].items():
        edges = row["boundaries"]
        rows.append(
            [
                name,
                _number(edges["precision"]),
                _number(edges["recall"]),
                _number(edges["f1"]),
                _percent(edges["all_right_fraction"]),
                _number(row["morph_score"]["morph_score"]),
                _number(row["consistency"]["f1"]),
                _number(row["morphemes"]["mean_edit_distance"]),
                f"{row['gold']['not_restored']:,}",
            ]
        )
    header = [
        "tokenizer", "precision", "recall", "F1", "words all right", "MorphScore", "consistency F1", "edit distance",
        "words lost",
    ]  # fmt: skip
    lines = [table(header, rows), "", f"{found['morphology']['gold_words']:,} words. {found['morphology']['warning']}"]
    return "\n".join(lines)


def _round_trip_table(result: Result) -> str:
    rows = []
    for name, run in result["round_trip"].items():
        rows.append(
            [
                name,
                f"{run['text_bytes'] / 1e6:,.0f} MB",
                f"{run['documents']:,}",
                _percent(run["documents_back"] / run["documents"]),
                f"{run['lines']:,}",
                _percent(run["lines_back"] / run["lines"]),
                f"{run['lines'] - run['lines_back']:,}",
            ]
        )
    header = ["tokenizer", "text", "documents", "come back", "lines", "come back", "lines lost"]
    return table(header, rows)


def _encoding_table(result: Result) -> str:
    rows = []
    for name, runs in result["encoding"].items():
        rates = [
            statistics.median(run["text_bytes"] / run[key] / 1e6 for run in runs) for key in ("first_seconds", "seconds")
        ]
        rows.append([name, *(f"{rate:.1f} MB/s" for rate in rates)])
    return table(["tokenizer", "new text", "the same text again"], rows)


def blocks_of(result: Result) -> dict[str, str]:
    """What ``docs/morphology.md`` has between its markers."""
    return {
        "tokens": _tokens_table(result["turkish"]),
        "boundaries": _boundary_table(result["turkish"]),
        "round trip": _round_trip_table(result),
        "encoding": _encoding_table(result),
        "hungarian": _boundary_table(result["hungarian"]),
    }


def main() -> None:
    """See ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.morphology", description=__doc__)
    parser.add_argument("--stored", action="store_true", help="measure nothing: tables from results/morphology.json")
    parser.add_argument("--corpora", type=Path, default=HERE.parents[1] / "shared/corpora")
    parser.add_argument("--repeats", type=int, default=3, help="of encoding")
    args = parser.parse_args()
    if not args.stored:
        started = time.monotonic()
        found = measure(args.corpora, args.repeats)
        facts = describe_run("morphology") | {"minutes": round((time.monotonic() - started) / 60, 1)}
        RESULT.write_text(json.dumps(facts | found, indent=1, ensure_ascii=False) + "\n")
    result = json.loads(RESULT.read_text())
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), blocks_of(result)))


if __name__ == "__main__":
    main()
