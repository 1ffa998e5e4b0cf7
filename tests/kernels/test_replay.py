"""Merges one at a time against counting all pairs anew at each step, and the rivals against looking at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels.cells import words_to_cells
from pipeline.kernels.replay import Replay, replay_merges
from pipeline.kernels.rivals import find_rivals
from tests import reference, strategies

Words = dict[bytes, tuple[int, ...]]
LETTERS = b"abc"

few_letters = st.one_of(
    st.text("abc", min_size=1, max_size=14).map(str.encode),
    st.builds(lambda letter, times: letter * times, st.sampled_from([b"a", b"b", b"ab"]), st.integers(1, 20)),
)
words_of_categories = st.integers(1, 3).flatmap(
    lambda num: st.dictionaries(few_letters, st.tuples(*[st.integers(0, 5)] * num), min_size=1, max_size=8)
)


def by_spelling(merges: Sequence[reference.Pair]) -> tuple[list[reference.Pair], list[int], list[int]]:
    """Merges of ids where those that spell the same are one; the id each makes, and the length of each id."""
    spellings, ids, renamed, results = ["a", "b", "c"], [0, 1, 2], [], []
    for a, b in merges:
        a, b = ids[a], ids[b]
        if spellings[a] + spellings[b] not in spellings:
            spellings.append(spellings[a] + spellings[b])
        results.append(spellings.index(spellings[a] + spellings[b]))
        ids.append(results[-1])
        renamed.append((a, b))
    return renamed, results, [len(spelling) for spelling in spellings]


def replayed(words: Words, merges: Sequence[reference.Pair], results: Sequence[int], lengths: Sequence[int]) -> Replay:
    byte_ids = np.full(256, -1, dtype=np.int32)
    byte_ids[list(LETTERS)] = np.arange(3)
    values = np.frombuffer(b"".join(words) + b"\0", dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, words)], dtype=np.int64)
    return replay_merges(
        words_to_cells(values, offsets, np.arange(len(words)), byte_ids),
        np.array(list(words.values()), dtype=np.int64),
        np.array(merges, dtype=np.int32).reshape(-1, 2),
        np.array(results, dtype=np.int32),
        np.array(lengths, dtype=np.int64),
    )


def tables_of(found: Replay, num_merges: int) -> list[reference.PairCounts]:
    """The counts of all pairs at each step, from the changes."""
    tables: list[reference.PairCounts] = [{} for _ in range(num_merges + 1)]
    for number, pair in enumerate(zip(found.left.tolist(), found.right.tolist(), strict=True)):
        changes = range(found.offsets[number], found.offsets[number + 1])
        now = [0] * found.peaks.shape[1]
        peaks = [0] * len(now)
        for step, table in enumerate(tables):
            for change in changes:
                if found.steps[change] == step:
                    assert now[found.categories[change]] != found.counts[change]  # changes only
                    now[found.categories[change]] = int(found.counts[change])
            peaks = [max(a, b) for a, b in zip(peaks, now, strict=True)]
            if any(now):
                table[pair] = tuple(now)
        assert found.peaks[number].tolist() == peaks
    return tables


def ids_of(words: Words) -> list[tuple[list[int], tuple[int, ...]]]:
    return [([LETTERS.index(byte) for byte in word], counts) for word, counts in words.items()]


@given(words_of_categories, strategies.merge_lists(), st.booleans())
def test_equal_to_the_reference(words: Words, merges: list[reference.Pair], are_shared: bool) -> None:
    """Ids of their own, and ids that several merges make."""
    results = list(range(3, 3 + len(merges)))
    lengths = [1, 1, 1]
    for a, b in merges:
        lengths.append(lengths[a] + lengths[b])
    if are_shared:
        merges, results, lengths = by_spelling(merges)
    found = replayed(words, merges, results, lengths)
    tables = reference.replay_merges(ids_of(words), merges, results)
    assert tables_of(found, len(merges)) == tables
    none = (0,) * found.peaks.shape[1]
    assert [tuple(counts) for counts in found.merge_counts.tolist()] == [
        table.get(merge, none) for table, merge in zip(tables, merges, strict=False)
    ]
    pairs = [(int(found.left[pair]), int(found.right[pair])) if pair >= 0 else None for pair in found.merge_pairs]
    assert all(pair in (merge, None) for pair, merge in zip(pairs, merges, strict=True))
    last = [(list(ids), counts) for ids, counts in ids_of(words)]
    for merge, result in zip(merges, results, strict=True):
        last = [(reference.merge_all(ids, merge, result), counts) for ids, counts in last]
    num_tokens = [sum(len(ids) * counts[category] for ids, counts in last) for category in range(len(none))]
    assert found.num_tokens.tolist() == num_tokens


def test_docstring_example() -> None:
    found = replayed({b"abab": (1,)}, [(0, 1)], [3], [1, 1, 1, 2])
    assert tables_of(found, 1) == [{(0, 1): (2,), (1, 0): (1,)}, {(3, 3): (1,)}]


def test_more_pairs_places_and_changes_than_there_is_room_for_at_first() -> None:
    """One long word of 700 ids, nearly all pairs of which occur, and then one pair over and over."""
    drawn = np.random.default_rng(1).integers(0, 700, size=90_000)
    letters = np.concatenate((drawn, np.tile([0, 1], 70_000))).astype(np.int64)
    merges, results = [(0, 1), (700, 700)], [700, 701]
    found = replay_merges(
        np.concatenate(([0xFFFFFFFF], letters, [0xFFFFFFFF])).astype(np.int64),
        np.array([[2]], dtype=np.int64),
        np.array(merges, dtype=np.int32),
        np.array(results, dtype=np.int32),
        np.repeat(np.array([1, 2, 4]), [700, 1, 1]),
    )
    assert len(found.left) > 1 << 16
    assert found.merge_counts[0, 0] > 1 << 17
    tables = reference.replay_merges([(letters.tolist(), (2,))], merges, results)
    pairs = list(zip(found.left.tolist(), found.right.tolist(), strict=True))
    first, last = {}, {}
    for pair, start, stop in zip(pairs, found.offsets[:-1].tolist(), found.offsets[1:].tolist(), strict=True):
        if start < stop and found.steps[start] == 0:  # a pair that arises and goes in one step has no change
            first[pair] = (int(found.counts[start]),)
        if start < stop and found.counts[stop - 1]:
            last[pair] = (int(found.counts[stop - 1]),)
    assert (first, last) == (tables[0], tables[-1])


# --- rivals -----------------------------------------------------------------------------------------------------------


@given(words_of_categories, strategies.merge_lists(), st.data())
def test_rivals_equal_to_the_reference(words: Words, merges: list[reference.Pair], data: Any) -> None:
    merges, results, lengths = by_spelling(merges)
    found = replayed(words, merges, results, lengths)
    tables = reference.replay_merges(ids_of(words), merges, results)
    weights = data.draw(st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=found.peaks.shape[1], max_size=3))[
        : found.peaks.shape[1]
    ]
    levels = sorted(
        data.draw(st.lists(st.integers(0, 9).map(float), min_size=len(merges), max_size=len(merges))), reverse=True
    )
    pairs = list(zip(found.left.tolist(), found.right.tolist(), strict=True))
    slacks = data.draw(st.lists(st.sampled_from([0.0, 0.25, 3.0]), min_size=len(pairs), max_size=len(pairs)))
    merge_steps = np.array([merges.index(pair) if pair in merges else -1 for pair in pairs], dtype=np.int64)
    rivals, steps, excesses, counts = find_rivals(
        np.arange(len(pairs)), found.offsets, found.steps, found.categories, found.counts, np.array(weights),
        np.array(levels), merge_steps, np.array(slacks), 1e-6,
    )  # fmt: skip
    expected = reference.find_rivals(tables, merges, weights, levels, dict(zip(pairs, slacks, strict=True)))
    most = {pair: max(excess) for pair, excess in expected.items() if max(excess, default=0) > 1e-6}
    assert {pairs[rival]: excess for rival, excess in zip(rivals, excesses, strict=True)} == pytest.approx(most)
    for rival, step, excess, of_categories in zip(rivals, steps, excesses, counts.tolist(), strict=True):
        assert expected[pairs[rival]][step] == pytest.approx(excess)
        assert tables[step][pairs[rival]] == tuple(of_categories)


@pytest.mark.parametrize(("merge_step", "expected"), [(-1, [(2, 1.0)]), (2, []), (1, [(2, 1.0)])])
def test_the_example_of_rivals(merge_step: int, expected: list[tuple[int, float]]) -> None:
    _, steps, excesses, counts = find_rivals(
        np.arange(1), np.array([0, 2]), np.array([0, 1], dtype=np.int32), np.zeros(2, dtype=np.int32), np.array([4, 3]),
        np.ones(1), np.array([5.0, 3.0, 2.0]), np.array([merge_step]), np.zeros(1), 1e-6,
    )  # fmt: skip
    assert list(zip(steps.tolist(), excesses.tolist(), strict=True)) == expected
    assert counts.tolist() == [[3]] * len(expected)
