"""Training of roots, pieces and costs: what must hold for any words, and examples worked by hand."""

from __future__ import annotations

import functools
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.arrow import Rows, rows_of
from pipeline.errors import DataError
from pipeline.exports.tokenization_morph import Model
from pipeline.morph import NUM_BYTES, MorphTokenizer
from pipeline.morphology import compile_language
from pipeline.trainers import morph
from pipeline.trainers.bpe import BpeOptions, train_bpe
from pipeline.trainers.morfessor import MOST_AFFIXES, learn_language
from pipeline.trainers.morph import BIT, MorphOptions, TrainedMorph, bits, cut_at_morphemes, train_morph
from tests.languages import packs
from tests.languages.packs import SPECIALS

Counts = Mapping[bytes, int]


def rows(counts: Counts) -> tuple[Rows, np.ndarray]:
    words = rows_of(pa.array(list(counts), type=pa.large_binary()))
    return words, np.array(list(counts.values()), dtype=np.int64)


def model(roots: str = packs.ROOTS, **options: Any) -> MorphTokenizer:
    """With the roots, and no pieces."""
    return packs.tokenizer_of([], morphology=packs.morphology_of(roots=roots), **options)


def train(counts: Counts, tokenizer: MorphTokenizer | None = None, **options: Any) -> TrainedMorph:
    return train_morph(*rows(counts), tokenizer or model(), MorphOptions(**{"root_share": 0.5, **options}))


def least(tokenizer: MorphTokenizer | None = None) -> int:
    """Ids of special tokens, markers, affixes and bytes."""
    tokenizer = tokenizer or model()
    return tokenizer.vocab_size - len(tokenizer.morphology.roots)


def roots_of(tokenizer: MorphTokenizer) -> list[str]:
    return [root.forms[0] for root in tokenizer.morphology.roots]


@functools.cache
def corpus() -> dict[bytes, int]:
    """Some thousand words of the made-up language, with case and clitics, and what is none of its."""
    chance = random.Random(0)
    counts: Counter[bytes] = Counter()
    for _ in range(2_500):
        stem = chance.choice([*packs.FORMS, "kalem", "masa", "bilgisayar", "zz", "x9", "öz"])
        word = stem + "".join(chance.choices(packs.SURFACES, k=chance.randrange(3)))
        word = chance.choice([str, str, str, str.title, str.upper])(word)
        counts[(chance.choice([" ", " ", " ", ""]) + word).encode()] += chance.randint(1, 9)
    for word in (*packs.CLITICS, " ", "\n", "  ", ".", ",", "😀", " İZMİR'DE", " Ali'de"):
        counts[word.encode()] += chance.randint(1, 99)
    return dict(counts)


word_counts = st.dictionaries(
    packs.text.map(lambda text: text.strip()[:12]).filter(bool).map(str.encode), st.integers(1, 50), min_size=1, max_size=25
)


# --- examples ---------------------------------------------------------------------------------------------------------


def test_the_example_of_the_docstring() -> None:
    """Of the pairs of " xq", both of them there twice, BPE takes ``xq``: the blank's character is behind all letters."""
    tokenizer = model("ev noun -\nevet noun -\n")
    trained = train({b" evler": 3, b" xq": 2}, tokenizer, vocab_size=least(tokenizer) + 2)
    assert roots_of(trained.tokenizer) == ["ev"]
    assert trained.tokenizer.pieces == (b"xq",)
    assert packs.names(trained.tokenizer, " evler") == ["ev", "-PL"]
    assert packs.names(trained.tokenizer, " xq") == ["'Ġ'", "'xq'"]
    counts = {name: int(trained.id_counts[token_id]) for name, token_id in trained.tokenizer.vocab.items()}
    assert {name: count for name, count in counts.items() if count} == {"ev": 3, "-PL": 3, "'Ġ'": 2, "'xq'": 2}


def test_costs_are_bits_of_what_was_counted_before() -> None:
    """Ten ids in all: half of an occurrence for those that do not occur."""
    tokenizer = model("ev noun -\nevet noun -\n")
    trained = train({b" evler": 3, b" xq": 2}, tokenizer, vocab_size=least(tokenizer) + 2).tokenizer
    cost = {name: trained.costs[token_id] for name, token_id in trained.vocab.items()}
    assert cost["ev"] == cost["-PL"] == bits(10, 3)
    assert cost["'Ġ'"] == cost["'xq'"] == bits(10, 2)
    assert cost["<|join|>"] == cost["-ACC"] == cost["'Z'"] == bits(20, 1)
    assert trained.literal_cost == morph.LITERAL_COST


@pytest.mark.parametrize("num", [1, 2, 3, 4, 5, 9])
def test_of_roots_used_alike_the_first_in_the_table_is_taken(num: int) -> None:
    counts = {b" oda": 4, b" ev": 4, b" kitap": 4, b" deniz": 5, b" al": 1}
    for order in (list(counts), list(reversed(counts)), sorted(counts)):
        trained = train({word: counts[word] for word in order}, vocab_size=least() + num, root_share=1.0).tokenizer
        assert roots_of(trained) == ["deniz", "kitap", "ev", "oda", "al"][:num]
        assert trained.vocab_size == least() + min(num, 5)


def test_roots_and_merges_below_the_least_count_are_left_out() -> None:
    counts = {b" ev": 5, b" evcik": 1, b" oda": 2, b" odaya": 1, b" kitap": 2, b"qq": 3, b"ww": 2}
    trained = train(counts, vocab_size=least() + 50, min_count=3).tokenizer
    assert roots_of(trained) == ["ev", "oda"]
    assert b"qq" in trained.pieces
    assert b"ww" not in trained.pieces
    assert b"ki" not in trained.pieces
    assert roots_of(train(counts, vocab_size=least() + 50, min_count=4).tokenizer) == ["ev"]
    assert roots_of(train(counts, vocab_size=least() + 50, min_count=1).tokenizer) == ["ev", "oda", "kitap"]


def test_the_share_of_roots_is_of_the_room() -> None:
    for share, num in [(0.0, 0), (0.1, 1), (0.5, 5), (1.0, 10)]:
        trained = train(corpus(), vocab_size=least() + 10, root_share=share).tokenizer
        assert len(trained.morphology.roots) == num
        assert len(trained.pieces) == 10 - num


def test_room_too_small() -> None:
    message = rf"vocab_size is {least() - 1}; special tokens, markers, affixes and bytes alone are {least()}"
    with pytest.raises(DataError, match=message):
        train(corpus(), vocab_size=least() - 1)
    trained = train(corpus(), vocab_size=least()).tokenizer
    assert trained.vocab_size == least()
    assert (trained.pieces, trained.morphology.roots) == ((), ())
    assert trained.decode(trained.encode(" kitabı")) == " kitabı"


def test_no_literal_runs() -> None:
    trained = train({b" evler": 3, b" odada": 2}, vocab_size=least() + 50)
    assert trained.tokenizer.pieces == ()
    assert trained.tokenizer.vocab_size == least() + 2
    assert int(trained.id_counts[least() - NUM_BYTES + 2 :].sum()) == 0


def test_no_words() -> None:
    trained = train({}, vocab_size=least() + 50)
    assert (trained.tokenizer.pieces, trained.tokenizer.morphology.roots) == ((), ())
    assert trained.id_counts.tolist() == [0] * least()


def test_pieces_are_no_longer_than_tokens_of_bpe_may_be() -> None:
    """Shorter than the limit."""
    pieces = train(corpus(), vocab_size=least() + 300, max_token_length=4).tokenizer.pieces
    assert max(map(len, pieces)) == 3
    assert max(map(len, train(corpus(), vocab_size=least() + 300).tokenizer.pieces)) > 3


# --- what must always hold --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segmentation", ["viterbi", "longest"])
def test_the_order_of_words_and_slices_does_not_matter(segmentation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = model(segmentation=segmentation)
    expected = train(corpus(), tokenizer, vocab_size=least() + 60)
    shuffled = list(corpus().items())
    for slice_bytes in (1, 100, 5_000):
        monkeypatch.setattr(morph, "SLICE_BYTES", slice_bytes)
        random.Random(slice_bytes).shuffle(shuffled)
        found = train(dict(shuffled), tokenizer, vocab_size=least() + 60)
        assert found.tokenizer.to_json() == expected.tokenizer.to_json()
        assert found.id_counts.tolist() == expected.id_counts.tolist()


@settings(max_examples=settings().max_examples // 2)
@given(word_counts, st.integers(0, 30), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 3), st.randoms())
def test_the_order_of_any_words_does_not_matter(
    counts: Counts, more: int, share: float, min_count: int, chance: random.Random
) -> None:
    options: dict[str, Any] = {"vocab_size": least() + more, "root_share": share, "min_count": min_count}
    trained = train(counts, **options)
    shuffled = list(counts.items())
    chance.shuffle(shuffled)
    assert train(dict(shuffled), **options).tokenizer.to_json() == trained.tokenizer.to_json()
    assert trained.tokenizer.vocab_size <= least() + more
    assert len(trained.tokenizer.morphology.roots) <= round(share * more)
    for word in counts:
        assert trained.tokenizer.decode_bytes(trained.tokenizer.encode(word.decode())) == word


@pytest.mark.parametrize("more", [0, 1, 20, 100])
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_the_vocabulary_is_as_large_as_it_is_wanted(more: int, share: float) -> None:
    """Roots that no word uses leave their room to pieces."""
    trained = train(corpus(), vocab_size=least() + more, root_share=share)
    tokenizer = trained.tokenizer
    assert tokenizer.vocab_size == least() + more == len(tokenizer.costs) == len(trained.id_counts)
    assert len(tokenizer.morphology.roots) == min(round(share * more), len(packs.morphology_of().roots))
    assert len(tokenizer.vocab) == tokenizer.vocab_size
    assert len(set(tokenizer.pieces)) == len(tokenizer.pieces)
    assert min(map(len, tokenizer.pieces), default=2) >= 2
    assert tokenizer.special_tokens == SPECIALS


def test_ids_are_counted_as_the_tokenizer_cuts() -> None:
    """Each word by itself, and what may be a clitic is one."""
    trained = train(corpus(), vocab_size=least() + 60)
    twin = Model(json.loads(trained.tokenizer.to_json()))
    counts: Counter[int] = Counter()
    for word, count in corpus().items():
        for token_id in twin.encode_word(word.decode(), True):
            counts[token_id] += count
    assert trained.id_counts.tolist() == [counts[token_id] for token_id in range(trained.tokenizer.vocab_size)]
    assert counts[trained.tokenizer.id_of("-MI")] > 0


def test_training_makes_text_shorter() -> None:
    def num_ids(more: int) -> int:
        trained = train(corpus(), vocab_size=least() + more)
        return int(trained.id_counts.sum())

    sizes = [num_ids(more) for more in (0, 10, 40, 160)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2


# --- bits -------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10**15), st.integers(1, 10**15))
def test_bits_are_exact(total: int, count: int) -> None:
    """The most of 1/256 bit that the ratio is not below."""
    found = bits(total, count)
    ratio = Fraction(total, count) ** BIT
    if total < count:
        assert found == 0
        return
    assert 2**found <= ratio < 2 ** (found + 1)
    assert abs(found / BIT - math.log2(total / count)) < 1 / BIT + 1e-9


def test_bits_as_the_docstring_has_them() -> None:
    assert bits(8, 1) == 768
    assert bits(3, 1) == 405
    assert [bits(2**n, 1) for n in range(60)] == [BIT * n for n in range(60)]
    assert bits(7, 7) == bits(1, 9) == 0


# --- morphemes of words -----------------------------------------------------------------------------------------------


def cut(counts: Counts, roots: str = packs.ROOTS) -> dict[bytes, int]:
    found, found_counts = cut_at_morphemes(*rows(counts), model(roots))
    values, offsets = found.values.tobytes(), found.offsets.tolist()
    pieces = [values[start:stop] for start, stop in itertools.pairwise(offsets)]
    assert pieces == sorted(set(pieces))
    return dict(zip(pieces, found_counts.tolist(), strict=True))


def test_cut_as_the_docstring_has_it() -> None:
    expected = {b" ev": 3, b"ler": 2, b"de": 2, b"xq": 1}
    assert cut({b" evlerde": 2, b" evxq": 1}, "ev noun -\n") == expected


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        (" evlerde", [" evler", "de"]),
        ("Evlerde", ["Evler", "de"]),
        (" EVLERDE", [" EVLER", "DE"]),
        (" kitabı", [" kitab", "ı"]),
        (" İzmir'de", [" İzmir", "'", "de"]),
        (" de", [" de"]),  # a root here; clitics do not take part
        (" mı", [" mı"]),
        (" zzler", [" zzler"]),  # nothing says which
        (" qeler", [" qe", "ler"]),
        (" xq", [" xq"]),
        (" 😀", [" 😀"]),
        (" ", [" "]),
    ],
)
def test_words_are_cut_at_morphemes(word: str, pieces: list[str]) -> None:
    """A marker stays with its root, and bytes between morphemes stay together."""
    assert (
        cut({word.encode(): 7}) == {piece.encode(): 7 for piece in pieces} if word != "中文ler" else cut({word.encode(): 7})
    )


def test_the_pieces_join_back_to_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte as often as in the words."""

    def num_of_each_byte(counts: Counts) -> Counter[int]:
        found: Counter[int] = Counter()
        for piece, count in counts.items():
            for byte in piece:
                found[byte] += count
        return found

    whole = cut(corpus())
    assert num_of_each_byte(whole) == num_of_each_byte(corpus())
    assert sum(len(piece) * count for piece, count in whole.items()) == sum(len(w) * count for w, count in corpus().items())
    monkeypatch.setattr(morph, "SLICE_BYTES", 50)
    assert cut(dict(reversed(corpus().items()))) == whole


@given(packs.text.map(str.strip).filter(bool))
def test_the_pieces_of_a_word_join_back_to_it(text: str) -> None:
    word = text[:60].encode()
    pieces = cut({word: 1})
    if all(count == 1 for count in pieces.values()) and len(pieces) <= 6:
        assert any(b"".join(order) == word for order in itertools.permutations(pieces))
    assert sorted(byte for piece, count in pieces.items() for byte in piece * count) == sorted(word)


def test_bpe_within_morphemes_never_merges_across_their_borders() -> None:
    """A ``y`` stands before affixes alone, and a ``v`` at the end of a root."""
    counts = {f" ev{suffix}".encode(): 50 for suffix in ("", "ler", "lerde", "lerde", "e", "de", "cik")}
    counts |= {f" oda{suffix}".encode(): 70 for suffix in ("ya", "yı", "larda", "cık")}
    words, word_counts = cut_at_morphemes(*rows(counts), model("ev noun -\noda noun -\n"))
    trained = train_bpe(words, word_counts, BpeOptions(vocab_size=NUM_BYTES + 100))
    tokens = list(trained.vocab)[NUM_BYTES:]
    assert {"Ġev", "Ġoda", "ler", "de", "ya"} <= set(tokens)
    borders = ("vl", "ve", "vd", "vc", "rd", "ay", "al", "ac")
    assert not [token for token in tokens for border in borders if border in token]
    across = train_bpe(*rows(counts), BpeOptions(vocab_size=NUM_BYTES + 100))
    assert [token for token in across.vocab for border in borders if border in token]  # else this shows nothing


# --- Morfessor --------------------------------------------------------------------------------------------------------

STEMS = ["walk", "talk", "jump", "play", "look", "call", "open", "help", "work", "paint", "clean", "start", "count", "print"]
ENGLISH = {
    f" {stem}{suffix}".encode(): 5 + n for n, stem in enumerate(STEMS) for suffix in ("", "s", "ing", "ed", "er", "ers")
}


def test_morfessor_finds_roots_and_affixes() -> None:
    language = learn_language(*rows(ENGLISH))
    affixes = {affix.name for affix in language.affixes}
    roots = {root.text for root in language.roots}
    assert {"ing", "ed", "er"} & affixes
    assert len(roots & set(STEMS)) > len(STEMS) / 2
    tokenizer = packs.tokenizer_of([], morphology=compile_language(language))
    trained = train(ENGLISH, tokenizer, vocab_size=least(tokenizer) + 200, root_share=0.9).tokenizer
    assert packs.names(trained, " walking")[0] == "walk"
    for word in (" WALKING", "Talked", " untalkative", " ing", "ing"):
        assert trained.decode(trained.encode(word)) == word


def test_morfessor_gives_the_same_each_time_and_leaves_chance_alone() -> None:
    random.seed(42)
    expected = [random.random() for _ in range(3)]
    random.seed(42)
    first = learn_language(*rows(ENGLISH))
    assert [random.random() for _ in range(3)] == expected
    random.seed(7)
    assert learn_language(*rows(dict(reversed(ENGLISH.items())))) == first
    assert compile_language(first).to_json() == compile_language(learn_language(*rows(ENGLISH))).to_json()


def test_morfessor_hears_words_of_letters_alone() -> None:
    """In lower case and without the blank; the counts of all ways to write a word are one."""
    strange = {b" walk1": 9, b"...": 9, b" \xff\xfe": 9, b" don't": 9, "straße".encode(): 9, b" ": 9}
    assert learn_language(*rows({**ENGLISH, **strange})) == learn_language(*rows(ENGLISH))
    cased = {word.title() if n % 2 else word.upper().strip(): 1 for n, word in enumerate(ENGLISH)}
    assert learn_language(*rows(cased)) == learn_language(*rows(dict.fromkeys(ENGLISH, 1)))


@pytest.mark.parametrize("counts", [{}, {b" 1": 3}, {b" a": 1}, {b" a": 1, b"b": 2}])
def test_morfessor_of_next_to_nothing(counts: Counts) -> None:
    language = learn_language(*rows(counts))
    assert language.affixes == ()
    assert [root.text for root in language.roots] == sorted(word.decode().strip() for word in counts if word != b" 1")
    tokenizer = packs.tokenizer_of([], morphology=compile_language(language))
    trained = train(counts, tokenizer, vocab_size=least(tokenizer) + 9).tokenizer
    assert trained.decode(trained.encode(" a ab 1")) == " a ab 1"


def test_affixes_are_the_most_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    every = [affix.name for affix in learn_language(*rows(ENGLISH)).affixes]
    monkeypatch.setattr("pipeline.trainers.morfessor.MOST_AFFIXES", 2)
    assert [affix.name for affix in learn_language(*rows(ENGLISH)).affixes] == every[:2]
    assert len(every) <= MOST_AFFIXES
