"""The whole job beside the same work done with ``tokenizers``, in one run, one after the other.

Ours: ``tokenmill run`` as a user starts it: Python, Ray, reading, counting, training, evaluation, encoding, shuffling,
packing, hashing. Theirs: documents already in memory, ``train_from_iterator`` and ``encode_batch_fast`` on all cores,
nothing written. Same documents, split, vocabulary and cores; a few held-out documents more for them to train on.

``python -m benchmarks.whole_job [CORPUS]``: CORPUS is a folder of .jsonl.zst files, by default ../shared/corpora.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import zstandard
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.pretokenizer import Pretokenizer

MIX = ["prose", "legal", "code", "turkish", "multilingual", "biomed"]
CORPUS_BYTES = 200_000_000
VOCAB_SIZE = 32_768
RESULTS = Path(__file__).parent / "results"


def make_corpus(source: Path, target: Path) -> list[str]:
    """At least CORPUS_BYTES of text as plain jsonl, a bit of every file in turn; returns the texts."""
    files = [file for folder in MIX for file in sorted((source / folder).glob("*.jsonl.zst"))]
    if not files:
        sys.exit(f"{source}: no .jsonl.zst files in {', '.join(MIX)}")
    texts: list[str] = []
    size = 0
    streams = [zstandard.open(file, "rt", encoding="utf-8", newline="\n") for file in files]
    with target.open("w", encoding="utf-8") as out:
        while streams and size < CORPUS_BYTES:
            for stream in list(streams):
                line = stream.readline()
                if not line:
                    streams.remove(stream)
                    continue
                text = json.loads(line)["text"]
                texts.append(text)
                size += len(text.encode())
                out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return texts


def run_ours(corpus: Path, output: Path, preset: str, address: str) -> dict[str, Any]:
    """Seconds of the command, and of its steps."""
    spec = {
        "name": "bench",
        "output": str(output),
        "sources": [{"name": "mix", "uris": [str(corpus)]}],
        "tokenizers": [{"name": "bpe", "vocab_size": VOCAB_SIZE, "pretokenizer": preset}],
        "pack": {"tokenizers": ["bpe"]},
        "execution": {"address": address},
    }
    file = output.with_suffix(".yaml")
    file.write_text(json.dumps(spec))
    started = time.perf_counter()
    command = [str(Path(sys.executable).with_name("tokenmill")), "run", str(file)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    report = json.loads((output / "report/report.json").read_text())
    return {"seconds": seconds, "steps": report["execution"]["step_seconds"]}


def run_theirs(texts: list[str], preset: str) -> dict[str, Any]:
    """Seconds of training and encoding."""
    outside = Tokenizer(models.BPE())
    outside.pre_tokenizer = Pretokenizer.named(preset).to_tokenizers()
    outside.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, initial_alphabet=alphabet, show_progress=False)
    started = time.perf_counter()
    outside.train_from_iterator(texts, trainer)
    trained = time.perf_counter()
    num_ids = 0
    for start in range(0, len(texts), 1000):
        num_ids += sum(len(encoding.ids) for encoding in outside.encode_batch_fast(texts[start : start + 1000]))
    ended = time.perf_counter()
    return {"seconds": ended - started, "steps": {"train": trained - started, "encode": ended - trained}, "ids": num_ids}


def main() -> None:
    """Measure, print, and write benchmarks/results/whole_job.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", default=str(Path(__file__).parents[2] / "shared/corpora"))
    parser.add_argument("--preset", default="gpt2")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        texts = make_corpus(Path(args.corpus), corpus)
        num_bytes = sum(len(text.encode()) for text in texts)
        print(f"{len(texts):,} documents, {num_bytes / 1e6:.1f} MB of text, {VOCAB_SIZE} ids, split {args.preset}")
        rows: dict[str, list[dict[str, Any]]] = {"tokenmill, Ray": [], "tokenmill, local": [], "tokenizers": []}
        for repeat in range(args.repeats):
            rows["tokenmill, Ray"].append(run_ours(corpus, Path(folder) / f"ray-{repeat}", args.preset, "auto"))
            rows["tokenmill, local"].append(run_ours(corpus, Path(folder) / f"local-{repeat}", args.preset, "local"))
            rows["tokenizers"].append(run_theirs(texts, args.preset))
    medians = {name: statistics.median(run["seconds"] for run in runs) for name, runs in rows.items()}
    for name, seconds in medians.items():
        ratio = medians["tokenizers"] / seconds
        runs = ", ".join(f"{run['seconds']:.1f}" for run in rows[name])
        print(f"{name:<18} {seconds:7.1f} s  {num_bytes / seconds / 1e6:6.1f} MB/s  {ratio:5.2f} x  (runs: {runs})")
        last = {step: round(s, 1) for step, s in rows[name][-1]["steps"].items()}
        print(f"{'':<18} last run: {last}")
    result = {
        "benchmark": "whole_job",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "cpus": os.cpu_count(),
            "model": platform.processor() or platform.machine(),
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in ("tokenmill", "tokenizers", "ray", "numba")},
        "text_bytes": num_bytes,
        "vocab_size": VOCAB_SIZE,
        "pretokenizer": args.preset,
        "median_seconds": {name: round(seconds, 2) for name, seconds in medians.items()},
        "ratio_to_tokenizers": {name: round(medians["tokenizers"] / seconds, 2) for name, seconds in medians.items()},
        "runs": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "whole_job.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
