"""Chunks encoded in two steps give what the textbook loop over the whole chunk gives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import superwords, tokenizer
from pipeline.kernels.ranks import NO_RANK, find_rank
from pipeline.pretokenizer import Pretokenizer
from pipeline.tokenizer import Tokenizer
from tests import reference

ALPHABET = "Ġabc"
texts = st.text(" abc", max_size=60)


@st.composite
def vocabularies(draw: st.DrawFn) -> Tokenizer:
    """Merges in any order; some are there twice, some make a token that another makes too, or one without a blank late."""
    tokens = list(ALPHABET)
    merges: list[tuple[str, str]] = []
    for _ in range(draw(st.integers(0, 25))):
        pair = draw(st.tuples(st.sampled_from(tokens), st.sampled_from(tokens)))
        if len(pair[0] + pair[1]) <= 12:
            merges.append(pair)
            if pair[0] + pair[1] not in tokens:
                tokens.append(pair[0] + pair[1])
    ids = draw(st.permutations(range(len(tokens))))
    vocab = dict(zip(tokens, ids, strict=True))
    return Tokenizer(vocab, tuple(merges), pretokenizer=Pretokenizer(()))


@pytest.fixture(autouse=True, scope="module")
def always() -> Iterator[None]:
    """Also vocabularies for which two steps do not pay."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(superwords, "_LEAST_SHARE", 0.0)
        patch.setattr(tokenizer, "has_superwords", lambda _: True)
        yield


def naively(made: Tokenizer, text: str) -> list[int]:
    vocab = made.vocab
    ranks = {(vocab[a], vocab[b]): (rank, vocab[a + b]) for rank, (a, b) in enumerate(made.merges)}
    return reference.encode([vocab[char] for char in text.replace(" ", "Ġ")], ranks)


@given(vocabularies(), st.lists(texts, max_size=6))
def test_as_the_textbook(made: Tokenizer, some: list[str]) -> None:
    assert made._superwords is not None
    assert made.encode_batch(some).to_pylist() == [naively(made, text) for text in some]


@given(
    vocabularies(), st.lists(texts, min_size=1, max_size=6), st.integers(1, 40), st.sampled_from([r"b", r" ?a+", r"[ab]+"])
)
def test_wherever_text_is_cut(made: Tokenizer, some: list[str], slice_bytes: int, words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(superwords, "SLICE_BYTES", slice_bytes)
        patch.setattr(superwords, "WORDS", Pretokenizer((words,)))
        assert made.encode_batch(some).to_pylist() == [naively(made, text) for text in some]


@given(vocabularies(), st.lists(texts, min_size=1, max_size=4), st.sampled_from([r" +", r"b", r"\w+"]))
def test_chunks_of_a_pretokenizer(made: Tokenizer, some: list[str], pattern: str) -> None:
    cut = Tokenizer(made.vocab, made.merges, pretokenizer=Pretokenizer((pattern,)))
    expected = [[i for piece in reference.split(text, (pattern,)) for i in naively(made, piece)] for text in some]
    assert cut.encode_batch(some).to_pylist() == expected


@given(vocabularies(), texts)
def test_pairs_inside_tokens_are_all_known(made: Tokenizer, text: str) -> None:
    """Every pair of neighbours, as the first merges leave them, that ends up inside one token."""
    vocab = made.vocab
    encoder = made._superwords
    assert encoder is not None
    inside = encoder._tables.inside
    ranks = sorted({pair: rank for rank, pair in enumerate(made.merges)}.values())
    joins = ["Ġ" in "".join(made.merges[rank]).lstrip("Ġ") for rank in ranks]
    of_first = ranks[: superwords._num_first(np.array(joins, dtype=bool))]
    first = {(vocab[a], vocab[b]): (rank, vocab[a + b]) for rank in of_first for a, b in [made.merges[rank]]}
    before = reference.encode([vocab[char] for char in text.replace(" ", "Ġ")], first)
    lengths = {token_id: len(chars) for chars, token_id in vocab.items()}
    ends = set(np.cumsum([lengths[token] for token in naively(made, text)]).tolist())
    at = 0
    for left, right in itertools.pairwise(before):
        at += lengths[left]
        if at not in ends:
            assert find_rank(inside, np.int64(left), np.int64(right)) != NO_RANK


def test_a_long_chunk_of_one_run() -> None:
    """No pair can be cut: one run of 100,000 tokens goes through the heap."""
    vocab = {"Ġ": 0, "a": 1, "Ġa": 2, "ĠaĠa": 3, "ĠaĠaĠaĠa": 4}
    made = Tokenizer(vocab, (("Ġ", "a"), ("Ġa", "Ġa"), ("ĠaĠa", "ĠaĠa")), pretokenizer=Pretokenizer(()))
    assert made.encode(" a" * 100_003) == [4] * 25_000 + [3, 2]


def test_bytes_without_an_id_join_their_neighbours() -> None:
    made = Tokenizer({"Ġ": 0, "a": 1, "aĠ": 2, "aĠa": 3}, (("a", "Ġ"), ("aĠ", "a")), pretokenizer=Pretokenizer(()))
    assert made.encode_batch(pa.array(["ax x xa", "xxx", ""])).to_pylist() == [[2, 0, 1], [], []]
    assert made.encode("axx xxa") == [3]


def test_a_pair_that_is_given_twice_has_its_later_rank() -> None:
    vocab = {chars: number for number, chars in enumerate(["Ġ", "a", "b", "c", "ab", "bc", "aĠ"])}
    merges = (("a", "b"), ("b", "c"), ("a", "Ġ"), ("a", "b"))
    assert Tokenizer(vocab, merges, pretokenizer=Pretokenizer(())).encode("abc") == [1, 5]


def test_the_first_merges_end_where_many_join_words() -> None:
    joins = np.zeros(100_000, dtype=bool)
    joins[[50, 7000, 7001]] = True  # such as of blanks
    assert superwords._num_first(joins) == 100_000
    joins[80_010::10] = True
    assert superwords._num_first(joins) == 80_010
    assert superwords._num_first(np.ones(5, dtype=bool)) == 0
    assert superwords._num_first(np.zeros(0, dtype=bool)) == 0
