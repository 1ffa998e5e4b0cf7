"""Trainer, encoder and metric together against a source whose entropy is known.

Two letters; the next is the same with the probability 1 - delta. A letter by itself tells one bit, though it is worth only
h(delta): a code of letters cannot know. Tokens can, the more so the longer they are (Rajaraman, Jiao and Ramchandran 2024,
"Toward a Theory of Tokenization in LLMs", arXiv 2404.08335). So bits per letter must start at one, come near h as the
vocabulary grows, and on text that was not trained on never be below: a code that is shorter than the entropy is a bug.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pipeline.arrow import rows_of
from pipeline.pretokenizer import Pretokenizer
from pipeline.stages.evaluate import describe, measure
from pipeline.tokenizer import EncoderName, Tokenizer
from pipeline.trainers.bpe import BpeOptions, train_bpe

DELTAS = (0.05, 0.1, 0.3)
SIZES = (2, 4, 8, 16, 32, 64, 128)
DOCUMENTS, LENGTH = 300, 1000

SURPRISE_BITS = 20
"""A code may beat the true probability of a text by so many bits by luck, once in a million texts (Markov's inequality)."""


def source(delta: float, seed: int) -> NDArray[np.uint8]:
    """Documents of the letters a and b. ``[shape=(DOCUMENTS, LENGTH), dtype=uint8]``"""
    chance = np.random.default_rng(seed)
    switches = chance.random((DOCUMENTS, LENGTH)) < delta
    switches[:, 0] = chance.random(DOCUMENTS) < 0.5
    states: NDArray[np.uint8] = (ord("a") + np.cumsum(switches, axis=1) % 2).astype(np.uint8)
    return states


def texts_of(letters: NDArray[np.uint8]) -> pa.LargeStringArray:
    return pa.array([row.tobytes().decode() for row in letters], type=pa.large_string())


def entropy(delta: float) -> float:
    return -delta * math.log2(delta) - (1 - delta) * math.log2(1 - delta)


def true_bits(letters: NDArray[np.uint8], delta: float) -> float:
    """What these very documents are worth: the best code there is needs that much, but for luck."""
    switches = int((letters[:, 1:] != letters[:, :-1]).sum())
    stays = DOCUMENTS * (LENGTH - 1) - switches
    return DOCUMENTS - switches * math.log2(delta) - stays * math.log2(1 - delta)


@functools.cache
def tokenizer_of(delta: float, size: int, encoder: EncoderName) -> Tokenizer:
    texts = pa.array(sorted(set(texts_of(source(delta, seed=1)).to_pylist())), type=pa.large_string())
    options = BpeOptions(vocab_size=size, initial_alphabet="seen")
    trained = train_bpe(rows_of(texts), np.ones(len(texts), dtype=np.int64), options)
    assert len(trained.vocab) == size
    return Tokenizer(trained.vocab, trained.merges, (), Pretokenizer.named("none"), "none", encoder)


@functools.cache
def bits_per_letter(delta: float, size: int, encoder: EncoderName) -> tuple[float, float, dict[str, Any]]:
    """Of held-out text: cross-entropy under the counts of the training text, a letter and in all; figures of a report."""
    tokenizer, held_out = tokenizer_of(delta, size, encoder), texts_of(source(delta, seed=2))
    _, trained_counts = measure(tokenizer, texts_of(source(delta, seed=1)))
    sums, counts = measure(tokenizer, held_out)
    assert sums.chars == DOCUMENTS * LENGTH
    model = (trained_counts + 0.5) / (trained_counts + 0.5).sum()
    bits = float(-(counts * np.log2(model)).sum())
    assert tokenizer.decode(tokenizer.encode(held_out[0].as_py())) == held_out[0].as_py()
    return bits / sums.chars, bits, describe(sums, counts)


ENCODERS: list[EncoderName] = ["merge", "greedy", "fewest"]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("delta", DELTAS)
def test_letters_tell_one_bit(encoder: EncoderName, delta: float) -> None:
    found, _, figures = bits_per_letter(delta, 2, encoder)
    assert found == pytest.approx(1, abs=1e-3)
    assert figures["bits_per_token"] == pytest.approx(1, abs=1e-3)
    assert figures["tokens_per_char"] == 1


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("size", SIZES)
def test_no_code_is_shorter_than_what_the_text_is_worth(encoder: EncoderName, delta: float, size: int) -> None:
    """Of tokens one after the other, by a model that knows nothing of the text, as any such code."""
    _, bits, figures = bits_per_letter(delta, size, encoder)
    worth = true_bits(source(delta, seed=2), delta)
    assert bits >= worth - SURPRISE_BITS
    # The report's own figure takes the model from the text itself. To say which one that is takes a number for each token.
    told = size * math.log2(figures["tokens"] + 1)
    assert figures["bits_per_token"] * figures["tokens"] + told >= worth - SURPRISE_BITS - 1e-6 * figures["tokens"]
    assert figures["bits_per_token"] * figures["tokens"] <= bits + 1e-6 * figures["tokens"]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("delta", DELTAS)
def test_doubled_letters(encoder: EncoderName, delta: float) -> None:
    """Of four tokens, a, b, aa and bb, the bits are known: (1 + h) / (2 - delta) a letter.

    A run of letters is odd in 1 of 2 - delta cases, so it has 1 / (2 - delta) tokens a letter, of which the share delta are
    single letters; which of the two letters it is takes one more bit.
    """
    assert set(tokenizer_of(delta, 4, encoder).vocab) == {"a", "b", "aa", "bb"}
    found, _, _ = bits_per_letter(delta, 4, encoder)
    assert found == pytest.approx((1 + entropy(delta)) / (2 - delta), rel=0.01)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("delta", DELTAS)
def test_bits_fall_towards_the_entropy(encoder: EncoderName, delta: float) -> None:
    """With rare switches at each doubling; with frequent ones only in the end, for tokens hang on those before them, as the
    four of the test above, and a unigram code pays for what it does not know.
    """
    found = [bits_per_letter(delta, size, encoder)[0] for size in SIZES]
    if delta <= 0.1:
        assert all(larger < smaller for smaller, larger in itertools.pairwise(found))
    most = {0.05: 0.1, 0.1: 0.18, 0.3: 0.75}[delta]  # what is left of the way from one bit to the entropy
    assert entropy(delta) < found[-1] < entropy(delta) + most * (1 - entropy(delta))
