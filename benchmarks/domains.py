"""Families of tokenizers and what specialisation gives: ``python -m benchmarks.domains``.

Writes the tables of docs/domains.md.

Measuring takes about half an hour; ``--stored`` only writes the tables, from ``results/domains.json``; ``--only NAME``
measures one part anew and keeps the others.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from benchmarks.markdown import table, with_tables
from benchmarks.measure import Probe, describe_run, run_probe

HERE = Path(__file__).parent
RESULT = HERE / "results/domains.json"
DOCUMENT = HERE.parent / "docs/domains.md"
TERMS = HERE / "legal_terms.txt"

CORES = 2
LEGAL = ("contracts", "regulations", "german_law")
SOURCES = {
    "contracts": "legal/legal_en_contracts_edgar-*.jsonl.zst",
    "regulations": "legal/legal_en_us_cfpb_regulations.jsonl.zst",
    "german_law": "legal/legal_de_federal_law.jsonl.zst",
    "finance": "finance/finance_en_sec_filings.jsonl.zst",
    "biomed": "biomed/biomed_en_ner_corpora.jsonl.zst",
    "medicine": "biomed/biomed_en_medquad.parquet",
    "code": "code/code_*.jsonl.zst",
    "prose": "prose/*.jsonl.zst",
    "articles": "wiki/wiki_articles_en_bg.jsonl.gz",
    "summaries": "wiki/wiki_summaries_en_es_fr.parquet",
    "turkish": "turkish/tr_*.jsonl.zst",
    "manuals": "multilingual/*.jsonl.zst",
    "translations": "parallel/*.jsonl.zst",
}
"""All running text of the folder, each kind a source: the mixed corpus."""

PACKS = ["whitespace", "enumerations", "years", "citations", "legal"]

Result = dict[str, Any]


def _family() -> list[Result]:
    """24 tokenizers, and a pool of some."""
    big = {"vocab_size": 32_768}
    legal = big | {"sources": list(LEGAL)}
    english = big | {"sources": ["contracts", "regulations"]}
    return [
        {"name": "general", "ladder": [4096, 16_384, 32_768, 65_536]},
        {"name": "general-r2l", "digits": "r2l", **big},
        {"name": "legal", **legal},
        {"name": "legal-packs", "kind": "domain", "packs": PACKS, **legal},
        {"name": "legal-terms", "kind": "domain", "packs": PACKS, "terms": str(TERMS), **legal},
        {"name": "legal-counted", "kind": "domain", "terms": str(TERMS), "use_terms": "count", "term_weight": 1000, **legal},
        {"name": "legal-uncased", "kind": "domain", "case": "uncased", **legal},
        {"name": "legal-fewest", "encoder": "fewest", **legal},
        {"name": "legal-german", "weights": {"german_law": 3}, **legal},
        {"name": "legal-superwords", "kind": "superbpe", "pretokenizer": "gpt4o", "transition": 0.8, **legal},
        {"name": "legal-en", **english},
        {"name": "legal-en-packs", "kind": "domain", "packs": PACKS, **english},
        {"name": "legal-en-terms", "kind": "domain", "packs": PACKS, "terms": str(TERMS), **english},
        {"name": "finance", "sources": ["finance"], **big},
        {"name": "biomed", "sources": ["biomed", "medicine"], **big},
        {"name": "code", "sources": ["code"], **big},
        {"name": "turkish", "sources": ["turkish"], **big},
        {"name": "char-3", "kind": "char", "ladder": [4096, 16_384]},
        {"name": "char-4", "kind": "char", "max_chars": 4, "vocab_size": 16_384},
        {"name": "pool", "kind": "pool", "members": ["legal", "finance", "biomed", "code", "turkish"]},
    ]


def _fields(corpora: Path, tokenizers: list[Result], **more: Any) -> Result:
    sources = [{"name": name, "uris": [f"{corpora}/{pattern}"]} for name, pattern in SOURCES.items()]
    return {"sources": sources, "tokenizers": tokenizers, "holdout": {"fraction": 0.03}} | more


# --- measuring --------------------------------------------------------------------------------------------------------


def _measure_family(corpora: Path, folder: Path) -> Result:
    """The family from one pass, and, for the time it takes, one of it alone."""
    evaluate = {"terms": [str(TERMS)], "noise": {"rate": 0.1, "seed": 0}}
    run = run_probe(_job(folder / "family", _fields(corpora, _family(), evaluate=evaluate)))
    alone = run_probe(_job(folder / "alone", _fields(corpora, [{"name": "legal", "vocab_size": 32_768}])))
    report = run["report"]
    found = {key: report[key] for key in ("evaluation", "domains", "tokenizers", "execution")}
    found["domains"]["terms"] = {TERMS.name: found["domains"]["terms"][str(TERMS)]}
    plan = json.loads((folder / "family/out/plan.json").read_text())
    return {
        "seconds": run["seconds"],
        "alone_seconds": alone["seconds"],
        "text_bytes": sum(row["text_bytes"] for row in report["accounting"]["sources"].values()),
        "passes": [counting["name"].split("-")[0] for counting in plan["passes"]],
        "shared": sorted(
            [name for name in plan["subwords"] if plan["subwords"][name] == key] for key in {*plan["subwords"].values()}
        ),
        **found,
    }


def _measure_extension(corpora: Path, folder: Path) -> Result:
    """Turkish behind a published English tokenizer and behind one of ours."""
    base = folder / "kl3m/tokenizer.json"
    base.parent.mkdir(parents=True)
    with zstandard.open(corpora.parent / "oracles/kl3m/kl3m-001-32k.json.zst", "rb") as file:
        base.write_bytes(file.read())
    sources = [
        {"name": "turkish", "uris": [f"{corpora}/{SOURCES['turkish']}"]},
        {"name": "english", "uris": [f"{corpora}/{SOURCES['articles']}"]},
    ]
    ours = {"name": "ours", "vocab_size": 32_768, "sources": ["english"]}
    run_probe(_job(folder / "base", {"sources": sources, "tokenizers": [ours]}))
    rungs = [32_768 + more for more in (0, 1000, 2000, 4000, 8000, 16_000)]
    bases = {"kl3m-001-32k": str(base), "ours": f"{folder}/base/out/tokenizers/ours"}
    tokenizers = [
        {"name": name, "kind": "extend", "base": path, "ladder": rungs, "sources": ["turkish"]}
        for name, path in bases.items()
    ]
    run = run_probe(_job(folder / "extended", {"sources": sources, "tokenizers": tokenizers, "holdout": {"fraction": 0.1}}))
    return {"seconds": run["seconds"], "evaluation": run["report"]["evaluation"], "tokenizers": run["report"]["tokenizers"]}


def _measure_premiums(corpora: Path, folder: Path) -> Result:
    """A ladder of help pages in 28 languages: what each pays, and which size would be fair."""
    fields = {
        "sources": [{"name": "help", "uris": [f"{corpora}/parallel/parallel_libreoffice_help.jsonl.zst"]}],
        "tokenizers": [
            {"name": "bpe", "ladder": [4096, 8192, 16_384, 32_768]},
            {"name": "superbpe", "kind": "superbpe", "vocab_size": 32_768, "transition": 0.8},
        ],
        "evaluate": {"parallel": {"uris": [f"{corpora}/parallel/parallel_ntrex128.jsonl.zst"], "reference": "eng"}},
    }
    run = run_probe(_job(folder / "premiums", fields))
    return {"seconds": run["seconds"], "domains": run["report"]["domains"]}


def _job(folder: Path, fields: Result) -> Probe:
    return Probe("morphology_probes.job", CORES, {"folder": str(folder), "fields": fields})


PARTS: dict[str, Callable[[Path, Path], Result]] = {
    "family": _measure_family,
    "extension": _measure_extension,
    "premiums": _measure_premiums,
}


# --- tables -----------------------------------------------------------------------------------------------------------


def _less(tokens: int, others: int) -> str:
    return f"{100 * (tokens / others - 1):+.1f} %"


def _token_table(result: Result) -> str:
    """Tokens on the held-out text of each source, against the general tokenizer of the same size."""
    evaluation = copy.deepcopy(result["family"]["evaluation"])
    shown = [name for name in evaluation if name.split("-")[0] in ("general", "legal", "finance", "biomed", "code", "pool")]
    sources = [source for source in SOURCES if source in evaluation["general-32768"]]
    general = evaluation["general-32768"]
    law = "all three of law"
    for rows_of in evaluation.values():
        rows_of[law] = {key: sum(rows_of[s][key] for s in LEGAL) for key in ("tokens", "chars")}
    per_char = (f"{general[s]['tokens'] / general[s]['chars']:.4f}" for s in (*sources, law))
    rows = [["general-32768, tokens per character", *per_char]]
    rows += [
        [name, *(_less(evaluation[name][s]["tokens"], general[s]["tokens"]) for s in (*sources, law))]
        for name in shown
        if name not in ("general-32768", "general-4096", "general-16384")
    ]
    return table(["tokenizer", *sources, law], rows)


def _term_table(result: Result) -> str:
    (terms,) = result["family"]["domains"]["terms"].values()
    general = terms["general-32768"]["behind_blank"]["tokens_per_term"]
    rows = []
    for name in terms:
        if name.startswith(("general", "legal")):
            behind, start = terms[name]["behind_blank"], terms[name]["at_start"]
            rows.append(
                [
                    name,
                    f"{behind['tokens_per_term']:.3f}",
                    _less(behind["tokens_per_term"], general),
                    f"{100 * behind['single_fraction']:.0f} %",
                    f"{start['tokens_per_term']:.3f}",
                ]
            )
    return table(["tokenizer", "tokens/term behind a blank", "against general-32768", "one token", "at the start"], rows)


def _noise_table(result: Result) -> str:
    rows = []
    noise, evaluation = result["family"]["domains"]["noise"]["tokenizers"], result["family"]["evaluation"]
    for name in ("general-4096", "char-3-4096", "general-16384", "char-3-16384", "char-4", "general-32768", "general-65536"):
        row = noise[name]["all sources"]
        figures = ("hit_word_token_f1", "hit_word_f1", "boundary_f1", "boundaries_kept", "token_growth")
        rows.append(
            [name, *(f"{row[key]:.3f}" for key in figures), f"{evaluation[name]['all sources']['tokens_per_char']:.3f}"]
        )
    header = [
        "tokenizer",
        "tokens inside hit words, F1",
        "boundaries inside hit words, F1",
        "everywhere, F1",
        "boundaries kept",
        "tokens, noisy / clean",
        "tokens/character",
    ]
    return table(header, rows)


def _sharing_table(result: Result) -> str:
    family = result["family"]
    rows = [
        ["tokenizers", str(len(family["tokenizers"]))],
        ["text", f"{family['text_bytes'] / 1e6:,.0f} MB"],
        ["counting passes", f"{family['passes'].count('words')} over words, {family['passes'].count('units')} over units"],
        *([f"one training for {len(names)}", ", ".join(names)] for names in family["shared"] if len(names) > 1),
        ["the whole job", f"{family['seconds']:.0f} s"],
        ["of that, measuring, on misread text too", f"{family['execution']['step_seconds']['evaluate']:.0f} s"],
        ["one tokenizer alone", f"{family['alone_seconds']:.0f} s"],
    ]
    return table(["", ""], rows)


def _extension_table(result: Result) -> str:
    evaluation = result["extension"]["evaluation"]
    rows = []
    for name, row in evaluation.items():
        first = evaluation[f"{name.rsplit('-', 1)[0]}-32768"]
        rows.append(
            [
                name,
                f"{result['extension']['tokenizers'][name]['new_tokens']:,}",
                f"{row['turkish']['tokens']:,}",
                _less(row["turkish"]["tokens"], first["turkish"]["tokens"]),
                f"{row['english']['tokens']:,}",
                _less(row["english"]["tokens"], first["english"]["tokens"]),
            ]
        )
    return table(["tokenizer", "new tokens", "Turkish tokens", "", "English tokens", ""], rows)


def _premium_table(result: Result) -> str:
    parallel = result["premiums"]["domains"]["parallel"]["tokenizers"]
    rows = []
    for name, found in parallel.items():
        spread = found["spread"]
        rows.append(
            [
                name,
                *(f"{spread[key]:.2f}" for key in ("min", "mean", "max", "standard_deviation", "coefficient_of_variation")),
            ]
        )
    return table(["tokenizer", "least premium", "mean", "most", "deviation", "of the mean"], rows)


def _size_table(result: Result) -> str:
    (ladder,) = result["premiums"]["domains"]["sizes"]
    rows = []
    for language, row in ladder["languages"].items():
        if language in ("eng", "deu", "fra", "tur", "fin", "hun", "rus", "jpn", "kor", "vie"):
            size = "out of reach" if row["vocab_size"] is None else f"{row['vocab_size']:,}"
            rows.append(
                [language, f"{row['b']:.3f}", f"{row['target_tokens']:,.0f}", size, "yes" if row["extrapolated"] else ""]
            )
    return table(["language", "exponent", "tokens wanted", "vocabulary", "beyond what was measured"], rows)


def blocks_of(result: Result) -> dict[str, str]:
    """What ``docs/domains.md`` has between its markers."""
    return {
        "tokens": _token_table(result),
        "terms": _term_table(result),
        "noise": _noise_table(result),
        "sharing": _sharing_table(result),
        "extension": _extension_table(result),
        "premiums": _premium_table(result),
        "sizes": _size_table(result),
    }


def main() -> None:
    """See ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.domains", description=__doc__)
    parser.add_argument("--stored", action="store_true", help="measure nothing: tables from results/domains.json")
    parser.add_argument("--only", choices=PARTS, help="measure this part anew")
    parser.add_argument("--corpora", type=Path, default=HERE.parents[1] / "shared/corpora")
    args = parser.parse_args()
    result: Result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if not args.stored:
        result |= describe_run("domains")
        for name in [args.only] if args.only else PARTS:
            started = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                result[name] = PARTS[name](args.corpora.resolve(), Path(folder))
            print(f"{name}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
            RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), blocks_of(result)))


if __name__ == "__main__":
    main()
