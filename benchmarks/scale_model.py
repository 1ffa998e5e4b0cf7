"""What a job costs on a cluster, from measured rates: time, memory, objects, S3 requests, dollars. Pure functions.

The sizes (shards, partitions, buckets) come from the functions that the pipeline itself plans with. Requests are counted as
the code makes them; ``tests/test_scale_model.py`` compares them with those that an S3 server saw of a real job.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pipeline.jobs.plan import _num_partitions
from pipeline.jobs.schedule import EVALUATE_SHARDS, PLAIN_STEPS
from pipeline.jobs.training import SYMBOLS_PER_WORKER
from pipeline.stages.shard import usual_shard_bytes
from pipeline.stages.shuffle import num_buckets

PRICES_OF = "2026-11, us-east-1, on-demand list prices as known, not looked up by this program"
SPOT_SHARE = 0.4
"""Of the price on demand: an assumption. Spot prices change by the hour and by the zone."""

HEAD_DOLLARS = 0.2016
"""An hour of the head of ``cluster.yaml``, an m7i.xlarge, always on demand."""

DOLLARS_PER_1000 = {"PUT": 0.005, "LIST": 0.005, "GET": 0.0004, "HEAD": 0.0004}
"""S3 Standard. A multipart upload's beginning, each part and its end are requests of the price of a PUT."""

DOLLARS_PER_GB_MONTH = 0.023
_HOURS_PER_MONTH = 730

PREFIX_RATES = {"GET": 5500, "HEAD": 5500, "PUT": 3500, "LIST": 3500}
"""Requests a second that S3 promises for one prefix. It divides prefixes under load, by itself, in minutes to hours."""

_BLOCK_BYTES = 50 << 20
"""s3fs reads ahead and uploads in pieces of this size."""

_USABLE = 0.85
"""Of a node's memory: the rest is for the system, Ray's own processes and its object store."""


@dataclass(frozen=True)
class Instance:
    """``network``: bytes a second that it keeps up, by its data sheet. ``dollars``: an hour, on demand."""

    name: str
    vcpus: int
    memory_bytes: int
    network: float
    dollars: float


INSTANCES = {
    instance.name: instance
    for instance in (
        Instance("c6id.8xlarge", 32, 64 << 30, 12.5e9 / 8, 1.6128),
        Instance("m6id.8xlarge", 32, 128 << 30, 12.5e9 / 8, 1.8984),
        Instance("r6id.8xlarge", 32, 256 << 30, 12.5e9 / 8, 2.4192),
    )
}


@dataclass(frozen=True)
class Growth:
    """Heaps' law: distinct words in ``n`` bytes of text are ``factor * n ** exponent``; ``residual``: the greatest relative
    difference from a measured point.
    """

    factor: float
    exponent: float
    residual: float = 0.0

    def words(self, num_bytes: float) -> float:
        """Distinct words in so much text."""
        return float(self.factor * num_bytes**self.exponent)


def fit_growth(points: list[tuple[float, float]]) -> Growth:
    """Least squares through the logarithms of (bytes, words).

    Examples
    --------
    100 words in 10,000 bytes and 200 in 40,000: factor 1, exponent 0.5.
    """
    xs, ys = ([math.log(value) for value in axis] for axis in zip(*points, strict=True))
    line = fit_line(list(zip(xs, ys, strict=True)))
    factor = math.exp(line.base)
    residual = max(abs(factor * n**line.slope / words - 1) for n, words in points)
    return Growth(factor, line.slope, residual)


@dataclass(frozen=True)
class Line:
    """``base + slope * x``."""

    base: float
    slope: float

    def at(self, x: float) -> float:
        """The value at ``x``."""
        return self.base + self.slope * x


def fit_line(points: list[tuple[float, float]]) -> Line:
    """Least squares."""
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    return Line(mean_y - slope * mean_x, slope)


@dataclass(frozen=True)
class Rates:
    """What was measured. Seconds are those of one vCPU while the other one of its core works too.

    ``seconds_per_byte``: of each step's own measure: text (count, encode, pack, evaluate: held-out text), word counts
    (merge). ``train``: seconds by distinct words. ``request``, ``read``, ``written``: seconds of the client for a request of
    S3 and for a byte. ``task_memory``: bytes by text in the task (count, encode, pack), by distinct words (merge, train).
    ``driver_memory``: ``base`` and bytes for each file and shard. ``dispatch``: seconds of the driver for a task.
    """

    seconds_per_byte: dict[str, float]
    train: Line
    request: float
    read: float
    written: float
    count_bytes_per_word: float
    merged_bytes_per_word: float
    word_bytes: float
    encoded_per_byte: float
    packed_per_byte: float
    receipt_bytes: float
    task_memory: dict[str, Line]
    driver_memory: dict[str, float]
    dispatch: float
    plan_per_file: float
    growth: dict[str, Growth]

    @staticmethod
    def from_dict(stored: dict[str, Any]) -> Rates:
        """From the JSON file."""
        lines = {name: Line(**line) for name, line in stored["task_memory"].items()}
        growth = {name: Growth(**fit) for name, fit in stored["growth"].items()}
        return Rates(**stored | {"train": Line(**stored["train"]), "task_memory": lines, "growth": growth})


@dataclass(frozen=True)
class Work:
    """Plain jsonl files of one size and one source, one tokenizer, packed with a shuffle."""

    text_bytes: float
    num_files: int
    held_out: float = 0.01
    shard_bytes: int | None = None


@dataclass(frozen=True)
class Layout:
    """How many of everything there are. ``ranges``: files, or pieces of them, in all shards."""

    shards: int
    ranges: int
    partitions: int
    buckets: dict[str, int]

    @property
    def tasks(self) -> dict[str, int]:
        """Of each step."""
        return {
            "count": self.shards,
            "merge": self.partitions,
            "train": 1,
            "evaluate": -(-self.shards // EVALUATE_SHARDS) if "holdout" in self.buckets else 0,
            "encode": self.shards,
            "pack": sum(self.buckets.values()),
        }


def lay_out(work: Work) -> Layout:
    """As ``plan_shards``, ``_num_partitions`` and ``num_buckets`` do."""
    total = int(work.text_bytes)
    shard_bytes = work.shard_bytes or usual_shard_bytes(total)
    file_bytes = total / work.num_files
    if file_bytes > shard_bytes:
        shards = ranges = work.num_files * math.ceil(file_bytes / shard_bytes)
    else:
        shards, ranges = math.ceil(work.num_files / (shard_bytes // file_bytes)), work.num_files
    held_out = int(total * work.held_out)
    buckets = {"train": num_buckets(total - held_out)} | ({"holdout": num_buckets(held_out)} if held_out else {})
    return Layout(shards, ranges, _num_partitions(total), buckets)


def outputs(layout: Layout) -> dict[str, int]:
    """Files that the tasks of each step publish, without their receipts."""
    tasks, splits = layout.tasks, len(layout.buckets)
    return {
        "count": 3 * tasks["count"],  # words, their index, held-out documents
        "merge": tasks["merge"],
        "train": 4,
        "evaluate": tasks["evaluate"],
        "encode": 2 * 2 * tasks["encode"],  # ids and their index, for both splits
        "pack": tasks["pack"],
        "end": 3 * splits + 2 + 1 + 2,  # data-set descriptions, reports, plan, manifest and _SUCCESS
    }


def num_objects(layout: Layout) -> int:
    """All objects of a finished run, receipts included."""
    return sum(outputs(layout).values()) + sum(layout.tasks.values())


def _pieces(num_bytes: float) -> int:
    """In how many pieces s3fs reads or uploads so much."""
    return max(1, math.ceil(num_bytes / _BLOCK_BYTES))


def requests(layout: Layout, sizes: dict[str, float], processes: int = 1) -> dict[str, Counter[str]]:
    """S3 requests of each step, by kind; without the lease's, which are four each five seconds.

    Parameters
    ----------
    layout
        How many of everything there are.
    sizes
        Bytes of a ``range``, and of what a task publishes: ``count``, ``merge``, ``encode``, ``pack``.
    processes
        Workers: each reads a tokenizer once.
    """
    tasks = layout.tasks
    reading = Counter(HEAD=3 * layout.ranges, GET=layout.ranges * _pieces(sizes["range"]))
    reading["GET"] += max(0, layout.shards - layout.ranges)
    two_of_each = 2 * layout.shards
    made: dict[str, Counter[str]] = {
        "count": reading + Counter(PUT=layout.shards * (3 + 2 + _pieces(sizes["count"]) + 1)),
        "merge": Counter(GET=two_of_each * tasks["merge"], PUT=tasks["merge"] * (2 + _pieces(sizes["merge"]))),
        "train": Counter(HEAD=tasks["merge"], GET=tasks["merge"] * _pieces(sizes["merge"]), PUT=4),
        "evaluate": Counter(HEAD=layout.shards, GET=layout.shards, PUT=3 * tasks["evaluate"]),
        "encode": reading
        + Counter(PUT=layout.shards * (2 + _pieces(sizes["encode"]) + 3 + 2), HEAD=processes, GET=processes),
        "pack": Counter(GET=two_of_each * tasks["pack"], PUT=tasks["pack"] * (2 + _pieces(sizes["pack"]))),
    }
    for step in PLAIN_STEPS:  # a look for the receipt, and the receipt
        made[step] += Counter(HEAD=tasks[step], LIST=tasks[step], PUT=tasks[step])
    pages = math.ceil(layout.ranges / 1000)
    made["plan and end"] = Counter(
        LIST=pages + 12, HEAD=12 + tasks["evaluate"], GET=3 + tasks["evaluate"], PUT=outputs(layout)["end"] + 3
    )
    return made


def resume_requests(layout: Layout) -> Counter[str]:
    """Of a driver that finds every task done: it lists the output, reads the receipts, and closes the run."""
    receipts = sum(layout.tasks.values())
    return Counter(LIST=math.ceil(num_objects(layout) / 1000), HEAD=receipts, GET=receipts)


@dataclass(frozen=True)
class Step:
    """``core_seconds``: of all tasks together. ``seconds``: until the last has ended."""

    name: str
    tasks: int
    core_seconds: float
    slots: int
    memory_bytes: float
    moved_bytes: float
    reads: int
    seconds: float
    limit: str


@dataclass(frozen=True)
class Prediction:
    """Of a job on a cluster. ``work_bytes``: under ``_work``."""

    steps: tuple[Step, ...]
    words: float
    train_workers: int
    driver_bytes: float
    objects: int
    requests: Counter[str]
    work_bytes: float
    packed_bytes: float
    seconds: float
    dollars: dict[str, float]


def predict(
    work: Work, rates: Rates, instance: Instance, nodes: int, growth: str, *, one_prefix: bool = False
) -> Prediction:
    """The job with nothing failing, on nodes that are all there from the start. Steps come one after the other.

    ``one_prefix``: S3 answers no more requests than it promises for one prefix; else as many as are asked.
    """
    layout = lay_out(work)
    tasks = layout.tasks
    text, held_out = work.text_bytes, work.text_bytes * work.held_out
    shard_bytes, law = text / layout.shards, rates.growth[growth]
    words, shard_words = law.words(text), min(law.words(shard_bytes), shard_bytes)
    counted = layout.shards * shard_words * rates.count_bytes_per_word
    merged = words * rates.merged_bytes_per_word
    encoded, packed = text * rates.encoded_per_byte, text * rates.packed_per_byte
    bucket_bytes = (text - held_out) / layout.buckets["train"]
    sizes = {
        "range": text / layout.ranges,
        "count": counted / layout.shards,
        "merge": merged / layout.partitions,
        "encode": encoded / layout.shards,
        "pack": bucket_bytes * rates.packed_per_byte,
    }
    asked = requests(layout, sizes, nodes * instance.vcpus)
    moved = {  # bytes read, bytes written
        "count": (text, counted + held_out),
        "merge": (counted, merged),
        "train": (merged, 0.0),
        "evaluate": (held_out, 0.0),
        "encode": (text, encoded),
        "pack": (encoded, packed),
    }
    measure = {"count": text, "merge": counted, "evaluate": held_out, "encode": text, "pack": text}
    size_of = {"count": shard_bytes, "merge": words / layout.partitions, "train": words, "evaluate": shard_bytes}
    size_of |= {"encode": shard_bytes, "pack": bucket_bytes}
    steps = []
    for name in PLAIN_STEPS:
        own = rates.train.at(words) if name == "train" else measure[name] * rates.seconds_per_byte[name]
        read, written = moved[name]
        core_seconds = own + asked[name].total() * rates.request + read * rates.read + written * rates.written
        memory = rates.task_memory[name if name in rates.task_memory else "encode"].at(size_of[name])
        fitting = max(1, min(instance.vcpus, int(instance.memory_bytes * _USABLE / memory)))
        slots = 1 if name == "train" else nodes * fitting
        busy = math.ceil(tasks[name] / slots) * core_seconds / max(tasks[name], 1)
        network = (read + written) / (instance.network * (1 if name == "train" else nodes))
        dispatch = tasks[name] * rates.dispatch
        limits = {"cores": busy, "network": network, "driver": dispatch}
        if one_prefix:
            limits["store"] = sum(number / PREFIX_RATES[kind] for kind, number in asked[name].items())
        limit = max(limits, key=lambda key: limits[key])
        moved_bytes = read + written
        reads = asked[name]["GET"]
        steps.append(Step(name, tasks[name], core_seconds, slots, memory, moved_bytes, reads, limits[limit], limit))
    seconds = sum(step.seconds for step in steps) + work.num_files * rates.plan_per_file
    total = sum(asked.values(), Counter[str]())
    total += Counter(dict.fromkeys(("LIST", "HEAD", "GET", "PUT"), int(seconds / 5)))  # the lease
    work_bytes = counted + held_out + merged + encoded + sum(tasks.values()) * rates.receipt_bytes
    hours = seconds / 3600
    workers = hours * nodes * instance.dollars
    driver = rates.driver_memory
    return Prediction(
        steps=tuple(steps),
        words=words,
        train_workers=max(1, math.ceil(words * (rates.word_bytes + 1) / SYMBOLS_PER_WORKER)),
        driver_bytes=driver["base"] + driver["file"] * work.num_files + driver["shard"] * layout.shards,
        objects=num_objects(layout),
        requests=total,
        work_bytes=work_bytes,
        packed_bytes=packed,
        seconds=seconds,
        dollars={
            "machines": workers + hours * HEAD_DOLLARS,
            "spot": workers * SPOT_SHARE + hours * HEAD_DOLLARS,
            "requests": sum(number * DOLLARS_PER_1000[kind] / 1000 for kind, number in total.items()),
            "storage": work_bytes / 1e9 * DOLLARS_PER_GB_MONTH * hours / _HOURS_PER_MONTH,
        },
    )
