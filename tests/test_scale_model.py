"""The scale model: its arithmetic, and its requests beside those that a server saw of a real job."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.markdown import with_tables
from benchmarks.scale import DOCUMENT, blocks_of, read_result
from benchmarks.scale_model import (
    INSTANCES,
    Growth,
    Line,
    Rates,
    Work,
    fit_growth,
    fit_line,
    lay_out,
    num_objects,
    predict,
    requests,
)
from pipeline.jobs import plan as plans
from pipeline.jobs.load import parse_spec
from pipeline.jobs.plan import read_plan
from pipeline.jobs.progress import Progress
from pipeline.jobs.run import run_job
from pipeline.jobs.schedule import PLAIN_STEPS
from pipeline.stages import shuffle
from tests.corpus import documents
from tests.s3 import Bucket, Proxy, Seen

INSTANCE = INSTANCES["c6id.8xlarge"]
RATES = Rates(
    seconds_per_byte=dict.fromkeys(("count", "merge", "evaluate", "encode", "pack"), 5e-8),
    train=Line(1.0, 1e-6),
    request=1e-3,
    read=1e-9,
    written=4e-9,
    count_bytes_per_word=24.0,
    merged_bytes_per_word=24.0,
    word_bytes=9.0,
    encoded_per_byte=0.5,
    packed_per_byte=0.5,
    receipt_bytes=800.0,
    task_memory={step: Line(3e8, 1.0) for step in ("count", "merge", "train", "encode", "pack")},
    driver_memory={"base": 2e8, "file": 1e3, "shard": 1e4},
    dispatch=1e-4,
    plan_per_file=1e-5,
    growth={"some": Growth(10.0, 0.6), "more": Growth(10.0, 0.7)},
)
WORK = Work(text_bytes=1024 * 128 * 2**20, num_files=1024)


def test_fits_go_through_the_points() -> None:
    assert fit_line([(1, 5), (2, 7), (4, 11)]) == Line(pytest.approx(3), pytest.approx(2))
    growth = fit_growth([(10_000, 100), (40_000, 200), (90_000, 300)])
    assert (growth.factor, growth.exponent) == (pytest.approx(1), pytest.approx(0.5))
    assert growth.residual == pytest.approx(0, abs=1e-9)
    assert fit_growth([(10_000, 100), (40_000, 220), (90_000, 300)]).residual > 0.01


@pytest.mark.parametrize("fields", [(1e12, 100_000), (1e12, 700), (15e12, 1_500_000), (3e9, 40)])
def test_the_layout_is_that_of_the_plan(fields: tuple[float, int]) -> None:
    from pipeline.stages.shard import ListedFile, ReadOptions, plan_shards, usual_shard_bytes

    total, num_files = fields
    layout = lay_out(Work(total, num_files))
    files = [ListedFile(uri=f"{i}.jsonl", name=f"{i}", num_bytes=int(total) // num_files) for i in range(num_files)]
    shards = plan_shards([(files, ReadOptions(format="jsonl"))], usual_shard_bytes(int(total)))
    assert layout.shards == pytest.approx(len(shards), rel=0.01)
    assert layout.ranges == pytest.approx(sum(len(shard.parts) for shard in shards), rel=0.01)


def test_twice_the_nodes_take_half_the_time_where_tasks_divide() -> None:
    few, many = (predict(WORK, RATES, INSTANCE, nodes, "some") for nodes in (2, 4))
    for a, b in zip(few.steps, many.steps, strict=True):
        if a.name in ("count", "encode"):
            assert a.limit == b.limit == "cores"
            assert a.seconds == pytest.approx(2 * b.seconds, rel=0.01)
        if a.name == "train":
            assert a.seconds == b.seconds
        assert a.core_seconds == pytest.approx(b.core_seconds, rel=0.01)
    assert few.work_bytes == many.work_bytes
    assert few.objects == many.objects


def test_more_words_cost_more_and_more_text_too() -> None:
    some, more = (predict(WORK, RATES, INSTANCE, 4, growth) for growth in ("some", "more"))
    assert more.words > some.words
    assert more.seconds > some.seconds
    larger = predict(Work(2 * WORK.text_bytes, 2 * WORK.num_files), RATES, INSTANCE, 4, "some")
    for figure in ("seconds", "words", "driver_bytes", "objects", "work_bytes"):
        assert getattr(larger, figure) > getattr(some, figure)
    assert all(larger.dollars[kind] > some.dollars[kind] for kind in some.dollars)


def test_larger_shards_ask_less_and_take_more_memory() -> None:
    small, large = (
        predict(Work(WORK.text_bytes, WORK.num_files, shard_bytes=size << 20), RATES, INSTANCE, 4, "some")
        for size in (128, 512)
    )
    asked = [sum(prediction.requests.values()) for prediction in (small, large)]
    assert asked[0] > 2 * asked[1]
    memory = [{step.name: step.memory_bytes for step in prediction.steps} for prediction in (small, large)]
    assert memory[1]["encode"] > memory[0]["encode"]
    assert memory[1]["pack"] == memory[0]["pack"]


def test_tasks_that_need_more_memory_leave_cores_idle() -> None:
    modest, hungry = (
        predict(WORK, Rates(**vars(RATES) | {"task_memory": dict.fromkeys(RATES.task_memory, line)}), INSTANCE, 4, "some")
        for line in (Line(1e8, 0), Line(10e9, 0))
    )
    assert [step.slots for step in modest.steps if step.name != "train"] == [4 * 32] * 5
    assert [step.slots for step in hungry.steps if step.name != "train"] == [4 * 5] * 5
    assert hungry.seconds > modest.seconds


def test_the_document_has_the_tables_of_the_last_measurement() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document == with_tables(document, blocks_of(read_result(), "c6id.8xlarge"))


def test_a_store_that_answers_slowly_is_what_limits() -> None:
    free, bound = (predict(WORK, RATES, INSTANCE, 64, "some", one_prefix=bound) for bound in (False, True))
    limits = {step.name: step.limit for step in bound.steps}
    assert limits["pack"] == "store"
    assert "store" not in {step.limit for step in free.steps}
    pack = next(step for step in bound.steps if step.name == "pack")
    assert pack.seconds >= pack.reads / 5500


# --- beside a real job ------------------------------------------------------------------------------------------------

_KINDS = {"get": "GET", "head": "HEAD", "list": "LIST", "delete": "DELETE"}


class Marked(Progress):
    """Remembers how much a server had seen when each step began."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(io.StringIO())
        self.starts: list[tuple[str, int]] = []
        self._proxy = proxy

    def start(self, step: str, *others: Any) -> None:
        self.starts.append((step, len(self._proxy.seen)))
        super().start(step, *others)


def _kinds(seen: list[Seen]) -> Counter[str]:
    """Requests by kind, without those of the lease."""
    driver = "/_work/driver"
    asked = [s.request for s in seen if driver not in s.request.path and "driver" not in s.request.query]
    return Counter(_KINDS.get(request.operation, "PUT") for request in asked)


@pytest.mark.parametrize(
    ("num_files", "num_documents", "shard_bytes"),
    [(24, 960, 60_000), (6, 540, 20_000)],
    ids=["files share shards", "files are cut"],
)
def test_requests_and_objects_are_those_a_server_saw(
    bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, num_files: int, num_documents: int, shard_bytes: int
) -> None:
    monkeypatch.setattr(plans, "_PARTITION_BYTES", 100_000)
    monkeypatch.setattr(shuffle, "_SMALL_BUCKET", 100_000)
    num_bytes = 0
    for number in range(num_files):
        lines = [json.dumps({"text": text}) for text in documents(num_documents // num_files, seed=number)]
        content = "\n".join(lines).encode()
        num_bytes += len(content)
        bucket.put(f"corpus/part-{number:03d}.jsonl", content)
    spec = {
        "name": "requests",
        "output": f"{bucket.uri}/out",
        "sources": [{"name": "corpus", "uris": [f"{bucket.uri}/corpus/*.jsonl"]}],
        "holdout": {"fraction": 0.1},
        "tokenizers": [{"name": "bpe", "vocab_size": 400, "special_tokens": ["<|endoftext|>"]}],
        "pack": {"tokenizers": ["bpe"], "sequence_length": 128, "append": "<|endoftext|>"},
        "execution": {"address": "local", "shard_bytes": shard_bytes},
    }
    progress = Marked(proxy)
    run_job(parse_spec(spec), progress)

    layout = lay_out(Work(num_bytes, num_files, 0.1, shard_bytes))
    plan = read_plan(f"{bucket.uri}/out")
    assert layout.shards == pytest.approx(len(plan.shards), rel=0.1)
    assert layout.partitions == plan.num_partitions > 2
    made = json.loads(bucket.read("out/report/report.json"))["accounting"]["kept"]
    assert set(made) == set(layout.buckets)
    layout = type(layout)(len(plan.shards), sum(len(s.parts) for s in plan.shards), plan.num_partitions, _buckets(bucket))
    small = dict.fromkeys(("range", "count", "merge", "encode", "pack"), 1.0)
    wanted = requests(layout, small)

    stops = [*(at for _, at in progress.starts[1:]), len(proxy.seen)]
    for (step, start), stop in zip(progress.starts, stops, strict=True):
        found = _kinds(proxy.seen[start:stop])
        if step == "pack":  # and what closes the run
            wanted[step] += Counter(PUT=11, HEAD=2, GET=2)
        for kind in ("GET", "PUT", "HEAD", "LIST"):
            assert wanted[step][kind] == pytest.approx(found[kind], rel=0.03, abs=8), (step, kind, wanted[step], found)
    assert [step for step, _ in progress.starts] == list(PLAIN_STEPS)
    total = _kinds(proxy.seen)
    for kind in ("GET", "PUT", "HEAD", "LIST"):
        assert sum(counts[kind] for counts in wanted.values()) == pytest.approx(total[kind], rel=0.05, abs=16), kind
    objects = [key for key in bucket.keys("out/") if not key.startswith("out/_work/driver")]
    assert num_objects(layout) == len(objects)


def _buckets(bucket: Bucket) -> dict[str, int]:
    found = Counter(Path(key).parent.name for key in bucket.keys("out/packed/") if key.endswith(".arrow"))
    assert min(found.values()) > 0
    assert found["train"] > 2
    return dict(found)
