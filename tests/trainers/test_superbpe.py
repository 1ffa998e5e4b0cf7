"""Two stages against a naive twin of the original implementation, and against ``tokenizers``."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.arrow import Rows, rows_of
from pipeline.pretokenizer import LINES, RECIPES, Pretokenizer
from pipeline.trainers.bpe import BpeOptions, TrainedBpe, Vetoes, train_bpe
from pipeline.trainers.partitioned import LocalPartitions, Words, divide_words
from pipeline.trainers.superbpe import UnitEncoder, first_merges, first_tokens, inherited, num_initial, train_superbpe
from tests import reference
from tests.corpus import documents
from tests.trainers.test_bpe import outside

texts = st.lists(st.text("ab :c\n", max_size=20), min_size=1, max_size=8)
nums_partitions = st.sampled_from([1, 2, 3])


def count(pieces: list[str]) -> dict[bytes, int]:
    return reference.count_words([piece.encode() for piece in pieces])


def split_all(some: list[str], patterns: tuple[str, ...]) -> dict[bytes, int]:
    return count([piece for text in some for piece in reference.split(text, patterns)])


def rows_and_counts(counts: dict[bytes, int]) -> tuple[Rows, NDArray[np.int64]]:
    return rows_of(pa.array(list(counts), type=pa.large_binary())), np.array([*counts.values()], dtype=np.int64)


def train(counts: dict[bytes, int], **options: object) -> TrainedBpe:
    return train_bpe(*rows_and_counts(counts), BpeOptions(**options))  # type: ignore[arg-type]


def encode(first: TrainedBpe, counts: dict[bytes, int]) -> Words:
    return UnitEncoder(first, ()).encode(*rows_and_counts(counts))


def second(first: TrainedBpe, words: Words, num_partitions: int = 1, **options: object) -> TrainedBpe:
    pool = LocalPartitions(divide_words(words, num_partitions))
    return train_superbpe(pool, first, BpeOptions(**options))[0]  # type: ignore[arg-type]


WORDS, UNITS = (LINES, r" ?\w+| ?[^\s\w]+|\s+(?!\S)|\s+"), (LINES,)


@given(texts, st.integers(1, 12), st.integers(0, 25), st.sampled_from([0, 1, 2, 4]), nums_partitions, st.data())
def test_as_the_original(
    some: list[str], num_lines: int, num_more: int, max_words: int, num_partitions: int, data: st.DataObject
) -> None:
    """Also where the second stage sees less text than the first, so that merges and bytes are missing."""
    whole = train(split_all(some, WORDS), vocab_size=60, initial_alphabet="seen")
    units = split_all(some[: data.draw(st.integers(1, len(some)))], UNITS)
    merges_txt = ["#version: 0.2", *(" ".join(merge) for merge in whole.merges)]
    forbidden = data.draw(st.sampled_from([(), (":Ġ",), ("Ċ", "ab")]))
    expected_vocab, expected = reference.extend_merges(
        units, merges_txt, num_lines, 10 + num_more, max_words=max_words, forbidden=forbidden
    )

    first = first_merges(whole, num_lines - 1)
    encoder = UnitEncoder(first, ())
    rows, counts = rows_and_counts(units)
    seen = np.isin(np.arange(256), np.frombuffer(b"".join(units), dtype=np.uint8))
    left = inherited(first, encoder.met(rows), seen, 0)
    new_ids = np.array([left.vocab.get(chars, -1) for chars in first.vocab], dtype=np.int32)
    words = encoder.encode(rows, counts)
    words = words._replace(symbols=new_ids[words.symbols])
    vetoes = Vetoes(max_words, forbidden)
    trained = second(left, words, num_partitions, vocab_size=10 + num_more, vetoes=vetoes)
    assert list(trained.merges) == expected
    assert trained.vocab == expected_vocab


def test_docstring_example() -> None:
    first = train({b"ab": 9}, vocab_size=257)
    trained = second(first, encode(first, {b"ab ab": 2, b"ab": 1}), vocab_size=259)
    assert trained.merges == (("a", "b"), ("Ġ", "ab"), ("ab", "Ġab"))
    assert trained.merge_counts == (9, 2, 2)


@given(texts, st.integers(256, 300))
def test_the_first_tokens_are_what_a_smaller_training_gives(some: list[str], vocab_size: int) -> None:
    words = split_all(some, WORDS)
    special_tokens = ("ab", "<s>", "b c")  # the first of them is also made by a merge
    options = {"special_tokens": special_tokens, "initial_alphabet": "bytes"}
    whole = train(words, vocab_size=330, **options)
    smaller = train(words, vocab_size=max(vocab_size, 259), **options)
    assert num_initial(whole) == 259
    assert first_tokens(whole, max(vocab_size, 259)) == smaller
    some_merges = first_merges(whole, len(smaller.merges))
    assert (some_merges.merges, some_merges.merge_counts) == (smaller.merges, smaller.merge_counts)


def test_without_a_first_stage_it_is_plain_bpe_on_units_as_tokenizers_trains() -> None:
    some = documents(40)
    for recipe in RECIPES.values():
        patterns = recipe[1]
        units = split_all(some, patterns)
        first = train(units, vocab_size=256)
        assert first.merges == ()
        trained = second(first, encode(first, units), vocab_size=700)
        expected = outside(units, vocab_size=700)
        assert (trained.vocab, list(trained.merges)) == expected


def test_of_a_first_stage_on_units_the_second_is_the_rest() -> None:
    """The same text in both: the transition makes no difference."""
    units = split_all(documents(30), RECIPES["recommended"][1])
    whole = train(units, vocab_size=500)
    for num_tokens in (256, 300, 499, 500):
        first = first_tokens(whole, num_tokens)
        assert second(first, encode(first, units), 2, vocab_size=500) == whole


@pytest.mark.parametrize("max_words", [1, 2])
def test_vetoes_hold_for_every_token_of_the_second_stage(max_words: int) -> None:
    some = documents(60)
    first = train(split_all(some, RECIPES["paper"][0]), vocab_size=400)
    words = encode(first, split_all(some, RECIPES["paper"][1]))
    trained = second(first, words, vocab_size=900, vetoes=Vetoes(max_words, ("e,", "\u010a")))
    made = [left + right for left, right in trained.merges[len(first.merges) :]]
    assert len(made) > 100
    assert not any(reference.is_vetoed(chars, max_words, ("e,", "\u010a")) for chars in made)
    assert max(len([word for word in chars.split("Ġ") if word]) for chars in made) == max_words


@given(st.lists(st.text("ab cĞ.", max_size=20), min_size=1, max_size=6), st.integers(256, 290))
def test_runs_of_words_that_are_one_token(some: list[str], vocab_size: int) -> None:
    units = {text.encode(): number for number, text in enumerate(dict.fromkeys(filter(None, some)), start=1)}
    if not units:
        return
    first = train(split_all(some, WORDS[1:]), vocab_size=vocab_size)
    merges = {(first.vocab[a], first.vocab[b]): (rank, first.vocab[a + b]) for rank, (a, b) in enumerate(first.merges)}
    expected = []
    for unit, number in units.items():
        run: list[int] = []
        for word in [*reference.split(unit.decode(), WORDS[1:]), "."]:  # which is no letter, and ends the last run
            ids = reference.encode([first.vocab[char] for char in reference.spell(word.encode())], merges)
            if len(ids) == 1 and any(char.isalpha() for char in word):
                run += ids
                continue
            if len(run) > 1:
                expected.append((tuple(run), number))
            run = []
    rows, counts = rows_and_counts(units)
    words = UnitEncoder(first, ()).encode_runs(rows, counts, Pretokenizer(WORDS[1:]))
    found = [tuple(words.symbols[a:b].tolist()) for a, b in itertools.pairwise(words.offsets.tolist())]
    assert list(zip(found, words.counts.tolist(), strict=True)) == expected


@given(texts, st.integers(1, 40))
def test_merges_whose_pairs_are_met(some: list[str], num_merges: int) -> None:
    """Against the text after each merge."""
    whole = train(split_all(some, WORDS), vocab_size=256 + num_merges)
    units = split_all(some[: len(some) // 2 + 1], UNITS)
    if not units:
        return
    words = [[whole.vocab[char] for char in reference.spell(unit)] for unit in units]
    met = {pair for ids in words for pair in itertools.pairwise(ids)}
    for left, right in whole.merges:
        pair = whole.vocab[left], whole.vocab[right]
        words = [reference.merge_all(ids, pair, whole.vocab[left + right]) for ids in words]
        met |= {pair for ids in words for pair in itertools.pairwise(ids)}
    expected = [(whole.vocab[left], whole.vocab[right]) in met for left, right in whole.merges]
    assert UnitEncoder(whole, ()).met(rows_and_counts(units)[0]).tolist() == expected
