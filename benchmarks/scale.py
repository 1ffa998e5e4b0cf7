"""Measure what the scale model goes by, and say what jobs of terabytes would take: ``python -m benchmarks.scale``.

Measuring takes about ten minutes; ``--stored`` predicts from the last measurement, which is in ``results/scale.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.corpus import MIX, PERCENTS, Corpus, make_corpus
from benchmarks.markdown import with_tables
from benchmarks.measure import Probe, describe_run, run_probe
from benchmarks.scale_model import INSTANCES, Rates, fit_growth, fit_line
from benchmarks.scale_tables import MIXED, predictions, sizing, tables
from benchmarks.synthetic import make_listing

HERE = Path(__file__).parent
RESULT = HERE / "results/scale.json"
DOCUMENT = HERE.parent / "docs/scaling.md"

VOCAB_SIZE = 32_768
REPEATS = 3
LISTING_FILES = 100_000
LISTING_BYTES = 10_000_000

_SHARD_BYTES = {"large": 105_000_000, "small": 27_000_000}
"""Two shards, or eight: both hyperthreads are busy to the end."""


# --- measuring --------------------------------------------------------------------------------------------------------


def measure(corpus: Corpus, corpora: str) -> dict[str, Any]:
    """Everything the model needs, as it was seen."""
    with tempfile.TemporaryDirectory() as folder:
        seen: dict[str, Any] = {"growth": _growth(corpora), "jobs": _jobs(corpus, Path(folder))}
        seen["memory"], seen["training"] = _memory(corpus, Path(folder), seen["jobs"])
        seen["store"] = _median([run_probe(Probe("rates.requests", 2)) for _ in range(REPEATS)])
        seen["listing"] = _listing(Path(folder))
    for job in seen["jobs"].values():
        del job["spec"]
    return seen


def _median(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Of every number in the runs."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0] if isinstance(runs[0][key], int | float)}


def _growth(corpora: str) -> dict[str, Any]:
    print("distinct words:", flush=True)
    found = {}
    for name, kinds in {**{kind: (kind,) for kind in MIX}, MIXED: MIX}.items():
        found[name] = run_probe(Probe("rates.growth", 2, {"corpora": corpora, "kinds": kinds}))
        print(f"  {name}: {found[name]['points'][-1]}", flush=True)
    return found


def _jobs(corpus: Corpus, folder: Path) -> dict[str, Any]:
    """The corpus in large and in small shards, two tasks at a time; their specs stay for ``_memory``."""
    from benchmarks.rates import write_spec

    print("jobs:", flush=True)
    found = {}
    for name, shard_bytes in _SHARD_BYTES.items():
        (folder / name).mkdir()
        spec = write_spec(folder / name, corpus.jsonl, shard_bytes, VOCAB_SIZE)
        runs = [run_probe(Probe("rates.job", 2, {"spec": spec})) for _ in range(REPEATS)]
        seconds = {step: statistics.median(run["seconds"][step] for run in runs) for step in runs[0]["seconds"]}
        found[name] = runs[-1] | {"seconds": seconds, "spec": spec}
        print(f"  {name}: {seconds}", flush=True)
    return found


def _memory(corpus: Corpus, folder: Path, jobs: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Memory of single tasks by what they read, and training by words."""
    from benchmarks.rates import write_spec

    print("memory:", flush=True)
    points: dict[str, list[tuple[float, float]]] = {step: [] for step in ("count", "merge", "encode", "pack", "train")}

    def add(step: str, size: float, run: dict[str, Any]) -> None:
        points[step].append((size, run["top_bytes"]))
        print(f"  {step}: {size:,.0f} -> {run['top_bytes'] / 1e6:.0f} MB", flush=True)

    for name in _SHARD_BYTES:
        facts = jobs[name]
        for step, task in (("count", "00000"), ("encode", "bpe/00000")):
            run = run_probe(Probe("rates.task", 1, {"spec": facts["spec"], "step": step, "name": task}))
            add(step, facts["text_bytes"] / facts["tasks"]["count"], run)
    facts = jobs["large"]
    num_buckets = facts["tasks"]["pack"] - 1
    sizes = {"train": (facts["text_bytes"] - facts["held_out_bytes"]) / num_buckets, "holdout": facts["held_out_bytes"]}
    for split, size in sizes.items():
        work = {"spec": facts["spec"], "step": "pack", "name": f"bpe/{split}/00000"}
        add("pack", size, run_probe(Probe("rates.task", 1, work)))
    for percent in (25, 100):
        work = {"file": corpus.arrow, "max_bytes": int(corpus.facts["text_bytes"] * percent / 100)}
        run = run_probe(Probe("rates.merge", 1, work))
        add("merge", run["words"], run)
    training = []
    for percent in PERCENTS:
        inside = folder / f"train-{percent}"
        inside.mkdir()
        spec = write_spec(inside, corpus.lines(percent), 25_000_000, VOCAB_SIZE)
        facts = run_probe(Probe("rates.job", 2, {"spec": spec}))
        runs = [run_probe(Probe("rates.task", 1, {"spec": spec, "step": "train", "name": "bpe"})) for _ in range(REPEATS)]
        middle = _median(runs)
        add("train", facts["words"], middle)
        training.append({"words": facts["words"], "symbols": facts["words"] + facts["word_bytes"]} | middle)
    return points, training


def _listing(folder: Path) -> dict[str, Any]:
    """The plan of ``LISTING_FILES``, made, made again, checked; receipts for all tasks; the driver's memory; the window."""
    print(f"listing of {LISTING_FILES:,} files:", flush=True)
    found: dict[str, Any] = {}
    for name, num_files, execution in (
        ("tiny", 100, {}),
        ("files", LISTING_FILES, {}),
        ("shards", LISTING_FILES // 10, {"shard_bytes": LISTING_BYTES}),
    ):
        (folder / f"listing-{name}").mkdir()
        started = time.perf_counter()
        spec = {"spec": str(make_listing(folder / f"listing-{name}", num_files, LISTING_BYTES, **execution))}
        found[name] = {"make_seconds": time.perf_counter() - started}
        steps = ["plan", "plan", "check_plan", "write_receipts", "drive", *(["window"] if name == "files" else [])]
        for step in steps:
            run = run_probe(Probe(f"synthetic.{step}", 2, spec))
            found[name]["plan_again" if step in found[name] else step] = run
            print(f"  {name}: {step}: {run.get('seconds', 0):.1f} s, {run['peak_rss_bytes'] / 1e6:.0f} MB", flush=True)
        if found[name]["plan"]["fingerprint"] != found[name]["plan_again"]["fingerprint"]:
            raise SystemExit("the same listing gave another fingerprint")
    return found


def rates_of(seen: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``Rates``."""
    job, store, listing = seen["jobs"]["large"], seen["store"], seen["listing"]
    seconds, published, text = job["seconds"], job["published"], job["text_bytes"]
    counted = published["_work/count"]
    divisors = {"count": text, "merge": counted, "evaluate": job["held_out_bytes"], "encode": text, "pack": text}
    tiny, files, shards = (listing[name]["drive"] for name in ("tiny", "files", "shards"))
    # Two unknowns, the bytes for a file and for a shard, from two listings that differ in both.
    by_tasks = [(listing[name]["check_plan"], listing[name]["drive"]["peak_rss_bytes"]) for name in ("files", "shards")]
    base = tiny["peak_rss_bytes"]
    (a, x), (b, y) = ((facts, peak - base) for facts, peak in by_tasks)
    determinant = a["files"] * b["shards"] - b["files"] * a["shards"]
    per_file = (x * b["shards"] - y * a["shards"]) / determinant
    per_shard = (a["files"] * y - b["files"] * x) / determinant
    tasks = sum(files["tasks"].values()), sum(shards["tasks"].values())
    fits = {name: fit_growth([tuple(point) for point in facts["points"]]) for name, facts in seen["growth"].items()}
    return {
        "seconds_per_byte": {step: seconds[step] / size for step, size in divisors.items()},
        "train": dataclasses.asdict(fit_line([(run["words"], run["seconds"]) for run in seen["training"]])),
        **{key: store[key] for key in ("request", "read", "written")},
        "count_bytes_per_word": counted / job["shard_words"],
        "merged_bytes_per_word": published["_work/words"] / job["words"],
        "word_bytes": job["word_bytes"] / job["words"],
        "encoded_per_byte": published["_work/encode"] / text,
        "packed_per_byte": published["packed"] / text,
        "receipt_bytes": listing["files"]["write_receipts"]["receipt_bytes"] / tasks[0],
        "task_memory": {step: dataclasses.asdict(fit_line(points)) for step, points in seen["memory"].items()},
        "driver_memory": {"base": base, "file": per_file, "shard": per_shard},
        "dispatch": listing["files"]["window"]["seconds"] / listing["files"]["window"]["tasks"],
        "plan_per_file": listing["files"]["plan"]["seconds"] / LISTING_FILES,
        "growth": {name: dataclasses.asdict(fit) for name, fit in fits.items()},
    }


def read_result() -> dict[str, Any]:
    """The last measurement, with the ``rates`` that follow from it."""
    result: dict[str, Any] = json.loads(RESULT.read_text())
    return result | {"rates": rates_of(result["seen"])}


# --- the command ------------------------------------------------------------------------------------------------------


def _to_json(result: dict[str, Any], instance: str) -> str:
    rows = predictions(Rates.from_dict(result["rates"]), instance)
    plain = [{**row, "is": dataclasses.asdict(row["is"])} for row in rows]
    return json.dumps({"instance": instance, "rates": result["rates"], "predictions": plain}, indent=1)


def blocks_of(result: dict[str, Any], instance: str) -> dict[str, str]:
    """What ``docs/scaling.md`` has between its markers."""
    return {"sizing": sizing(result), "tables": tables(result, instance)}


def main() -> None:
    """See ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--stored", action="store_true", help="measure nothing: predict from results/scale.json")
    parser.add_argument("--json", action="store_true", help="the predictions for machines")
    parser.add_argument("--markdown", action="store_true", help="write the tables of docs/scaling.md anew")
    parser.add_argument("--instance", choices=INSTANCES, default="c6id.8xlarge")
    parser.add_argument("--corpora", default=str(HERE.parents[1] / "shared/corpora"))
    parser.add_argument("--megabytes", type=float, default=200, help="of text; less is for trying things out")
    args = parser.parse_args()
    if not args.stored:
        corpus = make_corpus(Path(args.corpora), args.megabytes)
        started = time.monotonic()
        seen = measure(corpus, args.corpora)
        facts = describe_run("scale") | {"minutes": round((time.monotonic() - started) / 60, 1), "corpus": corpus.facts}
        RESULT.write_text(json.dumps(facts | {"seen": seen}, indent=1) + "\n")
    result = read_result()
    if args.markdown:
        DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), blocks_of(result, args.instance)))
    print(_to_json(result, args.instance) if args.json else "\n".join(blocks_of(result, args.instance).values()))


if __name__ == "__main__":
    main()
