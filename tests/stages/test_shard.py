"""Shards cover every file once, in order, and are about as large as asked."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.shard import ListedFile, ReadOptions, Shard, can_cut_anywhere, plan_shards, usual_shard_bytes
from tests import reference

MIB = 1 << 20

LINES = ReadOptions(format="jsonl")
WHOLE = ReadOptions(format="arrow")
PARQUET = ReadOptions(format="parquet")

sizes = st.lists(st.integers(0, 50), max_size=12)


def files(sizes: list[int], ending: str = ".jsonl") -> list[ListedFile]:
    return [ListedFile(uri=f"/d/{n}{ending}", name=f"{n}{ending}", num_bytes=size) for n, size in enumerate(sizes)]


def grouped_files(groups: list[list[int]]) -> list[ListedFile]:
    return [
        ListedFile(uri=f"/d/{n}.parquet", name=f"{n}.parquet", num_bytes=sum(sizes) // 2 + 1, row_groups=tuple(sizes))
        for n, sizes in enumerate(groups)
    ]


def ranges(shards: tuple[Shard, ...]) -> dict[str, list[tuple[int | None, int | None]]]:
    """The parts of each file, in the order of the shards."""
    found: dict[str, list[tuple[int | None, int | None]]] = {}
    for shard in shards:
        for part in shard.parts:
            found.setdefault(part.name, []).append((part.start, part.stop))
    return found


@pytest.mark.parametrize(
    ("total", "shard_bytes"),
    [
        (0, 4 * MIB),
        (64 * MIB, 4 * MIB),
        (64 * MIB + 1, 4 * MIB + 1),
        (1_024 * MIB, 64 * MIB),
        (2_048 * MIB, 128 * MIB),
        (1 << 40, 128 * MIB),
        (1 << 41, 256 * MIB),
        (10**15, 512 * MIB),
    ],
)
def test_usual_shard_bytes(total: int, shard_bytes: int) -> None:
    assert usual_shard_bytes(total) == shard_bytes


@given(sizes, st.integers(1, 40))
def test_whole_files_are_grouped_as_by_the_reference(sizes: list[int], shard_bytes: int) -> None:
    shards = plan_shards([(files(sizes, ".arrow"), WHOLE)], shard_bytes)
    groups = reference.group_greedily(sizes, shard_bytes)
    assert [[part.num_bytes for part in shard.parts] for shard in shards] == groups
    assert [shard.num_bytes for shard in shards] == [sum(group) for group in groups]
    assert [part.name for shard in shards for part in shard.parts] == [f"{n}.arrow" for n in range(len(sizes))]
    assert all(part.start is None and part.stop is None for shard in shards for part in shard.parts)


@given(sizes, st.integers(1, 40))
def test_files_of_lines_are_covered_byte_by_byte(sizes: list[int], shard_bytes: int) -> None:
    shards = plan_shards([(files(sizes), LINES)], shard_bytes)
    found = ranges(shards)
    assert list(found) == [f"{n}.jsonl" for n in range(len(sizes))]
    for size, parts in zip(sizes, found.values(), strict=True):
        bounds = [(a or 0, size if b is None else b) for a, b in parts]
        assert bounds[0][0] == 0
        assert bounds[-1][1] == size
        assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
    assert all(shard.num_bytes <= shard_bytes for shard in shards)
    assert sum(shard.num_bytes for shard in shards) == sum(sizes)


@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8), max_size=6), st.integers(1, 60))
def test_row_groups_are_covered_once_and_in_order(groups: list[list[int]], shard_bytes: int) -> None:
    shards = plan_shards([(grouped_files(groups), PARQUET)], shard_bytes)
    for row_groups, parts in zip(groups, ranges(shards).values(), strict=True):
        covered = [n for a, b in parts for n in range(a or 0, len(row_groups) if b is None else b)]
        assert covered == list(range(len(row_groups)))
    assert sum(shard.num_bytes for shard in shards) == sum(map(sum, groups))
    largest = max(itertools.chain.from_iterable(groups), default=0)
    assert all(shard.num_bytes <= max(shard_bytes, largest) for shard in shards)


@given(st.lists(sizes, max_size=4), st.integers(1, 40))
def test_no_shard_mixes_sources(sources: list[list[int]], shard_bytes: int) -> None:
    shards = plan_shards([(files(sizes), LINES) for sizes in sources], shard_bytes)
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert [shard.source for shard in shards] == sorted(shard.source for shard in shards)
    alone = [plan_shards([(files(sizes), LINES)], shard_bytes) for sizes in sources]
    assert [shard.parts for shard in shards] == [shard.parts for plan in alone for shard in plan]


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_compressed_files_stay_whole_and_weigh_more(ending: str) -> None:
    shards = plan_shards([(files([100, 2, 2], ending), LINES)], 16)
    assert [[part.name[0] for part in shard.parts] for shard in shards] == [["0"], ["1", "2"]]
    assert [shard.num_bytes for shard in shards] == [400, 16]


@pytest.mark.parametrize(
    ("uri", "options", "can_cut"),
    [
        ("a.jsonl", LINES, True),
        ("a.jsonl.gz", LINES, False),
        ("a.jsonl.zst", LINES, False),
        ("a.txt", ReadOptions(format="txt", documents="line"), True),
        ("a.txt", ReadOptions(format="txt", documents="file"), False),
        ("a.txt.gz", ReadOptions(format="txt", documents="line"), False),
        ("a.fa", ReadOptions(format="fasta"), True),
        ("a.fa.gz", ReadOptions(format="fasta"), False),
        ("a.parquet", PARQUET, False),
        ("a.arrow", WHOLE, False),
    ],
)
def test_what_can_be_cut_anywhere(uri: str, options: ReadOptions, can_cut: bool) -> None:
    assert can_cut_anywhere(uri, options) is can_cut


def test_docstring_example() -> None:
    shards = plan_shards([(files([5, 1, 1, 1]), LINES)], 3)
    assert [[(part.name[0], part.start, part.stop) for part in shard.parts] for shard in shards] == [
        [("0", 0, 2)],
        [("0", 2, 5)],
        [("1", None, None), ("2", None, None), ("3", None, None)],
    ]


def test_no_files() -> None:
    assert plan_shards([], 10) == ()
    assert plan_shards([([], LINES)], 10) == ()
