"""The groups: which probes take turns, and the rows that come of them."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.corpus import PERCENTS, Corpus
from benchmarks.measure import Probe, alternate, run_probe
from benchmarks.rows import Row, Target
from pipeline.pretokenizer import GPT2_REGEX, Pretokenizer

CORES = 2
VOCAB_SIZES = (32_768, 131_072)
CURVE_VOCAB_SIZES = (8_192, 16_384, 32_768, 65_536, 131_072, 262_144)
UNSPLIT_VOCAB_SIZE = 4_096
SMALLEST = 300
"""A vocabulary of hardly more than the bytes: nearly all the time goes into reading, splitting and counting."""

SUPERBPE_PAPER = (r"\p{N}+", r"(?=(\d{3})+(?!\d))| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
SUPERBPE_NOW = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
REGEXES = {
    "GPT-2 with digits from the right": Pretokenizer.named("gpt2", "r2l").patterns,
    "SuperBPE stage 1, recommended": SUPERBPE_NOW,
    "SuperBPE stage 1, paper": SUPERBPE_PAPER,
}

Runs = list[dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """What a group gives: rows, points of curves, and sentences about what was checked."""

    rows: list[Row]
    checked: list[str] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)


def _seconds(runs: Runs, key: str = "seconds") -> list[float]:
    return [run[key] for run in runs]


def _rates(runs: Runs, key: str = "seconds") -> list[float]:
    return [run["text_bytes"] / run[key] / 1e6 for run in runs]


def _megabytes(runs: Runs, key: str = "peak_rss_bytes") -> list[float]:
    return [run[key] / 1e6 for run in runs]


def _steps(runs: Runs) -> str:
    return "our last run: " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in runs[-1]["steps"].items())


def _less(runs: Runs, others: Runs) -> list[float]:
    return [run["seconds"] - other["seconds"] for run, other in zip(runs, others, strict=True)]


def _agree(what: str, key: str, *sides: Runs) -> str:
    """Stops everything if the sides disagree: times of different results are no comparison."""
    values = {run[key] for runs in sides for run in runs}
    if len(values) > 1:
        sys.exit(f"{what}: the sides disagree on {key}: {sorted(map(str, values))}")
    return what


def _agree_on_merges(what: str, *sides: Runs) -> str:
    _agree(what, "merges_sha256", *sides)
    num = sides[0][0]["num_merges"]
    return f"{what}: merges identical, {num:,} of {num:,}"


def training(corpus: Corpus, repeats: int) -> Outcome:
    """File to tokenizer.json in one process with compiled kernels."""
    rows, checked = [], []
    for vocab_size in VOCAB_SIZES:
        work = {"file": corpus.lines(), "vocab_size": vocab_size}
        sides = {
            "tokenmill": Probe("ours.train", CORES, work),
            "gigabpe": Probe("peers.gigabpe_train", CORES, work),
            "tokenizers": Probe("peers.tokenizers_train", CORES, work),
        }
        runs = alternate(sides, repeats)
        what = f"whole training, {vocab_size:,} tokens"
        checked.append(_agree_on_merges(f"{what}, all three sides", *runs.values()))
        ours, cores = runs["tokenmill"], f"cores: {runs['tokenmill'][0]['cores']}"
        targets = {"gigabpe": Target(1.5, 3), "tokenizers": Target(12, 25)}
        for peer, target in targets.items():
            note = f"{cores}; {_steps(ours)}"
            rows.append(Row(what, "s", _seconds(ours), peer, _seconds(runs[peer]), target, note))
        for peer, target in {"gigabpe": Target(1.5, 1), "tokenizers": Target()}.items():
            memory = f"peak memory of training, {vocab_size:,} tokens"
            before = [_megabytes(side, "rss_before_bytes")[0] for side in (ours, runs[peer])]
            note = f"of it before the work began: ours {before[0]:.0f} MB, theirs {before[1]:.0f} MB"
            rows.append(Row(memory, "MB", _megabytes(ours), peer, _megabytes(runs[peer]), target, note))
    return Outcome(rows, checked)


def command(corpus: Corpus, repeats: int) -> Outcome:
    """The same as a user starts it, with the start of Python, of the kernels and of Ray."""
    rows, checked = [], []
    for vocab_size in VOCAB_SIZES:
        work = {"file": corpus.lines(), "vocab_size": vocab_size}
        sides = {
            "local": Probe("ours.train_command", CORES, work | {"address": "local"}),
            "gigabpe": Probe("peers.gigabpe_command", CORES, work),
            "auto": Probe("ours.train_command", CORES, work | {"address": "auto"}),
        }
        runs = alternate(sides, repeats)
        checked.append(_agree_on_merges(f"whole command, {vocab_size:,} tokens, both addresses and gigabpe", *runs.values()))
        theirs = _seconds(runs["gigabpe"])
        for address in ("local", "auto"):
            what = f"whole command, {vocab_size:,} tokens, `address: {address}`"
            note = "with the start and stop of Ray" if address == "auto" else "with the start of Python"
            rows.append(Row(what, "s", _seconds(runs[address]), "gigabpe", theirs, Target(1), note))
    return Outcome(rows, checked)


def merge(corpus: Corpus, repeats: int) -> Outcome:
    """The merge loop alone. gigabpe has no call for it: its training less its training to 300 tokens."""
    sides = {}
    for vocab_size in (SMALLEST, *VOCAB_SIZES):
        work = {"file": corpus.lines(), "vocab_size": vocab_size}
        sides[f"tokenmill {vocab_size}"] = Probe("ours.merge", 1, work)
        for threads in (1, 2):
            sides[f"gigabpe {threads} {vocab_size}"] = Probe("peers.gigabpe_train", threads, work)
    unsplit = {"file": corpus.arrow, "max_bytes": _slice_bytes(corpus) // 2, "vocab_size": UNSPLIT_VOCAB_SIZE}
    sides["tokenmill, unsplit"] = Probe("ours.merge_unsplit", 1, unsplit)
    runs = alternate(sides, repeats)
    rows, checked = [], []
    for vocab_size in (SMALLEST, *VOCAB_SIZES):
        all_sides = [runs[f"{side} {vocab_size}"] for side in ("tokenmill", "gigabpe 1", "gigabpe 2")]
        checked.append(_agree_on_merges(f"merge loop, {vocab_size:,} tokens", *all_sides))
    for vocab_size in VOCAB_SIZES:
        by_threads = {t: _less(runs[f"gigabpe {t} {vocab_size}"], runs[f"gigabpe {t} {SMALLEST}"]) for t in (1, 2)}
        threads = min(by_threads, key=lambda t: statistics.median(by_threads[t]))
        note = f"ours on 1 core, all of `train_bpe`; gigabpe less its {SMALLEST} tokens, the better of 1 and 2 threads: "
        ours, what = runs[f"tokenmill {vocab_size}"], f"merge loop to {vocab_size:,} tokens"
        rows.append(Row(what, "s", _seconds(ours), "gigabpe", by_threads[threads], Target(1.5, 3), note + str(threads)))
        less = _less(ours, runs[f"tokenmill {SMALLEST}"])
        rows.append(Row(f"{what}, both less {SMALLEST}", "s", less, "gigabpe", by_threads[threads], Target(1.5, 3)))
    ours = runs["tokenmill, unsplit"]
    what = f"merge loop to {UNSPLIT_VOCAB_SIZE:,} tokens, {ours[0]['text_bytes'] / 1e6:.1f} MB, documents not split at all"
    rows.append(Row(what, "s", _seconds(ours), note="for the record: no peer ends in reasonable time"))
    return Outcome(rows, checked)


def partitioned(corpus: Corpus, repeats: int) -> Outcome:
    """The merge loop over partitions in threads beside that of one process: what rounds and messages cost."""
    work = {"file": corpus.lines(), "vocab_size": VOCAB_SIZES[0]}
    sides = {"one process": Probe("ours.merge", 1, work)}
    for partitions in (1, 2, 4):
        sides[str(partitions)] = Probe("ours.merge_partitioned", min(partitions, CORES), work | {"partitions": partitions})
    runs = alternate(sides, repeats)
    what = f"merge loop to {VOCAB_SIZES[0]:,} tokens"
    rows = []
    for partitions in (1, 2, 4):
        side = runs[str(partitions)]
        facts = side[0]
        note = (
            f"cores: {min(partitions, CORES)}; target: at most 1.5 × the time; {facts['rounds']:,} rounds, "
            f"{facts['merges'] / facts['rounds']:.0f} merges a round, {facts['taken_back']:,} proposed merges taken back; "
            f"messages: {facts['bytes_sent'] / 1e6:.1f} MB there, {facts['bytes_received'] / 1e6:.1f} MB back"
        )
        what_of = f"{what}, partitions: {partitions}"
        rows.append(Row(what_of, "s", _seconds(side), "one process", _seconds(runs["one process"]), Target(0.67, 1), note))
    return Outcome(rows, [_agree_on_merges(f"{what}, one process and 1, 2 and 4 partitions", *runs.values())])


def memory(corpus: Corpus, repeats: int) -> Outcome:
    """Counting and merging 50 million distinct words, which are made for it: what it takes, and that each count is right."""
    num_words = 50_000_000
    runs = alternate({"ours": Probe("distinct.count_distinct", CORES, {"num_words": num_words})}, 1)["ours"]
    if wrong := runs[0]["wrong"]:
        sys.exit(f"{wrong:,} of {num_words:,} words have a wrong count")
    what = f"count and merge {num_words:,} distinct words"
    note = f"two tasks at a time, task_memory_bytes 1 GiB; before the work began: {runs[0]['before_bytes'] / 1e6:.0f} MB"
    limit = Target(1, 0.5)
    return Outcome(
        [
            Row(f"peak memory: {what}", "MB", _megabytes(runs, "peak_bytes"), "4 GiB", [4 * 1024**3 / 1e6], limit, note),
            Row(what, "s", _seconds(runs), note=f"100 million words in 800 MB of text, {runs[0]['shards']} shards; once"),
        ],
        [f"{what}: every one of the counts is right"],
    )


def count(corpus: Corpus, repeats: int) -> Outcome:
    """Splitting by GPT-2's regex and counting words, on one core."""
    sides = {
        "tokenmill": Probe("ours.count", 1, {"file": corpus.arrow}),
        "gigatoken": Probe("peers.gigatoken_count", 1, {"file": corpus.arrow}),
        "tokenmill, lines": Probe("ours.count", 1, {"file": corpus.lines(), "train_to": SMALLEST - 1}),
        "gigabpe": Probe("peers.gigabpe_train", 1, {"file": corpus.lines(), "vocab_size": SMALLEST}),
        "tokenmill, split": Probe("ours.split", 1, {"file": corpus.arrow}),
    }
    runs = alternate(sides, repeats)
    for run in runs["gigabpe"]:
        run["text_bytes"] = runs["tokenmill, lines"][0]["text_bytes"]
    same = _agree("split + count", "distinct_words", runs["tokenmill"], runs["gigatoken"])
    target, rates = Target(1.5, 3), {side: _rates(side_runs) for side, side_runs in runs.items()}
    phase = "documents in memory; theirs: the first phase of its trainer, as it reports it"
    total = f"from the file; both train to {SMALLEST} tokens, where gigabpe stops at the earliest, and gigabpe writes them"
    rows = [
        Row("split + count", "MB/s", rates["tokenmill"], "gigatoken", rates["gigatoken"], target, phase),
        Row("split + count", "MB/s", rates["tokenmill, lines"], "gigabpe", rates["gigabpe"], target, total),
        Row("split alone", "MB/s", rates["tokenmill, split"], note="for the record; no peer has a call for it"),
    ]
    checked = [
        f"{same}: {runs['tokenmill'][0]['distinct_words']:,} distinct words on both sides (gigatoken tells no more)",
        _agree_on_merges(f"split + count, training to {SMALLEST} tokens", runs["tokenmill, lines"], runs["gigabpe"]),
    ]
    return Outcome(rows, checked)


def _make_tokenizer(corpus: Corpus, name: str, patterns: tuple[str, ...], vocab_size: int) -> str:
    output = str(corpus.folder / f"{name}.json")
    run_probe(
        Probe(
            "ours.make_tokenizer",
            CORES,
            {"file": corpus.arrow, "patterns": patterns, "vocab_size": vocab_size, "output": output},
        )
    )
    return output


def _slice_bytes(corpus: Corpus) -> int:
    return int(corpus.facts["text_bytes"] / 10)


def encode(corpus: Corpus, repeats: int) -> Outcome:
    """Text to ids on one core."""
    rows, checked = [], []
    for vocab_size in VOCAB_SIZES:
        tokenizer = _make_tokenizer(corpus, f"gpt2-{vocab_size}", (GPT2_REGEX,), vocab_size)
        whole = {"tokenizer": tokenizer, "file": corpus.arrow}
        part = whole | {"max_bytes": _slice_bytes(corpus)}
        sides = {
            "tokenmill": Probe("ours.encode", 1, whole),
            "gigatoken": Probe("peers.gigatoken_encode", 1, whole),
            "tokenmill, slice": Probe("ours.encode", 1, part),
            "tokenizers": Probe("peers.tokenizers_encode", 1, part),
            "tiktoken": Probe("peers.tiktoken_encode", 1, part),
        }
        runs = alternate(sides, repeats)
        what = f"encode, {vocab_size:,} tokens"
        same = _agree(f"{what}, gigatoken", "ids_sha256", runs["tokenmill"], runs["gigatoken"])
        checked.append(f"{same}: {runs['tokenmill'][0]['num_ids']:,} ids identical")
        on_slice = [runs[side] for side in ("tokenmill, slice", "tokenizers", "tiktoken")]
        same = _agree(f"{what}, tokenizers and tiktoken", "ids_sha256", *on_slice)
        checked.append(f"{same}: {on_slice[0][0]['num_ids']:,} ids identical")
        for state, key, target in (
            ("cold", "seconds", Target(0.8, 1.2)),
            ("warm", "warm_seconds", Target(0.6, 1)),
        ):
            ours, theirs = _rates(runs["tokenmill"], key), _rates(runs["gigatoken"], key)
            note = "first call" if state == "cold" else "second call, same text"
            rows.append(Row(f"{what}, {state} cache", "MB/s", ours, "gigatoken", theirs, target, note))
        note = f"first call, the first {on_slice[0][0]['text_bytes'] / 1e6:.1f} MB"
        ours = _rates(on_slice[0])
        rows.append(Row(what, "MB/s", ours, "tokenizers", _rates(runs["tokenizers"]), Target(20, 60), note))
        rows.append(Row(what, "MB/s", ours, "tiktoken", _rates(runs["tiktoken"]), Target(8, 20), note))
    return Outcome(rows, checked)


def regex(corpus: Corpus, repeats: int) -> Outcome:
    """Regexes that gigabpe and gigatoken do not have, on one core."""
    rows, checked = [], []
    part = {"file": corpus.arrow, "max_bytes": _slice_bytes(corpus)}
    for number, (name, patterns) in enumerate(REGEXES.items()):
        tokenizer = _make_tokenizer(corpus, f"regex-{number}", patterns, VOCAB_SIZES[0])
        counting = part | {"patterns": patterns, "train_to": SMALLEST}
        encoding = part | {"tokenizer": tokenizer}
        sides = {
            "tokenmill, count": Probe("ours.count", 1, counting),
            "tokenizers, count": Probe("peers.tokenizers_count", 1, counting),
            "tokenmill, encode": Probe("ours.encode", 1, encoding),
            "tokenizers, encode": Probe("peers.tokenizers_encode", 1, encoding),
        }
        runs = alternate(sides, repeats)
        same = _agree(f"{name}", "ids_sha256", runs["tokenmill, encode"], runs["tokenizers, encode"])
        checked.append(f"{same}: {runs['tokenmill, encode'][0]['num_ids']:,} ids identical")
        counts = runs["tokenmill, count"], runs["tokenizers, count"]
        checked.append(_agree_on_merges(f"{name}, training to {SMALLEST} tokens", *counts))
        megabytes = f"the first {runs['tokenmill, count'][0]['text_bytes'] / 1e6:.1f} MB"
        fallback = "; OUTSIDE OUR SUBSET, split by `tokenizers`" if Pretokenizer(patterns).messages else ""
        compiled = f"compiling the regex, before the clock, {runs['tokenmill, count'][0]['compile_seconds']:.2f} s"
        for work, note in (("count", f"both train to {SMALLEST} tokens; {compiled}"), ("encode", "first call")):
            label = f"{'split + count' if work == 'count' else work}, {name}"
            ours, theirs = _rates(runs[f"tokenmill, {work}"]), _rates(runs[f"tokenizers, {work}"])
            note = f"{megabytes}; {note}{fallback}"
            rows.append(Row(label, "MB/s", ours, "tokenizers", theirs, Target(15, 40), note))
    return Outcome(rows, checked)


def scaling(corpus: Corpus, repeats: int) -> Outcome:
    """How the cost of whole training grows with the corpus and with the vocabulary."""
    repeats = min(repeats, 3)
    points, checked = [], []
    cases = [("corpus", percent, VOCAB_SIZES[0]) for percent in PERCENTS]
    cases += [("vocabulary", 100, vocab_size) for vocab_size in CURVE_VOCAB_SIZES]
    for axis, percent, vocab_size in cases:
        work = {"file": corpus.lines(percent), "vocab_size": vocab_size}
        sides = {
            "tokenmill": Probe("ours.train", CORES, work),
            "gigabpe": Probe("peers.gigabpe_train", CORES, work),
        }
        runs = alternate(sides, repeats)
        megabytes = corpus.facts["line_bytes"] * percent / 1e8
        checked.append(_agree_on_merges(f"{megabytes:.1f} MB, {vocab_size:,} tokens", *runs.values()))
        point = {"axis": axis, "megabytes": megabytes, "vocab_size": vocab_size}
        point["distinct_words"] = runs["tokenmill"][0]["distinct_words"]
        for side, side_runs in runs.items():
            point[side] = {"seconds": _seconds(side_runs), "peak_megabytes": _megabytes(side_runs)}
        points.append(point)
    rows = []
    for point in points:
        what = f"whole training, {point['megabytes']:.1f} MB, {point['vocab_size']:,} tokens"
        ours, theirs = point["tokenmill"], point["gigabpe"]
        note = f"{point['distinct_words']:,} distinct words"
        rows.append(Row(what, "s", ours["seconds"], "gigabpe", theirs["seconds"], note=note))
        memory = ours["peak_megabytes"], theirs["peak_megabytes"]
        rows.append(Row(f"{what}: peak memory", "MB", memory[0], "gigabpe", memory[1]))
    return Outcome(rows, checked, points)


def cold_start(corpus: Corpus, repeats: int) -> Outcome:
    """The start of a machine that has never run a kernel, and of every process after it."""
    runs = alternate({"tokenmill": Probe("ours.cold_start", 1)}, min(repeats, 3))["tokenmill"]
    note = f"`python -m pipeline.jobs.warm`: Python's start and a tiny job; {runs[0]['cache_bytes'] / 1e6:.1f} MB of cache"
    rows = [
        Row("compile every kernel, empty cache", "s", _seconds(runs), note=note),
        Row("load every kernel, full cache", "s", _seconds(runs, "load_seconds"), note="the same command again"),
    ]
    return Outcome(rows)


def whole_job(corpus: Corpus, repeats: int) -> Outcome:
    """Everything from documents to packed shards, beside training and encoding alone."""
    work = {"vocab_size": VOCAB_SIZES[0]}
    sides = {
        "auto": Probe("ours.whole_job_command", CORES, work | {"file": corpus.jsonl, "address": "auto"}),
        "local": Probe("ours.whole_job_command", CORES, work | {"file": corpus.jsonl, "address": "local"}),
        "tokenizers": Probe("peers.tokenizers_whole_job", CORES, work | {"file": corpus.arrow}),
    }
    runs = alternate(sides, min(repeats, 3))
    rows = []
    for address in ("auto", "local"):
        what = f"`tokenmill run` with packing, `address: {address}`"
        rows.append(
            Row(what, "s", _seconds(runs[address]), "tokenizers", _seconds(runs["tokenizers"]), note=_steps(runs[address]))
        )
    return Outcome(rows)


OVERHEAD_COPIES = 5
RESUMED_SHARDS = 10_000
RESUME_SECONDS = 5.0


def overhead(corpus: Corpus, repeats: int) -> Outcome:
    """Ray, receipts, publishing and report beside the bare stages in two processes with plain files.

    The text is five copies of the corpus, so that it has no more distinct words than one.
    """
    repeats = min(repeats, 3)
    work = {"file": corpus.jsonl, "copies": OVERHEAD_COPIES, "vocab_size": VOCAB_SIZES[0]}
    sides = {side: Probe("jobs.whole", CORES, work | {"side": side}) for side in ("bare", "local", "auto", "again")}
    runs = alternate(sides, repeats)
    what = f"count, merge, train, encode and pack {OVERHEAD_COPIES * corpus.facts['text_bytes'] / 1e9:.1f} GB"
    rows = []
    names = {"local": "`address: local`", "auto": "`address: auto`", "again": "the same, workers that have worked before"}
    for side, name in names.items():
        note = f"target: at most 1.15 × the time; {_steps(runs[side])}; bare: {_steps(runs['bare'])}"
        if side == "auto":
            around = [statistics.median(_seconds(runs[side], f"{when}_seconds")) for when in ("start", "stop")]
            note += f"; beside it, Ray's start {around[0]:.1f} s and stop {around[1]:.1f} s"
        target = Target(1 / 1.15, 1)
        rows.append(Row(f"{what}, {name}", "s", _seconds(runs[side]), "bare", _seconds(runs["bare"]), target, note))
    same = _agree(what, "packed_sha256", *runs.values())
    return Outcome(rows, [f"{same}: {runs['bare'][0]['sequences']:,} packed sequences identical on all sides"])


def resume(corpus: Corpus, repeats: int) -> Outcome:
    """A job of 10,000 shards that is done to the last task, run again; in a fresh process, from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        made = run_probe(Probe("jobs.make_shards", CORES, {"folder": folder, "num_shards": RESUMED_SHARDS}))
        work = {"spec": made["spec"]}
        sides = {
            "closes": Probe("jobs.resume", CORES, work | {"finished": False}),
            "nothing": Probe("jobs.resume", CORES, work | {"finished": True}),
            "parts": Probe("jobs.resume_parts", CORES, work),
        }
        runs = alternate(sides, repeats)
    facts = runs["parts"][0]
    aim = [RESUME_SECONDS] * repeats
    done = f"{facts['shards']:,} shards done"
    split = f"in one process, after its imports: {_steps(runs['parts'])}"
    note = f"{facts['receipts']:,} receipts are read and {made['seconds']:.0f} s of work found done; {split}"
    rows = [
        Row(f"resume, {done}, not closed", "s", _seconds(runs["closes"]), "the aim", aim, Target(1), note),
        Row(f"run again, {done} and closed", "s", _seconds(runs["nothing"]), "the aim", aim, Target(1)),
    ]
    return Outcome(rows)


GROUPS: dict[str, Callable[[Corpus, int], Outcome]] = {
    "training": training,
    "command": command,
    "merge": merge,
    "partitioned": partitioned,
    "count": count,
    "memory": memory,
    "encode": encode,
    "regex": regex,
    "scaling": scaling,
    "cold_start": cold_start,
    "whole_job": whole_job,
    "overhead": overhead,
    "resume": resume,
}
"""In the order of the README."""
