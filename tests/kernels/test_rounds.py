"""The coordinator proposes and keeps what counting every pair anew for every merge finds; its partitions are lists here."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels.pair_index import find_key, pair_key
from pipeline.kernels.rounds import Limits, Pairs, gather_pairs, propose, review
from tests import reference, strategies
from tests.kernels.test_merges import learn_naively
from tests.kernels.test_partition import neighbours_of, tokens_of

ALPHABET = "abcd "
LETTERS = len(ALPHABET)


def pairs_of(counts: Mapping[tuple[int, int], int]) -> list[np.ndarray]:
    left, right = np.array([*counts], dtype=np.int32).reshape(-1, 2).T
    return [np.ascontiguousarray(left), np.ascontiguousarray(right), np.array([*counts.values()], dtype=np.int64)]


def limits_of(vocab_size: int, min_count: int, max_words: int = 0, forbidden: str = "") -> Limits:
    """Limits with at most one forbidden text."""
    values = np.array([*map(ord, forbidden)], dtype=np.uint32)
    offsets = np.array([0, len(forbidden)] if forbidden else [0], dtype=np.int64)
    return Limits(vocab_size, min_count, 0, max_words, ord("_"), values, offsets, 0, np.ones(1, dtype=np.bool_))


def counts_in(pairs: Pairs) -> dict[tuple[int, int], int]:
    keys = [(int(pairs.left[number]), int(pairs.right[number])) for number in range(pairs.sizes[0])]
    return {(a, b): int(pairs.table[find_key(pairs.table, pair_key(np.int32(a), np.int32(b)))]) for a, b in keys}


@given(strategies.word_counts, st.integers(0, 30), st.integers(1, 5), st.integers(1, 20))
def test_merges_are_those_of_the_reference(counts: dict[bytes, int], num_merges: int, min_count: int, most: int) -> None:
    alphabet = ALPHABET.encode()
    words = [([alphabet.index(byte) for byte in word], count) for word, count in counts.items()]
    limits = limits_of(LETTERS + num_merges, min_count)
    tokens = tokens_of([*ALPHABET], limits.vocab_size)
    totals = np.zeros(limits.vocab_size, dtype=np.int64)
    aliases = np.tile(np.arange(limits.vocab_size, dtype=np.int32), (2, 1))

    def standing() -> Counter[tuple[int, int]]:
        found: Counter[tuple[int, int]] = Counter()
        for ids, count in words:
            for pair in itertools.pairwise(ids):
                found[pair] += count
        return found

    parts = pairs_of(standing())
    pairs = gather_pairs(*(np.concatenate([part, part[:0]]) for part in parts), tokens, limits)
    merges, merge_counts = [], []
    while True:
        members, results, places = propose(pairs, tokens, limits, most)
        if len(members) == 0:
            break
        ids: list[int] = []
        weights: list[int] = []
        offsets = [0]
        applied = words
        proposed = [(int(pairs.left[member]), int(pairs.right[member])) for member in members]
        for pair, new in zip(proposed, results.tolist(), strict=True):
            applied = [(reference.merge_all(word, pair, new), count) for word, count in applied]
            for side in neighbours_of([word for word, _ in applied], [count for _, count in applied], new):
                ids += side
                weights += side.values()
                offsets.append(len(ids))
        pairs, num_reviewed, kept, kept_results, kept_counts, new_ids, new_offsets = review(
            pairs,
            tokens,
            limits,
            members,
            results,
            places,
            np.array(ids, dtype=np.int32),
            np.array(weights, dtype=np.int64),
            np.array([offsets], dtype=np.int64),
            totals,
            aliases,
        )
        assert kept[0] == 0
        assert len(kept) <= num_reviewed <= len(members)
        assert kept_results.tolist() == list(range(LETTERS + len(merges), LETTERS + len(merges) + len(kept)))
        for member, new in zip(kept, kept_results.tolist(), strict=True):
            words = [(reference.merge_all(word, proposed[member], new), count) for word, count in words]
        merges += [proposed[member] for member in kept]
        merge_counts += kept_counts.tolist()

        now = standing()
        counted = counts_in(pairs)
        assert {pair: count for pair, count in counted.items() if count} == {
            pair: now[pair] for pair in counted if now[pair]
        }
        assert {pair for pair, count in now.items() if count >= min_count} <= set(counted)
        listed = list(counted)[new_offsets[0] :]
        assert len(listed) == len(new_ids) == new_offsets[-1] - new_offsets[0]
        assert not totals.any()
        assert (aliases == np.arange(limits.vocab_size)).all()
        assert tokens.num_ids[0] == LETTERS + len(merges)
    assert (merges, merge_counts) == learn_naively(counts, alphabet, num_merges, min_count)


def test_docstring_example() -> None:
    left, right = np.array([[1, 2], [0, 1], [2, 3], [4, 5]], dtype=np.int32).T.copy()
    limits = limits_of(300, 1)
    tokens = tokens_of([*"abcdef"], 300)
    pairs = gather_pairs(left, right, np.array([9, 8, 5, 6], dtype=np.int64), tokens, limits)
    members, results, places = propose(pairs, tokens, limits, 4)
    assert (members.tolist(), results.tolist()) == ([0, 1, 3, 2], [6, 7, 8, 9])
    pairs, num_reviewed, kept, kept_results, counts, new_ids, new_offsets = review(
        pairs,
        tokens,
        limits,
        members,
        results,
        places,
        np.array([3, 0], dtype=np.int32),
        np.array([5, 5], dtype=np.int64),
        np.array([[0, 1, 2, 2, 2, 2, 2, 2, 2]], dtype=np.int64),
        np.zeros(300, dtype=np.int64),
        np.tile(np.arange(300, dtype=np.int32), (2, 1)),
    )
    assert (num_reviewed, kept.tolist(), kept_results.tolist(), counts.tolist()) == (4, [0, 2], [6, 7], [9, 6])
    assert (new_ids.tolist(), new_offsets.tolist()) == ([3, 0], [4, 5, 6, 6, 6])
    assert counts_in(pairs) == {(1, 2): 0, (0, 1): 3, (2, 3): 0, (4, 5): 0, (6, 3): 5, (0, 6): 5}
    assert propose(pairs, tokens, limits, 4)[0].tolist() == [5, 4, 1]
