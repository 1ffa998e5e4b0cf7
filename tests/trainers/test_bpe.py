"""The BPE trainer against counting every pair anew, and against the trainer of `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from pipeline.arrow import rows_of
from pipeline.errors import DataError
from pipeline.trainers import bpe
from pipeline.trainers.bpe import BpeOptions, TrainedBpe, train_bpe
from tests import reference, strategies

special_lists = st.lists(st.sampled_from(["<|end|>", "ab", "a", "bc", "abc", "<s>", "Ġ", "Ġa", "é"]), max_size=3)
alphabets = st.sampled_from(["bytes", "seen"])


def train(counts: Mapping[bytes, int], **options: Any) -> TrainedBpe:
    words = rows_of(pa.array(list(counts), type=pa.large_binary()))
    return train_bpe(words, np.array(list(counts.values()), dtype=np.int64), BpeOptions(**options))


def outside(
    counts: Mapping[bytes, int],
    *,
    vocab_size: int,
    min_count: int = 1,
    max_token_length: int | None = None,
    initial_alphabet: str = "bytes",
    special_tokens: tuple[str, ...] = (),
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges as `tokenizers` trains them; every word is a document of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_count,
        max_token_length=max_token_length,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if initial_alphabet == "bytes" else [],
        special_tokens=list(special_tokens),
        show_progress=False,
    )
    tokenizer.train_from_iterator((word.decode() for word, count in counts.items() for _ in range(count)), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [(a, b) for a, b in model["merges"]]


@given(
    strategies.word_counts, st.integers(0, 290), st.integers(0, 9), st.none() | st.integers(1, 9), alphabets, special_lists
)
def test_equal_to_the_reference(
    counts: dict[bytes, int],
    vocab_size: int,
    min_count: int,
    max_token_length: int | None,
    alphabet: Any,
    specials: list[str],
) -> None:
    trained = train(
        counts,
        vocab_size=vocab_size,
        min_count=min_count,
        max_token_length=max_token_length,
        initial_alphabet=alphabet,
        special_tokens=tuple(specials),
    )
    vocab, merges, merge_counts = reference.train_bpe(
        counts,
        vocab_size,
        min_count=min_count,
        max_token_length=max_token_length,
        alphabet=alphabet,
        special_tokens=specials,
    )
    assert list(trained.merges) == merges
    assert trained.vocab == vocab
    assert list(trained.merge_counts) == merge_counts


@given(
    strategies.word_counts, st.integers(1, 290), st.integers(0, 9), st.none() | st.integers(1, 9), alphabets, special_lists
)
def test_equal_to_tokenizers(
    counts: dict[bytes, int],
    vocab_size: int,
    min_count: int,
    max_token_length: int | None,
    alphabet: Any,
    specials: list[str],
) -> None:
    options: dict[str, Any] = {
        "vocab_size": vocab_size,
        "min_count": min_count,
        "max_token_length": max_token_length,
        "initial_alphabet": alphabet,
        "special_tokens": tuple(specials),
    }
    trained = train(counts, **options)
    vocab, merges = outside(counts, **options)
    assert list(trained.merges) == merges
    assert trained.vocab == vocab


@given(st.dictionaries(strategies.text.filter(bool).map(str.encode), st.integers(1, 3), min_size=1, max_size=6), alphabets)
def test_equal_to_tokenizers_on_any_text(counts: dict[bytes, int], alphabet: Any) -> None:
    trained = train(counts, vocab_size=300, initial_alphabet=alphabet)
    vocab, merges = outside(counts, vocab_size=300, initial_alphabet=alphabet)
    assert list(trained.merges) == merges
    assert trained.vocab == vocab


@given(strategies.large_word_counts)
def test_counts_beyond_32_bits(counts: dict[bytes, int]) -> None:
    """`tokenizers` adds up pairs in 32 bits and wraps at 2**31."""
    trained = train(counts, vocab_size=280)
    vocab, merges, merge_counts = reference.train_bpe(counts, 280)
    assert list(trained.merges) == merges
    assert list(trained.merge_counts) == merge_counts
    assert trained.vocab == vocab


@given(
    strategies.word_counts | strategies.large_word_counts,
    st.integers(250, 290),
    st.integers(0, 9),
    st.none() | st.integers(1, 9),
    alphabets,
    special_lists,
)
def test_what_is_never_merged_may_be_left_out(
    counts: dict[bytes, int],
    vocab_size: int,
    min_count: int,
    max_token_length: int | None,
    alphabet: Any,
    specials: list[str],
) -> None:
    """The bound below which no pair is listed: with it and without it, the same is trained."""
    options = {
        "vocab_size": vocab_size if alphabet == "bytes" else vocab_size - 245,
        "min_count": min_count,
        "max_token_length": max_token_length,
        "initial_alphabet": alphabet,
        "special_tokens": tuple(specials),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "_rarest_merge", lambda *_: 0)
        of_all_pairs = train(counts, **options)
    assert train(counts, **options) == of_all_pairs


@pytest.mark.parametrize(
    ("num_merges", "options", "bound"),
    [
        (1, {}, 9),
        (2, {}, 7),
        (3, {}, 5),
        (4, {}, 2),
        (5, {}, 0),  # more merges than words
        (0, {}, 0),
        (3, {"max_token_length": 4}, 2),  # the words of four bytes can be no token
        (1, {"max_token_length": 2}, 0),
    ],
)
def test_the_bound_of_the_rarest_merge(num_merges: int, options: dict[str, Any], bound: int) -> None:
    """Words of one byte need no merge."""
    counts = {b"ab": 9, b"abcd": 5, b"x": 100, b"bc": 7, b"cab": 2}
    words = rows_of(pa.array(list(counts), type=pa.large_binary()))
    found = bpe._rarest_merge(words, np.array(list(counts.values())), BpeOptions(vocab_size=300, **options), num_merges)
    assert found == bound


@given(strategies.word_counts, st.randoms(use_true_random=False))
def test_the_order_of_words_does_not_matter(counts: dict[bytes, int], random: Any) -> None:
    shuffled = list(counts.items())
    random.shuffle(shuffled)
    assert train(dict(shuffled), vocab_size=300) == train(counts, vocab_size=300)


@given(strategies.word_counts, st.integers(0, 20))
def test_a_smaller_vocabulary_is_the_start_of_a_larger_one(counts: dict[bytes, int], num_merges: int) -> None:
    small, large = train(counts, vocab_size=256 + num_merges), train(counts, vocab_size=300)
    assert small.merges == large.merges[:num_merges]
    assert small.vocab.items() <= large.vocab.items()


def test_wikipedia_example() -> None:
    trained = train({b"aaabdaaabac": 1}, vocab_size=259)
    assert trained.merges == (("a", "a"), ("a", "b"), ("aa", "ab"))
    assert trained.merge_counts == (4, 2, 2)
    assert [trained.vocab[token] for token in ("aa", "ab", "aaab")] == [256, 257, 258]


def test_docstring_example() -> None:
    trained = train({b"ab": 3, b"abc": 1}, vocab_size=300)
    assert trained.merges == (("a", "b"), ("ab", "c"))
    assert trained.merge_counts == (4, 1)


def test_ids_are_specials_then_alphabet_then_merges() -> None:
    trained = train({b"b a\xff": 2}, vocab_size=8, initial_alphabet="seen", special_tokens=("<s>", "</s>"))
    assert list(trained.vocab) == ["<s>", "</s>", "a", "b", "ÿ", "Ġ", "aÿ", "bĠ"]
    assert list(trained.vocab.values()) == list(range(8))


def test_the_alphabet_has_the_order_of_its_characters() -> None:
    assert list(train({}, vocab_size=256).vocab) == sorted(reference.CHAR_OF_BYTE.values())


def test_a_merge_that_spells_a_special_token_takes_its_id() -> None:
    trained = train({b"abc": 5}, vocab_size=300, special_tokens=("<s>", "ab"))
    assert trained.merges == (("a", "b"), ("ab", "c"))
    assert trained.vocab["ab"] == 1
    assert len(trained.vocab) == 2 + 256 + 1


def test_many_special_tokens_cost_no_more_than_their_ids() -> None:
    """Some of them are spelled by merges, most of the same length as others that are not."""
    names = ["ab", "abab", *(f"<{n}>" for n in range(100_000)), "ba"]
    counts = {b"abab": 5, b"ba": 2}
    trained = train(counts, vocab_size=len(names) + 256 + 1, special_tokens=tuple(names))
    assert [trained.vocab[a + b] for a, b in trained.merges] == [0, 1, len(names) - 1]
    assert [a + b for a, b in trained.merges] == ["ab", "abab", "ba"]


def test_no_words() -> None:
    trained = train({}, vocab_size=10, initial_alphabet="seen", special_tokens=("<s>",))
    assert (trained.vocab, trained.merges) == ({"<s>": 0}, ())


def test_too_many_symbols_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "MAX_SYMBOLS", 5)
    assert train({b"abc": 1}, vocab_size=256).merges == ()
    with pytest.raises(DataError, match="6 symbols together; one trainer holds at most 5"):
        train({b"abcd": 1}, vocab_size=256)
