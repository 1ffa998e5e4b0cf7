"""Predictions for jobs of terabytes, and the tables of ``docs/scaling.md``, from what ``benchmarks.scale`` has measured."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import table
from benchmarks.scale_model import (
    INSTANCES,
    PRICES_OF,
    SPOT_SHARE,
    Prediction,
    Rates,
    Step,
    Work,
    lay_out,
    predict,
    resume_requests,
)

MIXED = "mixed"
NODES = (16, 64, 256)
WORKS = {"1 TB": Work(1e12, 100_000), "15 TB": Work(15e12, 100_000)}
"""15 TB in files of 150 MB; in files of 10 MB the driver would have 1.5 million of them to keep."""

RENTED = (
    ("100 GB", Work(1e11, 10_000), 2, "c6id.8xlarge"),
    ("1 TB", WORKS["1 TB"], 16, "c6id.8xlarge"),
    ("1 TB, `shard_bytes` 512 MiB", Work(1e12, 100_000, shard_bytes=512 << 20), 16, "m6id.8xlarge"),
    ("15 TB", WORKS["15 TB"], 64, "c6id.8xlarge"),
    ("15 TB, `shard_bytes` 2 GiB", Work(15e12, 100_000, shard_bytes=2 << 30), 64, "r6id.8xlarge"),
)
"""What the short table shows: a number of nodes that ends in hours, and what larger shards change."""

Rows = list[list[str]]


def laws(rates: Rates, num_bytes: float) -> dict[str, str]:
    """Which kind of text has the fewest and which the most distinct words in so much of it; and the mixture."""
    by_words = sorted(rates.growth, key=lambda name: rates.growth[name].words(num_bytes))
    return {"low": by_words[0], "mixed": MIXED, "high": by_words[-1]}


def predictions(rates: Rates, instance: str) -> list[dict[str, Any]]:
    """Every job on every number of nodes, with the words of the mixture, with the fewest and with the most."""
    found = []
    for work_name, work in WORKS.items():
        for nodes in NODES:
            for label, growth in laws(rates, work.text_bytes).items():
                prediction = predict(work, rates, INSTANCES[instance], nodes, growth)
                found.append({"work": work_name, "nodes": nodes, "words_as": label, "growth": growth, "is": prediction})
    return found


def tables(result: dict[str, Any], instance: str) -> str:
    """What is measured and what follows, as Markdown."""
    rates = Rates.from_dict(result["rates"])
    found = predictions(rates, instance)
    mixed = {(row["work"], row["nodes"]): row["is"] for row in found if row["words_as"] == "mixed"}
    prices = f"Prices: {PRICES_OF}. Spot: {SPOT_SHARE:.0%} of them, an assumption."
    return "\n".join(
        [
            _measured(result, rates),
            _sizes(rates),
            _words(result, rates),
            _listing(result),
            f"### Time and dollars on `{instance}`\n\n{prices}\n\n{_times(rates, mixed, instance)}",
            f"### Objects, requests, driver\n\n{_objects(mixed)}",
            f"### Training\n\n{_training(found)}",
            f"### Memory, cores and network of a step on {NODES[0]} nodes\n\n{_steps(mixed)}",
        ]
    )


def sizing(result: dict[str, Any]) -> str:
    """What to rent, in short."""
    rates = Rates.from_dict(result["rates"])
    rows: Rows = []
    for name, work, nodes, instance in RENTED:
        found = predict(work, rates, INSTANCES[instance], nodes, MIXED)
        slow = predict(work, rates, INSTANCES[instance], nodes, MIXED, one_prefix=True)
        high = predict(work, rates, INSTANCES[instance], nodes, laws(rates, work.text_bytes)["high"])
        time = [_time(found.seconds), _time(slow.seconds)]
        dollars = [_dollars(each) for each in (found, slow)]
        training = [f"{_gb(_training_of(each).memory_bytes)} ({each.train_workers})" for each in (found, high)]
        rows.append([name, f"{nodes} × `{instance}`", *time, *dollars, *training, _gb(found.driver_bytes)])
    header = ["text", "nodes", "time, S3 as fast as asked", "S3 as for one prefix", "dollars (spot)", "S3 as for one prefix"]
    return table([*header, "memory of training (workers)", "with the most words", "memory of the driver"], rows)


def _training_of(found: Prediction) -> Step:
    return next(step for step in found.steps if step.name == "train")


def _dollars(found: Prediction) -> str:
    """Machines and requests together."""
    requests = found.dollars["requests"]
    return f"{found.dollars['machines'] + requests:,.0f} $ ({found.dollars['spot'] + requests:,.0f} $)"


# --- measured ---------------------------------------------------------------------------------------------------------


def _measured(result: dict[str, Any], rates: Rates) -> str:
    machine, text = result["machine"], result["corpus"]["text_bytes"]
    rows: Rows = []
    for step, per_byte in rates.seconds_per_byte.items():
        of = {"merge": "word counts", "evaluate": "held-out text"}.get(step, "text")
        line = rates.task_memory.get(step)
        by = "distinct word" if step == "merge" else "byte of text"
        memory = f"{line.base / 1e6:.0f} MB + {line.slope:.2f} B a {by}" if line else "as encode, assumed"
        rows.append([step, f"{1 / per_byte / 1e6:,.1f} MB/s of {of}", memory])
    line = rates.task_memory["train"]
    train = f"{rates.train.base:.1f} s + {rates.train.slope * 1e6:.2f} s a million distinct words"
    rows.append(["train", train, f"{line.base / 1e6:.0f} MB + {line.slope:.0f} B a distinct word"])
    measured = table(["step", "one vCPU, the other of its core busy", "peak memory of a task, program included"], rows)
    return (
        f"### What was measured\n\n{result['date']}; {machine['processor']}, {machine['cores']} hyperthreads of one core, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB; {text / 1e6:.0f} MB of mixed text, 32,768 tokens, `gpt4o`.\n\n"
        f"{measured}"
    )


def _sizes(rates: Rates) -> str:
    spelling = f"{rates.word_bytes:.1f} B of them its spelling"
    rows = [
        ["word counts of a shard", f"{rates.count_bytes_per_word:.1f} B a distinct word of the shard"],
        ["merged words", f"{rates.merged_bytes_per_word:.1f} B a distinct word, {spelling}"],
        ["encoded documents", f"{rates.encoded_per_byte:.3f} B a byte of text"],
        ["packed shards", f"{rates.packed_per_byte:.3f} B a byte of text"],
        ["receipt", f"{rates.receipt_bytes:.0f} B"],
        ["an S3 request", f"{rates.request * 1e3:.2f} ms of a vCPU in the client"],
        ["a byte from S3, to S3", f"{1 / rates.read / 1e6:,.0f} MB/s, {1 / rates.written / 1e6:,.0f} MB/s of a vCPU"],
        ["a task through Ray", f"{rates.dispatch * 1e3:.2f} ms"],
    ]
    return table(["what", "size or time"], rows)


def _words(result: dict[str, Any], rates: Rates) -> str:
    rows: Rows = []
    for name, law in rates.growth.items():
        seen = result["seen"]["growth"][name]
        num_bytes, words = seen["points"][-1]
        row = [name, f"{num_bytes / 1e6:.0f} MB", f"{words:,}", f"{seen['once']:.0%}"]
        row += [f"{law.factor:.2f} · n^{law.exponent:.3f}", f"{law.residual:.1%}"]
        rows.append(row + [f"{law.words(n) / 1e6:,.0f} M" for n in (1e12, 15e12)])
    header = ["text", "measured up to", "distinct words", "of them once", "law", "greatest residual"]
    return "### Distinct words\n\n" + table([*header, "1 TB (extrapolated)", "15 TB (extrapolated)"], rows)


def _listing(result: dict[str, Any]) -> str:
    found = result["seen"]["listing"]["files"]
    facts, window = found["check_plan"], found["window"]
    labels = {
        "plan": "`tokenmill plan`: list, cut, persist",
        "plan_again": "the same again: the same fingerprint",
        "check_plan": "every file in one shard, sizes add up",
        "drive": "the driver with the receipts of all tasks",
        "window": f"all {window['tasks']:,} tasks of `count` through Ray, {window['most_in_flight']} in flight at most",
    }
    rows = [
        [label, f"{found[step]['seconds'] + found[step].get('plan_seconds', 0):.1f} s", _mb(found[step]["peak_rss_bytes"])]
        for step, label in labels.items()
    ]
    return (
        f"### A listing of {facts['files']:,} files\n\n{_gb(facts['text_bytes'])} in sparse files, {facts['shards']:,} "
        f"shards; plan.json has {_mb(found['plan']['plan_bytes'])}. The program alone takes "
        f"{_mb(found['plan']['rss_before_bytes'])} of each figure.\n\n{table(['what', 'time', 'peak memory'], rows)}"
    )


# --- predicted --------------------------------------------------------------------------------------------------------


def _times(rates: Rates, mixed: dict[tuple[str, int], Prediction], instance: str) -> str:
    rows: Rows = []
    for (work, nodes), found in mixed.items():
        times = [_time(step.seconds) for step in found.steps]
        machines = f"{found.dollars['machines']:,.0f} $ ({found.dollars['spot']:,.0f} $)"
        others = [f"{found.dollars[kind]:,.2f} $" for kind in ("requests", "storage")]
        slow = predict(WORKS[work], rates, INSTANCES[instance], nodes, MIXED, one_prefix=True)
        rows.append([work, str(nodes), *times, f"**{_time(found.seconds)}**", _time(slow.seconds), machines, *others])
    steps = [step.name for step in next(iter(mixed.values())).steps]
    header = ["text", "nodes", *steps, "in all", "if S3 keeps to one prefix", "machines (spot)", "requests"]
    return table([*header, "`_work` meanwhile"], rows)


def _objects(mixed: dict[tuple[str, int], Prediction]) -> str:
    rows: Rows = []
    for name, work in WORKS.items():
        layout, found = lay_out(work), mixed[name, NODES[0]]
        counts = [work.num_files, layout.shards, layout.partitions, sum(layout.buckets.values()), found.objects]
        asked = [f"{found.requests[kind] / 1e6:,.2f} M" for kind in ("GET", "PUT", "HEAD", "LIST")]
        sizes = [_gb(found.work_bytes), _gb(found.packed_bytes), _gb(found.driver_bytes)]
        rows.append([name, *(f"{count:,}" for count in counts), *asked, *sizes, f"{resume_requests(layout).total():,}"])
    header = ["text", "files", "shards", "partitions", "buckets", "objects", "GET", "PUT", "HEAD", "LIST"]
    return table([*header, "`_work`", "packed", "driver's memory", "requests of a resume"], rows)


def _training(found: list[dict[str, Any]]) -> str:
    rows: Rows = []
    for row in found:
        if row["nodes"] == NODES[0]:
            step = _training_of(row["is"])
            words = [f"{row['words_as']} ({row['growth']})", f"{row['is'].words / 1e6:,.0f} M"]
            rows.append([row["work"], *words, _gb(step.memory_bytes), f"{row['is'].train_workers}", _time(step.seconds)])
    header = ["text", "words as in", "distinct words", "memory, all workers", "`train_workers`", "time, one process"]
    return table(header, rows)


def _steps(mixed: dict[tuple[str, int], Prediction]) -> str:
    rows: Rows = []
    for name in WORKS:
        for step in mixed[name, NODES[0]].steps:
            if step.name != "train":
                rate = step.moved_bytes / step.seconds / NODES[0] * 8 / 1e9
                row = [name, step.name, f"{step.tasks:,}", _gb(step.memory_bytes), f"{step.slots // NODES[0]}"]
                rows.append(
                    [
                        *row,
                        f"{step.core_seconds / 3600:,.1f} h",
                        f"{rate:.1f} Gbit/s",
                        f"{step.reads / step.seconds:,.0f}",
                        step.limit,
                    ]
                )
    header = ["text", "step", "tasks", "memory of a task", "tasks a node", "vCPU time", "network a node", "GET a second"]
    header.append("limit")
    return table(header, rows)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _mb(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:.0f} MB"


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:,.2f} GB" if num_bytes < 1e12 else f"{num_bytes / 1e12:,.2f} TB"
