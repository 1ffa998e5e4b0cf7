"""How well mixtures are inferred from merges, known ones and published tokenizers': ``python -m benchmarks.mixtures``.

Writes the tables of docs/mixtures.md. Measuring takes about ten minutes; ``--stored`` only writes the tables, from
``results/mixtures.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from benchmarks.markdown import table, with_tables
from benchmarks.measure import Probe, describe_run, run_probe
from benchmarks.superword_probes import published, records
from pipeline.jobs import warm
from pipeline.jobs.mixture import infer

HERE = Path(__file__).parent
RESULT = HERE / "results/mixtures.json"
DOCUMENT = HERE.parent / "docs/mixtures.md"

CORES = 2
MIXTURES = 6
MERGES = 3000
MORE_MERGES = 10_000
KIND_BYTES = 20_000_000
"""Of a kind of text, at most, to train on; as many to infer from."""

HELP = "parallel/parallel_libreoffice_help.jsonl.zst"
LANGUAGES = ["en de fr tr hu", "tr fi hu", "es pt it ca", "ru ja el ko vi"]
KINDS = {
    "encyclopedia": "wiki/wiki_articles_en_bg.jsonl.gz",
    "prose": "prose/prose_en_eltec-00000-of-00002.jsonl.zst",
    "contracts": "legal/legal_en_contracts_edgar-00000-of-00002.jsonl.zst",
    "regulations": "legal/legal_en_us_cfpb_regulations.jsonl.zst",
    "code": "code/code_docs_markup.jsonl.zst",
    "biomed": "biomed/biomed_en_ner_corpora.jsonl.zst",
    "finance": "finance/finance_en_sec_filings.jsonl.zst",
}
DOMAINS = ["encyclopedia contracts code biomed finance", "prose contracts code biomed finance"]
"""The encyclopedia is little text, and of everything; the prose is much, and of one sort."""

OTHERS = ["cs", "de", "es", "fr", "it", "nl", "pl", "pt", "ru", "sv", "tr", "vi"]
"""Languages that a tokenizer made for English may have seen some of."""

Result = dict[str, Any]
Halves = dict[str, tuple[Path, Path]]


# --- text -------------------------------------------------------------------------------------------------------------


def _write_halves(folder: Path, name: str, texts: Iterator[str]) -> tuple[Path, Path]:
    """Every other document to train on, the rest to infer from; each file of ``KIND_BYTES`` at most, about."""
    paths = (folder / f"{name}-train.jsonl", folder / f"{name}-other.jsonl")
    sizes = [0, 0]
    with paths[0].open("w") as train, paths[1].open("w") as other:
        for number, text in enumerate(texts):
            half = number % 2
            if sizes[half] < KIND_BYTES:
                (train, other)[half].write(json.dumps({"text": text}) + "\n")
                sizes[half] += len(text.encode())
            elif min(sizes) >= KIND_BYTES:
                break
    return paths


def _help_pages(corpora: Path, languages: list[str], folder: Path) -> Halves:
    """The same pages in every language, so that shares cannot be told from what is written about."""
    pages: dict[str, list[str]] = {language: [] for language in languages}
    for record in records(corpora / HELP):
        if record["lang"] in pages:
            pages[record["lang"]].append(record["text"])
    return {language: _write_halves(folder, language, iter(texts)) for language, texts in pages.items()}


def _kinds(corpora: Path, names: Iterable[str], folder: Path) -> Halves:
    texts = {name: (record["text"] for record in records(corpora / KINDS[name])) for name in names}
    return {name: _write_halves(folder, name, some) for name, some in texts.items()}


def _text_bytes(path: Path) -> int:
    return sum(len(record["text"].encode()) for record in records(path))


# --- measuring --------------------------------------------------------------------------------------------------------


def _measure_known(halves: Halves, seed: int, folder: Path) -> list[Result]:
    """Tokenizers of random mixtures, trained in one job; what is inferred from the training text and from other text."""
    sizes = np.array([_text_bytes(train) for train, _ in halves.values()])
    wanted = np.random.default_rng(seed).dirichlet(np.ones(len(halves)), size=MIXTURES)
    weights = np.maximum(1, np.rint(1000 * wanted * sizes.max() / sizes))
    tokenizers = [
        {"name": f"mix-{number}", "vocab_size": 256 + MERGES, "weights": dict(zip(halves, row, strict=True))}
        for number, row in enumerate(weights.tolist())
    ]
    fields = {
        "sources": [{"name": name, "uris": [str(train)]} for name, (train, _) in halves.items()],
        "tokenizers": tokenizers,
        "holdout": {"fraction": 0},
    }
    run_probe(Probe("morphology_probes.job", CORES, {"folder": str(folder), "fields": fields}))
    found = []
    for number, row in enumerate(weights):
        tokenizer = f"{folder}/out/tokenizers/mix-{number}"
        truth = row * sizes / (row * sizes).sum()
        result: Result = {"truth": truth.tolist()}
        for half, part in enumerate(("itself", "other")):
            inferred = infer(tokenizer, [f"{name}={paths[half]}" for name, paths in halves.items()], MERGES)
            result[part] = {key: inferred[key] for key in ("slack", "rounds", "rows", "converged", "merges_used")}
            for key in ("share", "baseline_share", "bytes_per_token"):
                result[part][key] = [category[key] for category in inferred["categories"]]
        found.append(result)
    return found


def _measure_published(corpora: Path, folder: Path) -> list[Result]:
    """Two published tokenizers, from all kinds of text."""
    others = (record["text"] for record in records(corpora / HELP) if record["lang"] in OTHERS)
    texts = [f"{name}={paths[0]}" for name, paths in _kinds(corpora, KINDS, folder).items()]
    texts.append(f"other languages={_write_halves(folder, 'others', others)[0]}")
    superbpe, kl3m = folder / "superbpe.json", folder / "kl3m.json"
    oracles = corpora.parent / "oracles"
    superbpe.write_text(published(str(oracles), "subword").to_json())
    with zstandard.open(oracles / "kl3m/kl3m-001-32k.json.zst", "rb") as file:
        kl3m.write_bytes(file.read())
    found = []
    for name, path in {"SuperBPE's subword list": superbpe, "kl3m-001-32k": kl3m}.items():
        for num_merges in (MERGES, MORE_MERGES):
            started = time.perf_counter()
            inferred = infer(str(path), texts, num_merges)
            result: Result = {"name": name, "seconds": time.perf_counter() - started}
            found.append(
                result | {key: inferred[key] for key in ("merges", "categories", "slack", "merges_used", "converged")}
            )
    return found


def measure(corpora: Path) -> Result:
    """Everything, kernels loaded before."""
    warm.main()
    known: Result = {}
    for seed, group in enumerate([*LANGUAGES, *DOMAINS]):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            texts_of = _help_pages if group in LANGUAGES else _kinds
            halves = texts_of(corpora, group.split(), folder)
            known[group] = _measure_known(halves, seed, folder)
        print(f"{group}: done", flush=True)
    with tempfile.TemporaryDirectory() as name:
        return {"known": known, "published": _measure_published(corpora, Path(name))}


# --- tables -----------------------------------------------------------------------------------------------------------


def _log_error(shares: NDArray[np.float64], truth: list[float]) -> float:
    """Below -30, the error of the numbers themselves, it says no more."""
    return float(np.log10(max(np.mean((np.array(shares) - truth) ** 2), 1e-30)))


def _regression(mixtures: list[Result], left_out: int) -> NDArray[np.float64]:
    """The logarithm of the share on that of bytes per token, fitted to all mixtures but one; its shares of that one."""
    fitted = [mixture for number, mixture in enumerate(mixtures) if number != left_out]
    x = np.log([mixture["other"]["bytes_per_token"] for mixture in fitted]).ravel()
    y = np.log([mixture["truth"] for mixture in fitted]).ravel()
    slope, intercept = np.polyfit(x, y, 1)
    shares = np.exp(intercept + slope * np.log(mixtures[left_out]["other"]["bytes_per_token"]))
    return np.asarray(shares / shares.sum())


def _errors(mixtures: list[Result]) -> dict[str, list[float]]:
    """log10 of the mean squared error of each mixture, by each way."""
    truths = [mixture["truth"] for mixture in mixtures]
    ways = {
        "itself": [mixture["itself"]["share"] for mixture in mixtures],
        "other": [mixture["other"]["share"] for mixture in mixtures],
        "guess": [mixture["other"]["baseline_share"] for mixture in mixtures],
        "regression": [_regression(mixtures, number) for number in range(len(mixtures))],
    }
    return {way: [_log_error(s, truth) for s, truth in zip(shares, truths, strict=True)] for way, shares in ways.items()}


def _range(values: list[float]) -> str:
    best, worst = (f"{value:.1f}".replace("-", "−") for value in (min(values), max(values)))
    return f"{worst} to {best}"


def _known_table(result: Result) -> str:
    rows = []
    for group, mixtures in result["known"].items():
        errors = _errors(mixtures)
        gains = [guess - other for guess, other in zip(errors["guess"], errors["other"], strict=True)]
        slack = max(mixture["other"]["slack"] for mixture in mixtures)
        enough = f"{sum(gain >= 2 for gain in gains)} of {len(gains)}"
        rows.append([group, *(_range(values) for values in errors.values()), enough, f"{100 * slack:.0f} %"])
    header = [
        "kinds",
        "training text itself",
        "other text",
        "guess",
        "regression",
        "other text 2 below the guess",
        "most slack",
    ]
    return table(header, rows)


def _published_table(result: Result) -> str:
    rows = []
    for found in result["published"]:
        shares = (f"{100 * category['share']:.1f} %" for category in found["categories"])
        used = f"{found['merges_used']:,} of {found['merges']:,}"
        rows.append([found["name"], used, *shares, f"{100 * found['slack']:.0f} %", f"{found['seconds']:.0f} s"])
    kinds = [category["category"] for category in result["published"][0]["categories"]]
    return table(["tokenizer", "merges used", *kinds, "slack", "time"], rows)


def blocks_of(result: Result) -> dict[str, str]:
    """What ``docs/mixtures.md`` has between its markers."""
    return {"known": _known_table(result), "published": _published_table(result)}


def main() -> None:
    """See ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixtures", description=__doc__)
    parser.add_argument("--stored", action="store_true", help="measure nothing: tables from results/mixtures.json")
    parser.add_argument("--corpora", type=Path, default=HERE.parents[1] / "shared/corpora")
    args = parser.parse_args()
    if not args.stored:
        started = time.monotonic()
        found = measure(args.corpora.resolve())
        facts = describe_run("mixtures") | {"minutes": round((time.monotonic() - started) / 60, 1)}
        RESULT.write_text(json.dumps(facts | found, indent=1, ensure_ascii=False) + "\n")
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), blocks_of(json.loads(RESULT.read_text()))))


if __name__ == "__main__":
    main()
