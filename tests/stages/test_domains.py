"""Terms, premiums and numbers against what can be counted by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pretokenizer import Pretokenizer
from pipeline.stages.domains import (
    Premium,
    groups_of,
    make_number,
    measure_digits,
    measure_terms,
    num_tokens,
    premiums,
    spread,
)
from pipeline.tokenizer import Tokenizer
from tests import reference

BYTES = sorted(reference.CHAR_OF_BYTE.values())
DIGITS = "0123456789"


def tokenizer_of(merges: list[tuple[str, str]], preset: str = "whitespace", digits: str | None = None) -> Tokenizer:
    vocab = {token: n for n, token in enumerate(dict.fromkeys([*BYTES, *(a + b for a, b in merges)]))}
    return Tokenizer(vocab, tuple(merges), (), Pretokenizer.named(preset, digits))


PAIRS = [(a, b) for a in DIGITS for b in DIGITS]
THREES = PAIRS + [pair for a in DIGITS for b, c in PAIRS for pair in ((a, b + c), (a + b, c))]
"""Every number of up to three digits is a token."""


# --- terms ------------------------------------------------------------------------------------------------------------


def test_terms() -> None:
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "b")]
    found = measure_terms(tokenizer_of(merges), ["the", "ab", "abc"])
    assert found == {
        "terms": 3,
        "behind_blank": {"tokens": 1 + 2 + 3, "tokens_per_term": 2.0, "single_fraction": 0.333333},
        "at_start": {"tokens": 1 + 1 + 2, "tokens_per_term": 1.333333, "single_fraction": 0.666667},
        "worst": [["abc", 3], ["ab", 2], ["the", 1]],
        "not_restored": 0,
    }


def test_the_worst_terms_are_ten_and_ties_go_by_their_characters() -> None:
    terms = [f"{letter}{letter}" for letter in "lkjihgfedcba"] + ["zzz"]
    worst = measure_terms(tokenizer_of([]), terms)["worst"]
    assert worst == [["zzz", 4]] + [[f"{letter}{letter}", 3] for letter in "abcdefghi"]


@given(st.lists(st.text(max_size=6), max_size=5))
def test_numbers_of_tokens(texts: list[str]) -> None:
    tokenizer = tokenizer_of([("a", "b")])
    assert num_tokens(tokenizer, texts).tolist() == [len(tokenizer.encode(text)) for text in texts]


# --- premiums ---------------------------------------------------------------------------------------------------------


def test_premiums_are_over_shared_groups() -> None:
    tokens = {"tr": {"2": 18, "3": 7}, "en": {"1": 10, "2": 10}, "de": {"1": 5, "2": 6}, "xx": {"9": 4}}
    found = premiums(tokens, "en")
    assert list(found.items()) == [
        ("en", Premium(2, 20, 20)), ("de", Premium(2, 11, 20)), ("tr", Premium(1, 18, 10)),
    ]  # fmt: skip
    assert [row.premium for row in found.values()] == [1.0, 0.55, 1.8]
    assert Premium(1, 3, 0).premium is None


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9))
def test_the_spread(values: list[float]) -> None:
    found = spread(values)
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    expected: dict[str, Any] = {
        "min": min(values), "max": max(values), "mean": mean, "standard_deviation": deviation,
        "coefficient_of_variation": deviation / mean,
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-5)
    assert set(spread([]).values()) == {None}


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", range(1, 21))
def test_groups(digits: int) -> None:
    found = groups_of(digits)
    assert found.r2l == [len(group) for group in format(10 ** (digits - 1), ",").split(",")]
    assert found.l2r == found.r2l[::-1]
    assert found.single == [1] * digits


def test_numbers_have_their_length_and_differ() -> None:
    numbers = [make_number(digits, seed) for digits in range(1, 13) for seed in range(8)]
    assert [len(number) for number in numbers] == [digits for digits in range(1, 13) for _ in range(8)]
    assert all(number[0] != "0" for number in numbers)
    assert len(set(numbers[32:])) == len(numbers) - 32


@pytest.mark.parametrize("rule", ["r2l", "l2r"])
def test_threes(rule: str) -> None:
    found = measure_digits(tokenizer_of(THREES, "gpt2", rule))
    others = {"r2l": "l2r", "l2r": "r2l"}
    assert found == {
        rule: 1.0, others[rule]: 0.0, "single": 0.0, "irregular": 0.0, f"{rule}_kept": 1.0, f"{others[rule]}_kept": 0.0,
        "threes": 1.0, "short_whole": 1.0, "with_letters": 0.0, "not_restored": 0,
    }  # fmt: skip


def test_single_digits() -> None:
    found = measure_digits(tokenizer_of(THREES, "gpt2", "single"))
    assert found["single"] == 1.0
    assert found["r2l_kept"] == found["l2r_kept"] == 1.0
    assert found["r2l"] == found["l2r"] == found["irregular"] == found["threes"] == 0.0
    assert found["short_whole"] == 0.333333  # of one, two and three digits, those of one


@pytest.mark.parametrize("rule", ["r2l", "l2r"])
def test_a_rule_is_kept_without_the_tokens_for_it(rule: str) -> None:
    found = measure_digits(tokenizer_of(PAIRS, "gpt2", rule))
    others = {"r2l": "l2r", "l2r": "r2l"}
    assert (found["irregular"], found[f"{rule}_kept"], found["threes"]) == (1.0, 1.0, 0.0)
    assert found[f"{others[rule]}_kept"] < 0.5


def test_numbers_cut_in_twos_are_irregular() -> None:
    found = measure_digits(tokenizer_of(PAIRS))
    assert found["irregular"] == 1.0
    assert found["short_whole"] == 0.666667


def test_numbers_that_share_a_token_with_letters() -> None:
    merges = [("o", digit) for digit in DIGITS]
    assert measure_digits(tokenizer_of(merges, "whitespace"))["with_letters"] == 1.0
    assert measure_digits(tokenizer_of(merges, "gpt2"))["with_letters"] == 0.0
    assert measure_digits(tokenizer_of([(digit, "t") for digit in DIGITS], "whitespace"))["with_letters"] == 1.0


def test_a_blank_may_be_part_of_the_first_token() -> None:
    found = measure_digits(tokenizer_of([("Ġ", digit) for digit in DIGITS]))
    assert found["single"] == 1.0


def test_texts_that_do_not_come_back_are_counted() -> None:
    vocab = {char: n for n, char in enumerate("isthe0123456789Ġ")}  # no n, no o
    found = measure_digits(Tokenizer(vocab, (), (), Pretokenizer.named("whitespace")))
    assert found["single"] == 1.0
    assert found["with_letters"] is None
    assert found["not_restored"] == 96
