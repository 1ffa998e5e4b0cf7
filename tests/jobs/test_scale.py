"""What a driver keeps grows with files and shards by a known, small amount; the window does not grow with the tasks."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from benchmarks.synthetic import check_plan, drive, make_listing, plan, window, write_receipts
from pipeline.stages.shard import ListedFile, ReadOptions, plan_shards

FILES = 2_000
FILE_BYTES = 10_000_000


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> str:
    """20 GB in sparse files, a shard each, and a receipt for every task."""
    spec = str(make_listing(tmp_path_factory.mktemp("listing"), FILES, FILE_BYTES, shard_bytes=FILE_BYTES))
    write_receipts(spec)
    return spec


def test_a_large_listing_is_planned_persisted_and_planned_again(listing: str) -> None:
    plans = [plan(listing) for _ in range(2)]
    assert plans[0]["fingerprint"] == plans[1]["fingerprint"]
    facts = check_plan(listing)
    assert (facts["files"], facts["shards"], facts["text_bytes"]) == (FILES, FILES, FILES * FILE_BYTES)
    assert plans[0]["plan_bytes"] < 1_000 * FILES


def _traced(function: Any, spec: str) -> int:
    """The most bytes of Python objects that a call had at once."""
    gc.collect()
    tracemalloc.start()
    function(spec)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_of_the_driver(listing: str) -> None:
    """For a file in a shard of its own: plan, tasks and receipts of all steps."""
    assert _traced(plan, listing) < 8_000 * FILES
    assert _traced(drive, listing) < 20_000 * FILES


def test_the_driver_finds_every_task_done(listing: str) -> None:
    tasks = drive(listing)["tasks"]
    assert (tasks["count"], tasks["encode"], tasks["train"]) == (FILES, FILES, 1)
    assert tasks["merge"] == 256
    assert tasks["pack"] > 100


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("max_in_flight", "most"), [(None, 64), (5, 5)])
def test_the_window_holds_however_many_tasks_wait(listing: str, max_in_flight: int | None, most: int) -> None:
    facts = window(listing, max_in_flight)
    assert facts["receipts"] == facts["tasks"] == FILES
    assert facts["most_in_flight"] == most


def test_a_shard_of_very_many_files_is_put_together_in_one_pass() -> None:
    files = [ListedFile(uri=f"{i}.txt", name=f"{i}.txt", num_bytes=100) for i in range(200_000)]
    shards = plan_shards([(files, ReadOptions(format="txt"))], 128 << 20)
    assert [len(shard.parts) for shard in shards] == [200_000]
    assert shards[0].num_bytes == 100 * 200_000
