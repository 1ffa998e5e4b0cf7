"""Time, memory and tokens of superwords: ``python -m benchmarks.superwords``, which writes the tables of docs/superwords.md.

Measuring takes about a quarter of an hour; ``--stored`` only writes the tables, from ``results/superwords.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.corpus import MIX
from benchmarks.markdown import table, with_tables
from benchmarks.measure import Probe, alternate, describe_run, run_probe

HERE = Path(__file__).parent
RESULT = HERE / "results/superwords.json"
DOCUMENT = HERE.parent / "docs/superwords.md"

CORES = 2
VOCAB_SIZE, TRANSITION = 50_000, 40_000
SIZES = (25, 50, 100, 200, 400, 1000)
TRANSITIONS = (0.2, 0.4, 0.6, 0.8, 0.9)
ENGLISH = "prose/prose_en_eltec-00000-of-00002.jsonl.zst"
LINE_BYTES = (12_500_000, 25_000_000, 50_000_000, 100_000_000)
PAIR = ("subword", "80K_extend")

Result = dict[str, Any]


# --- measuring --------------------------------------------------------------------------------------------------------


def _source(folder: str) -> dict[str, Any]:
    return {"sources": [{"name": "mixed", "uris": [f"{folder}/*.jsonl"]}]}


def _train(file: str, megabytes: int, repeats: int) -> list[Result]:
    """Both stages on so much text, and the second once more, alone."""
    tokenizer = {"name": "super", "kind": "superbpe", "vocab_size": VOCAB_SIZE, "transition": TRANSITION}
    runs = []
    for repeat in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "text.jsonl").symlink_to(file)
            fields = {**_source(folder), "tokenizers": [tokenizer], "holdout": {"fraction": 0}}
            run = run_probe(Probe("superword_probes.train", CORES, {"folder": folder, "fields": fields}))
            again = run_probe(Probe("superword_probes.second_stage", CORES, {"folder": folder, "fields": fields}))
        report = run["report"]
        runs.append(
            {
                "text_bytes": report["accounting"]["sources"]["mixed"]["text_bytes"],
                "seconds": run["seconds"],
                "steps": report["execution"]["step_seconds"],
                "peak_rss_bytes": run["peak_rss_bytes"],
                "second_peak_bytes": again["peak_rss_bytes"],
                "second_extra_bytes": again["extra_bytes"],
                "merges": run["merges"]["super"],
                "distinct_units": report["tokenizers"]["super"]["distinct_words"],
            }
        )
        print(f"  {megabytes} MB, {repeat + 1}/{repeats}: {run['seconds']:.1f} s", flush=True)
    if len({run["merges"]["merges_sha256"] for run in runs}) > 1:
        raise SystemExit(f"{megabytes} MB: two runs gave different merges")
    return runs


def _own(file: str, folder: str) -> Result:
    """A sweep, variants, and plain BPE of the same size and the same words, on held-out text."""
    common = {"vocab_size": VOCAB_SIZE}
    first = {"pretokenizer": "superbpe"}
    tokenizers = [
        {"name": "bpe", **common, **first},
        {"name": "superbpe", "kind": "superbpe", **common, "transitions": list(TRANSITIONS)},
        {"name": "word-runs", "kind": "superbpe", "stage": "word_runs", **common, "transition": 0.8},
        {"name": "random-chunks", "kind": "superbpe", "stage": "random_chunks", **common},
        {"name": "random-whitespace", "kind": "superbpe", "stage": "random_whitespace", **common},
    ]
    (Path(folder) / "text.jsonl").symlink_to(file)
    fields = {**_source(folder), "tokenizers": tokenizers, "holdout": {"fraction": 0.05}}
    run = run_probe(Probe("superword_probes.train", CORES, {"folder": folder, "fields": fields}))
    return {key: run["report"][key] for key in ("evaluation", "superwords", "execution", "accounting")}


def measure(corpora: str, oracles: str, sizes: tuple[int, ...], repeats: int) -> Result:
    """Everything, as ``results/superwords.json`` has it."""
    found: Result = {"training": {}, "encoding": {}, "lines": {}}
    with tempfile.TemporaryDirectory() as name:
        texts = {size: _write_text(Path(corpora), Path(name), size) for size in sizes}
        for size, file in texts.items():
            found["training"][str(size)] = _train(file, size, repeats if size <= 100 else 1)
        with tempfile.TemporaryDirectory() as folder:
            found["own"] = _own(texts[100 if 100 in texts else sizes[-1]], folder)
            own = [f"{folder}/out/tokenizers/{one}" for one in ("bpe", "superbpe-t80")]
            english = f"{corpora}/{ENGLISH}"
            for tokenizer in ("80K_extend", own[1]):
                work = {"oracles": oracles, "name": tokenizer, "file": english, "max_bytes": 20_000_000}
                sides = {
                    "ours": Probe("superword_probes.encode", 1, work | {"side": "ours"}),
                    "tokenizers": Probe("superword_probes.encode", 1, work | {"side": "tokenizers"}, repeats=1),
                }
                runs = alternate(sides, repeats)
                if len({run["ids_sha256"] for side in runs.values() for run in side}) > 1:
                    raise SystemExit(f"{tokenizer}: the ids of the two sides differ")
                found["encoding"][Path(tokenizer).name] = runs
            for num_bytes in LINE_BYTES:
                work = {"oracles": oracles, "name": "80K_extend", "file": english, "num_bytes": num_bytes}
                found["lines"][str(num_bytes)] = run_probe(Probe("superword_probes.long_line", 1, work))
            for what in ("count_tokens", "count_parallel"):
                work = {"oracles": oracles, "corpora": corpora}
                found[what] = run_probe(Probe(f"superword_probes.{what}", CORES, work | {"names": list(PAIR)}))
                found[f"{what}_own"] = run_probe(Probe(f"superword_probes.{what}", CORES, work | {"names": own}))
    return found


def _write_text(corpora: Path, folder: Path, megabytes: int) -> str:
    """A document of every file in turn, as one .jsonl; once all are read, again, the words of each line in reverse."""
    from benchmarks.superword_probes import corpus_files, records

    path = folder / f"{megabytes}.jsonl"
    size = 0
    with path.open("w", encoding="utf-8") as file:
        for turn in ("as it is", "reversed"):
            files = [file for name in MIX for file in corpus_files(str(corpora / name)) if ".jsonl" in file.name]
            files += [] if megabytes <= 200 else [file for file in corpus_files(str(corpora)) if file not in files]
            streams = [iter(records(one)) for one in files]
            while streams and size < megabytes * 1e6:
                for stream in list(streams):
                    if (record := next(stream, None)) is None:
                        streams.remove(stream)
                        continue
                    text = record["text"]
                    if turn == "reversed":
                        text = "\n".join(" ".join(reversed(line.split(" "))) for line in text.split("\n"))
                    file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                    size += len(text.encode())
            if size >= megabytes * 1e6:
                break
    return str(path)


# --- tables -----------------------------------------------------------------------------------------------------------


def _training_table(result: Result) -> str:
    rows = []
    for runs in result["training"].values():
        text = runs[0]["text_bytes"]
        seconds = statistics.median(run["seconds"] for run in runs)
        steps = {step: statistics.median(run["steps"][step] for run in runs) for step in runs[0]["steps"]}
        rows.append(
            [
                f"{text / 1e6:,.0f} MB",
                f"{seconds:.1f} s",
                f"{steps['count'] + steps['units']:.1f} s",
                f"{steps['merge']:.1f} s",
                f"{steps['subwords']:.1f} s",
                f"{steps['train']:.1f} s",
                f"{max(run['peak_rss_bytes'] for run in runs) / 1e6:,.0f} MB",
                f"{max(run['second_peak_bytes'] for run in runs) / 1e6:,.0f} MB",
                f"{statistics.median(run['second_extra_bytes'] for run in runs) / text:.1f}",
            ]
        )
    header = [
        "text", "whole job", "count", "merge", "first stage", "second stage", "peak of the job", "peak of the second stage",
        "its bytes of memory a byte of text",
    ]  # fmt: skip
    return table(header, rows)


def _own_table(result: Result) -> str:
    own = result["own"]
    everything = "all sources"
    rows = []
    for name, row in own["evaluation"].items():
        figures = row[everything]
        extra = own["superwords"].get(name)
        rows.append(
            [
                name,
                f"{extra['first_stage_tokens']:,}" if extra else "all",
                f"{figures['bytes_per_token']:.3f}",
                f"{100 * extra['tokens_saved']['bpe'][everything]:.1f} %" if extra else "",
                f"{extra['superwords']:,}" if extra else "",
                f"{100 * extra['share_of_tokens']:.1f} %" if extra else "",
                f"{figures['bits_per_token']:.2f} ± {figures['bits_deviation']:.2f}",
                f"{100 * figures['capacity_used']:.1f} %",
            ]
        )
    header = [
        "tokenizer", "tokens from the first stage", "bytes/token", "tokens saved", "superwords", "of the tokens",
        "bits/token", "of log2(ids)",
    ]  # fmt: skip
    examples = own["superwords"]["superbpe-t80"]
    lines = [table(header, rows), "", "Of the one with 0.8:", ""]
    lines.append("- longest: " + ", ".join(f"`{json.dumps(text, ensure_ascii=False)}`" for text in examples["longest"]))
    frequent = (f"`{json.dumps(text, ensure_ascii=False)}` {count:,}" for text, count in examples["most_frequent"])
    lines.append("- most frequent: " + ", ".join(frequent))
    return "\n".join(lines)


def _encoding_table(result: Result) -> str:
    rows = []
    for name, runs in result["encoding"].items():
        ours, theirs = runs["ours"], runs["tokenizers"]
        rate = {
            key: statistics.median(run["text_bytes"] / run[key] / 1e6 for run in ours)
            for key in ("seconds", "first_seconds")
        }
        peer = statistics.median(run["text_bytes"] / run["seconds"] / 1e6 for run in theirs)
        rows.append(
            [
                "published, 200,000 ids" if name == "80K_extend" else f"our own, {VOCAB_SIZE:,} ids",
                f"{rate['first_seconds']:.1f} MB/s",
                f"{rate['seconds']:.1f} MB/s",
                f"{peer:.1f} MB/s",
                f"{rate['seconds'] / peer:.1f} ×",
                f"{statistics.median(run['load_seconds'] for run in ours):.1f} s",
            ]
        )
    lines = [table(["tokenizer", "new text", "the same text again", "`tokenizers`", "ratio", "loading"], rows), ""]
    found = [(int(num_bytes), run) for num_bytes, run in result["lines"].items()]
    rows = [
        [
            f"{size / 1e6:g} MB",
            f"{run['seconds']:.2f} s",
            f"{size / run['seconds'] / 1e6:.1f} MB/s",
            f"{run['extra_bytes'] / size:.1f}",
        ]
        for size, run in found
    ]
    lines.append(table(["one line of", "seconds", "rate", "bytes of memory a byte, ids included"], rows))
    return "\n".join(lines)


def _saving_table(result: Result) -> str:
    plain, extended = PAIR
    rows, total = [], {"bytes": 0, plain: 0, extended: 0}
    for row in result["count_tokens"]["rows"]:
        saved = 1 - row[extended] / row[plain] if row[plain] else 0.0
        cells = [
            row["text"],
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['bytes'] / row[plain]:.3f}",
            f"{row['bytes'] / row[extended]:.3f}",
        ]
        rows.append([*cells, f"{100 * saved:.1f} %"])
        total = {key: total[key] + row[key] for key in total}
    cells = [f"{total['bytes'] / 1e6:.1f}", *(f"{total['bytes'] / total[name]:.3f}" for name in PAIR)]
    rows.append(["**all**", *cells, f"{100 * (1 - total[extended] / total[plain]):.1f} %"])
    bits = result["count_tokens"]["bits"]
    lines = [table(["text", "MB", f"`{plain}` bytes/token", f"`{extended}` bytes/token", "tokens saved"], rows), ""]
    for name in PAIR:
        lines.append(
            f"- `{name}`: {bits[name]['bits_per_token']:.2f} bits a token, deviation {bits[name]['bits_deviation']:.2f}, "
            f"{100 * bits[name]['capacity_used']:.1f} % of log2(ids)"
        )
    return "\n".join(lines)


def _premiums(languages: dict[str, dict[str, int]], name: str) -> list[float]:
    english = next(languages[code] for code in ("en", "eng") if code in languages)
    return [tokens[name] / english[name] for code, tokens in languages.items() if code not in ("en", "eng")]


def _premium_table(result: Result) -> str:
    rows = []
    for title, found in (
        ("published", result["count_parallel"]["texts"]),
        ("our own", result["count_parallel_own"]["texts"]),
    ):
        for text, languages in found.items():
            names = list(next(iter(languages.values())))
            cells = []
            for name in names:
                premiums = _premiums(languages, name)
                cells += [f"{statistics.median(premiums):.3f}", f"{max(premiums):.2f}"]
                sizes = [tokens[name] for tokens in languages.values()]
                cells.append(f"{statistics.pstdev(sizes) / statistics.mean(sizes):.3f}")
            rows.append([text, title, str(len(languages)), *cells])
    header = ["text", "tokenizers", "languages"]
    for kind in ("BPE", "SuperBPE"):
        header += [f"{kind}: median premium", "greatest", "spread"]
    return table(header, rows)


def blocks_of(result: Result) -> dict[str, str]:
    """What ``docs/superwords.md`` has between its markers."""
    return {
        "training": _training_table(result),
        "held-out": _own_table(result),
        "encoding": _encoding_table(result),
        "saving": _saving_table(result),
        "premium": _premium_table(result),
    }


def main() -> None:
    """See ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.superwords", description=__doc__)
    parser.add_argument("--stored", action="store_true", help="measure nothing: tables from results/superwords.json")
    parser.add_argument("--shared", type=Path, default=HERE.parents[1] / "shared", help="folder of corpora/ and oracles/")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="megabytes of text to train on")
    parser.add_argument("--repeats", type=int, default=3, help="of what takes less than a minute")
    args = parser.parse_args()
    if not args.stored:
        started = time.monotonic()
        found = measure(str(args.shared / "corpora"), str(args.shared / "oracles"), tuple(args.sizes), args.repeats)
        facts = describe_run("superwords") | {"minutes": round((time.monotonic() - started) / 60, 1)}
        RESULT.write_text(json.dumps(facts | found, indent=1, ensure_ascii=False) + "\n")
    result = json.loads(RESULT.read_text())
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), blocks_of(result)))


if __name__ == "__main__":
    main()
