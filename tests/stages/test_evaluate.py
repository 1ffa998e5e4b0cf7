"""Measures of a tokenizer add up over documents and mean what they say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as OutsideTokenizer

from pipeline.pretokenizer import Pretokenizer
from pipeline.stages.evaluate import Measure, describe, measure, unigram_bits
from pipeline.tokenizer import ForeignTokenizer, Tokenizer
from tests import reference, strategies

VOCAB = {char: n for n, char in enumerate([*sorted(reference.CHAR_OF_BYTE.values()), "th", "the", "Ġthe"])}
OURS = Tokenizer(VOCAB, (("t", "h"), ("th", "e"), ("Ġ", "the")), (), Pretokenizer.named("whitespace"))


def texts_of(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, type=pa.large_string())


@given(strategies.texts)
def test_sums_are_those_of_python(texts: list[str]) -> None:
    sums, id_counts = measure(OURS, texts_of(texts))
    ids = [i for text in texts for i in OURS.encode(text)]
    assert sums == Measure(
        documents=len(texts),
        text_bytes=sum(len(text.encode()) for text in texts),
        chars=sum(map(len, texts)),
        words=sum(len(text.split()) for text in texts),
        tokens=len(ids),
    )
    assert id_counts.tolist() == np.bincount(np.array(ids, dtype=np.int64), minlength=len(VOCAB)).tolist()
    assert id_counts.dtype == np.int64


@given(strategies.texts, st.integers(0, 8))
def test_measures_of_parts_add_up(texts: list[str], cut: int) -> None:
    (one, one_counts), (other, other_counts) = (measure(OURS, texts_of(part)) for part in (texts[:cut], texts[cut:]))
    sums, id_counts = measure(OURS, texts_of(texts))
    assert one + other == sums
    assert (one_counts + other_counts).tolist() == id_counts.tolist()


@given(strategies.texts)
def test_a_foreign_tokenizer_is_measured_alike(texts: list[str]) -> None:
    outside = ForeignTokenizer(OutsideTokenizer.from_str(OURS.to_json()))
    (sums, id_counts), (other, other_counts) = (measure(t, texts_of(texts)) for t in (OURS, outside))
    assert sums == other
    assert id_counts.tolist() == other_counts.tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), (" ", 0), (" \n\t ", 0), ("a", 1), (" a b\n", 2), ("a\u00a0b\u3000c\u2028d", 4), ("a\u200bb", 1)],
)
def test_words_stand_between_white_space(text: str, words: int) -> None:
    assert measure(OURS, texts_of([text]))[0].words == words


def test_ratios() -> None:
    sums, id_counts = measure(OURS, texts_of(["the the é", "the"]))
    assert sums == Measure(documents=2, text_bytes=13, chars=12, words=4, tokens=6)
    assert sums.ratios() == {
        "bytes_per_token": 2.166667,
        "chars_per_token": 2.0,
        "tokens_per_char": 0.5,
        "tokens_per_word": 1.5,
        "tokens_per_document": 3.0,
    }
    report = describe(sums, id_counts)
    assert report["vocab_size"] == 259
    assert report["vocab_used_fraction"] == round(5 / 259, 6)
    assert report["tokens"] == 6


def test_nothing_to_divide_by() -> None:
    assert set(Measure().ratios().values()) == {None}
    assert measure(OURS, texts_of([]))[0] == Measure()


def test_bits_of_a_token() -> None:
    found = unigram_bits(np.array([2, 1, 1]))
    assert found == {"bits_per_token": 1.5, "bits_deviation": 0.5, "capacity_used": round(1.5 / np.log2(3), 6)}
    assert unigram_bits(np.array([5, 5, 5, 5, 0])) == {
        "bits_per_token": 2.0, "bits_deviation": 0.0, "capacity_used": round(2 / np.log2(5), 6),
    }  # fmt: skip
    assert unigram_bits(np.array([7])) == {"bits_per_token": 0.0, "bits_deviation": 0.0, "capacity_used": None}
    assert set(unigram_bits(np.zeros(3, dtype=np.int64)).values()) == {None}
