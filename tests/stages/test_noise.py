"""Noise against a twin that goes character by character; boundaries against sets of places."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as OutsideTokenizer
from tokenizers import models, pre_tokenizers

from pipeline.kernels.keys import permute_keys
from pipeline.pretokenizer import Pretokenizer
from pipeline.stages.evaluate import token_starts
from pipeline.stages.holdout import document_keys
from pipeline.stages.noise import FROM_TWO, SINGLE, TO_TWO, Agreement, add_noise, measure_agreement
from pipeline.tokenizer import ForeignTokenizer, Tokenizer
from pipeline.unicode import in_categories
from tests import reference, strategies

IS_LETTER = in_categories(("L",))
BYTES = sorted(reference.CHAR_OF_BYTE.values())
MERGES = (("t", "h"), ("th", "e"), ("Ġ", "the"), ("r", "n"), ("a", "rn"), ("Ġ", "b"), ("a", "m"), ("Ã", "©"), ("Ġb", "arn"))

print_texts = st.text("rncl fiméaoIl10OS5.,mwdk\n\u3000ş中🙂", max_size=60)
"""Characters that noise does something to, and some that it leaves alone."""

rates = st.sampled_from([0.0, 0.05, 0.3, 0.7, 1.0])


def texts_of(texts: Sequence[str]) -> pa.LargeStringArray:
    return pa.array(texts, type=pa.large_string())


def tokenizer_of(merges: Sequence[tuple[str, str]] = MERGES, **options: Any) -> Tokenizer:
    vocab = {token: n for n, token in enumerate([*BYTES, *(a + b for a, b in merges)])}
    return Tokenizer(vocab, tuple(merges), (), Pretokenizer.named("whitespace"), **options)


OURS = tokenizer_of()


def naive_noise(text: str, key: np.uint64, rate: float, seed: int) -> list[tuple[str, int, int]]:
    chances = permute_keys(key + np.arange(len(text), dtype=np.uint64), seed).tolist()
    letters = "".join(char for char in text if IS_LETTER[ord(char)])
    return reference.misread(text, chances, rate, (SINGLE, FROM_TWO, TO_TWO), letters)


# --- the tables -------------------------------------------------------------------------------------------------------


def test_pairs_never_overlap_and_tables_do_not_compete() -> None:
    assert not {pair[0] for pair in FROM_TWO} & {pair[1] for pair in FROM_TWO}
    assert not SINGLE.keys() & TO_TWO.keys()
    assert all(len(pair) == 2 and len(seen) == 1 for pair, seen in FROM_TWO.items())
    assert all(len(char) == 1 and len(seen) == 1 and char != seen for char, seen in SINGLE.items())
    assert all(len(char) == 1 and len(seen) == 2 for char, seen in TO_TWO.items())


# --- noise ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(print_texts, strategies.text), max_size=6), rates, st.integers(0, 2**40))
def test_noise_is_that_of_the_twin(texts: list[str], rate: float, seed: int) -> None:
    clean = texts_of(texts)
    keys = document_keys(clean)
    noisy = add_noise(clean, keys, rate=rate, seed=seed)
    expected = [naive_noise(text, key, rate, seed) for text, key in zip(texts, keys, strict=True)]
    assert noisy.texts.to_pylist() == ["".join(char for char, _, _ in row) for row in expected]
    noisy.texts.validate(full=True)
    before = [0, *accumulate(map(len, texts))]
    origins = [at + start if at >= 0 else -1 for row, start in zip(expected, before, strict=False) for _, at, _ in row]
    assert noisy.origins.tolist() == origins
    sources = [at + start for row, start in zip(expected, before, strict=False) for _, _, at in row]
    assert noisy.sources.tolist() == sources


@given(st.lists(print_texts, max_size=6), rates)
def test_what_stays_is_what_it_was(texts: list[str], rate: float) -> None:
    clean = texts_of(texts)
    noisy = add_noise(clean, document_keys(clean), rate=rate, seed=3)
    before, after = "".join(texts), "".join(noisy.texts.to_pylist())
    kept = [(at, origin) for at, origin in enumerate(noisy.origins.tolist()) if origin >= 0]
    assert all(after[at] == before[origin] for at, origin in kept)
    assert all(first[1] < second[1] for first, second in pairwise(kept))
    if rate == 0:
        assert after == before


def test_the_same_document_has_the_same_noise_anywhere() -> None:
    texts = [f"the barn number {number} burns clearly" for number in range(40)]
    noisy = add_noise(texts_of(texts), document_keys(texts_of(texts)), rate=0.2, seed=1).texts.to_pylist()
    for number, text in enumerate(texts):
        alone = texts_of([text])
        assert add_noise(alone, document_keys(alone), rate=0.2, seed=1).texts.to_pylist() == [noisy[number]]
    other = add_noise(texts_of(texts), document_keys(texts_of(texts)), rate=0.2, seed=2).texts.to_pylist()
    assert sum(one != two for one, two in zip(noisy, other, strict=True)) > 30


def test_about_the_rate_is_hit() -> None:
    text = texts_of(["abcdefgh uvw" * 2000])
    noisy = add_noise(text, document_keys(text), rate=0.1, seed=0)
    changed = 24_000 - int((noisy.origins >= 0).sum())
    assert 0.07 < changed / 24_000 < 0.1  # blanks that are put in leave the characters as they were
    blanks = noisy.texts[0].as_py().count(" ")
    assert blanks != 2000
    assert 1800 < blanks < 2250


# --- where tokens start -----------------------------------------------------------------------------------------------


def naive_starts(tokenizer: Tokenizer, text: str) -> set[int]:
    """Places between characters where a token starts, the first character's included."""
    parts = tokenizer.decode_parts(tokenizer.encode(text))
    at = {len(b"".join(parts[:number])) for number in range(len(parts))}
    starts = [len(text[:place].encode()) for place in range(len(text))]
    return {place for place, byte in enumerate(starts) if byte in at}


@given(st.lists(st.one_of(print_texts, strategies.text), max_size=6))
def test_token_starts(texts: list[str]) -> None:
    found = token_starts(OURS, texts_of(texts))
    before = [0, *accumulate(map(len, texts))]
    expected = {start + place for text, start in zip(texts, before, strict=False) for place in naive_starts(OURS, text)}
    assert set(np.flatnonzero(found.starts).tolist()) == expected
    assert len(found.starts) == sum(map(len, texts))
    assert found.tokens.tolist() == [len(OURS.encode(text)) for text in texts]
    assert found.is_restored.all()


@given(st.lists(st.one_of(print_texts, strategies.text), max_size=6))
def test_token_starts_of_a_foreign_tokenizer(texts: list[str]) -> None:
    ours, foreign = (
        token_starts(t, texts_of(texts)) for t in (OURS, ForeignTokenizer(OutsideTokenizer.from_str(OURS.to_json())))
    )
    assert ours.starts.tolist() == foreign.starts.tolist()
    assert ours.tokens.tolist() == foreign.tokens.tolist()


def test_texts_that_do_not_come_back() -> None:
    tokenizer = Tokenizer({"a": 0, "b": 1}, (), (), Pretokenizer.named("none"))
    found = token_starts(tokenizer, texts_of(["ab", "axb", "", "ba"]))
    assert found.is_restored.tolist() == [True, False, True, True]
    assert found.starts[[0, 1, 5, 6]].all()
    assert found.tokens.tolist() == [2, 2, 0, 2]


# --- agreement --------------------------------------------------------------------------------------------------------


SPACES = "\t\n\v\f\r\x1c-\x1f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def naive_agreement(tokenizer: Tokenizer, texts: list[str], rate: float, seed: int) -> Agreement:
    total = Agreement()
    for text, key in zip(texts, document_keys(texts_of(texts)), strict=True):
        row = naive_noise(text, key, rate, seed)
        noisy = "".join(char for char, _, _ in row)
        pairs = [(place, *row[place - 1][1:], *row[place][1:]) for place in range(1, len(row))]
        places = {source: place for place, _, before, _, source in pairs if source == before + 1}
        intact = {now for _, before, _, now, _ in pairs if before >= 0 and now == before + 1}
        clean = places.keys() & naive_starts(tokenizer, text)
        after = {origin for origin, place in places.items() if place in naive_starts(tokenizer, noisy)}
        words = [match.span() for match in re.finditer(SPACES.join(("[^", "]+")), text)]
        hit = [(a, b) for a, b in words if not {*range(max(a, 1), min(b + 1, len(text)))} <= intact]
        inside = {place for a, b in hit for place in range(a + 1, b)} & places.keys()
        letters = {place for a, b in hit for place in range(a, b)}
        spans, noisy_spans = ({*pairwise([*sorted(naive_starts(tokenizer, t)), len(t)])} for t in (text, noisy))
        image = {place: source for source, place in places.items()} | {0: 0 if row and row[0][2] == 0 else -1}
        image[len(noisy)] = len(text) if row and row[-1][2] == len(text) - 1 else -1
        images = [(image[a], image[b]) for a, b in noisy_spans if a in image and b in image]
        total += Agreement(
            documents=1,
            chars=len(text),
            changed=len(text) - sum(origin >= 0 for _, origin, _ in row),
            places=len(places),
            clean=len(clean),
            noisy=len(after),
            hits=len(clean & after),
            hit_words=len(hit),
            word_places=len(inside),
            word_clean=len(clean & inside),
            word_noisy=len(after & inside),
            word_hits=len(clean & after & inside),
            word_tokens=sum(stop - 1 in letters for _, stop in spans),
            word_noisy_tokens=sum(row[stop - 1][2] in letters for _, stop in noisy_spans),
            word_kept_tokens=sum(span in spans and span[1] - 1 in letters for span in images),
            tokens=len(tokenizer.encode(text)),
            noisy_tokens=len(tokenizer.encode(noisy)),
        )
    return total


@given(st.lists(st.one_of(print_texts, st.text("the barnm", max_size=80)), max_size=6), rates, st.integers(0, 99))
def test_agreement_is_that_of_the_twin(texts: list[str], rate: float, seed: int) -> None:
    found = measure_agreement(OURS, texts_of(texts), rate=rate, seed=seed)
    assert found == naive_agreement(OURS, texts, rate, seed)
    if rate == 0 and found.clean:
        assert found.ratios()["boundary_f1"] == 1.0


@given(st.lists(print_texts, max_size=6), st.integers(0, 6))
def test_agreements_add_up(texts: list[str], cut: int) -> None:
    one, other = (measure_agreement(OURS, texts_of(part), rate=0.2, seed=0) for part in (texts[:cut], texts[cut:]))
    assert one + other == measure_agreement(OURS, texts_of(texts), rate=0.2, seed=0)


def test_the_example() -> None:
    """The barn that burns down to bam: found by trying seeds until r and n are all that is hit."""
    text = texts_of(["the barn"])
    keys = document_keys(text)
    seeds = range(5000)
    seed = next(s for s in seeds if add_noise(text, keys, rate=0.15, seed=s).texts.to_pylist() == ["the bam"])
    merges = (("t", "h"), ("th", "e"), ("Ġ", "b"), ("r", "n"), ("a", "rn"), ("Ġb", "arn"), ("a", "m"))
    found = measure_agreement(tokenizer_of(merges), text, rate=0.15, seed=seed)
    assert found == Agreement(
        documents=1, chars=8, changed=2, places=6, clean=1, noisy=2, hits=1, hit_words=1, word_places=2, word_noisy=1,
        word_tokens=1, word_noisy_tokens=2, tokens=2, noisy_tokens=3,
    )  # fmt: skip
    assert found.ratios() == {
        "boundary_f1": 0.666667, "hit_word_f1": 0.0, "hit_word_token_f1": 0.0,
        "boundaries_kept": 1.0, "changed_fraction": 0.25, "token_growth": 1.5,
    }  # fmt: skip


def test_nothing_to_divide_by() -> None:
    assert set(Agreement().ratios().values()) == {None}
    assert measure_agreement(OURS, texts_of([]), rate=0.1, seed=0) == Agreement()
    assert measure_agreement(OURS, texts_of([""]), rate=0.1, seed=0) == Agreement(documents=1)


def test_documents_that_do_not_come_back_are_counted_and_in_no_other_figure() -> None:
    vocab = {char: n for n, char in enumerate("ab")}
    tokenizer = Tokenizer(vocab, (), (), Pretokenizer.named("none"))
    found = measure_agreement(tokenizer, texts_of(["abab", "abxx", "ba"]), rate=0.0, seed=0)
    assert found == Agreement(
        documents=2, not_restored=1, chars=6, places=4, clean=4, noisy=4, hits=4, tokens=6, noisy_tokens=6
    )  # fmt: skip


@pytest.mark.parametrize("normalizer", ["nfc", "nfd", "nfkc", "lowercase"])
def test_noise_comes_after_the_normalizer(normalizer: str) -> None:
    texts = ["The barn CAFÉ, ﬁne e\u0301 rn " * 8, "Ordinary Words", "e \u0301a \u0301" * 20]
    tokenizer = tokenizer_of(normalizer=normalizer)
    plain = measure_agreement(tokenizer, texts_of(texts), rate=0.0, seed=0)
    assert (plain.documents, plain.not_restored, plain.changed) == (3, 0, 0)
    assert plain.chars == sum(len(tokenizer.normalize(text)) for text in texts)
    assert plain.hits == plain.clean == plain.noisy
    found = measure_agreement(tokenizer, texts_of(texts), rate=0.2, seed=0)
    assert found.documents + found.not_restored == 3
    assert found.documents >= 2
    if normalizer in ("nfc", "nfkc"):
        assert found.not_restored == 1  # a blank that is lost lets the accent join what was before it


def test_a_tokenizer_of_words_stands_noise_better_than_its_opposite() -> None:
    """Letters by themselves are cut the same with and without noise; long tokens are not."""
    texts = texts_of(["the barn the barn the barn"] * 1 + [f"the barn {number}" for number in range(200)])
    letters = measure_agreement(tokenizer_of(()), texts, rate=0.1, seed=0)
    words = measure_agreement(OURS, texts, rate=0.1, seed=0)
    assert letters.ratios()["boundary_f1"] == 1.0
    assert 0.5 < (words.ratios()["boundary_f1"] or 0) < 1.0
    assert (words.ratios()["token_growth"] or 0) > 1.1
    assert dataclasses.asdict(letters)["places"] == words.places


def test_any_other_tokenizer() -> None:
    outside = OutsideTokenizer(models.WordLevel({"the": 0, "barn": 1, "?": 2}, unk_token="?"))
    outside.pre_tokenizer = pre_tokenizers.Whitespace()
    found = token_starts(ForeignTokenizer(outside), texts_of(["the barn", "", " x"]))
    assert found.starts.tolist() == [True, False, False, True, False, False, False, False, True, False]
    assert found.tokens.tolist() == [2, 0, 1]
