"""Measures of morphology: worked examples by hand, slow twins, and what must hold for any words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.morphology import (
    PARTS,
    WARNING,
    Analyzed,
    Both,
    Boundaries,
    Consistency,
    Morphemes,
    MorphScore,
    Segmented,
    Validity,
    align_canonical,
    canonical_morphemes,
    count_boundaries,
    count_consistency,
    count_morph_score,
    count_morphemes,
    count_validity,
    edit_distance,
    first_boundary,
)

# --- words at random --------------------------------------------------------------------------------------------------


def cut(word: str, bits: int) -> list[str]:
    """A word cut before each letter whose bit is set."""
    pieces = [""]
    for place, char in enumerate(word):
        if bits >> place & 1:
            pieces.append("")
        pieces[-1] += char
    return pieces


@st.composite
def segmented_words(draw: st.DrawFn) -> Segmented:
    word = draw(st.text("abğ", min_size=1, max_size=9))
    one, other = draw(st.integers(0, 511)), draw(st.integers(0, 511))
    return Segmented(word, cut(word, one), cut(word, other), draw(st.integers(1, 5)))


@st.composite
def analyzed_words(draw: st.DrawFn) -> Analyzed:
    items = st.lists(st.sampled_from(["a", "b", "", 1, 2, (1, "a")]), max_size=4)
    return Analyzed(draw(st.text("abcd", max_size=3)), draw(items), draw(items), draw(st.integers(1, 5)))


segmented_lists = st.lists(segmented_words(), max_size=8)
analyzed_lists = st.lists(analyzed_words(), max_size=12, unique_by=lambda analyzed: analyzed.word)


# --- slow twins -------------------------------------------------------------------------------------------------------


def is_cut(pieces: Sequence[str], place: int) -> bool:
    """Whether some pieces end exactly there."""
    return any(len("".join(pieces[:count])) == place for count in range(len(pieces) + 1))


def naive_boundaries(words: Sequence[Segmented]) -> dict[str, Fraction]:
    """Every place between two letters of every occurrence, one after the other."""
    found = {"words": 0, "too_short": 0, "hits": 0, "predicted": 0, "gold": 0, "all_right": 0}
    precisions, recalls = [], []
    for word, pieces, morphs, weight in words:
        for _ in range(weight):
            if len(word) < 2:
                found["too_short"] += 1
                continue
            found["words"] += 1
            places = range(1, len(word))
            ours, golds = [is_cut(pieces, place) for place in places], [is_cut(morphs, place) for place in places]
            hits = sum(a and b for a, b in zip(ours, golds, strict=True))
            found["hits"] += hits
            found["predicted"] += sum(ours)
            found["gold"] += sum(golds)
            found["all_right"] += ours == golds
            precisions.append(Fraction(hits, sum(ours)) if any(ours) else Fraction(1))
            recalls.append(Fraction(hits, sum(golds)) if any(golds) else Fraction(1))
    parts = {"precision_parts": sum(precisions, Fraction()) * PARTS, "recall_parts": sum(recalls, Fraction()) * PARTS}
    return {**{name: Fraction(count) for name, count in found.items()}, **parts}


def naive_consistency(words: Sequence[Analyzed]) -> tuple[int, int, int]:
    """All pairs, one after the other."""
    pairs = list(combinations(words, 2))
    share_token = [bool(set(one.tokens) & set(other.tokens)) for one, other in pairs]
    share_morpheme = [bool(set(one.morphemes) & set(other.morphemes)) for one, other in pairs]
    return sum(share_token), sum(share_morpheme), sum(a and b for a, b in zip(share_token, share_morpheme, strict=True))


def naive_distance(one: Sequence[object], other: Sequence[object]) -> int:
    """Every way to edit."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        naive_distance(one[1:], other) + 1,
        naive_distance(one, other[1:]) + 1,
        naive_distance(one[1:], other[1:]) + (one[0] != other[0]),
    )


# --- validity and purity ----------------------------------------------------------------------------------------------

WORDS = {"ev", "evler", "ler", "ışık"}
PURE = {"ev", "ler", "ışık"}


def turkish_lower(text: str) -> str:
    return text.replace("I", "ı").replace("İ", "i").lower()


def validity(texts: Sequence[str], counts: Sequence[int], **options: object) -> Both[Validity]:
    id_counts = np.array(counts, dtype=np.int64)
    return count_validity(texts, id_counts, **{"is_valid": WORDS, "is_pure": PURE, **options})  # type: ignore[arg-type]


def test_validity_by_type_and_by_occurrence() -> None:
    found = validity([" evler", "ev", "ev ", "xq", ".", "42", "ler"], [2, 1, 3, 4, 5, 6, 0])
    # Texts: evler (2 times), ev (1 + 3), xq (4); "." and "42" have no letter, "ler" does not occur.
    assert found.by_type == Validity(total=6, left_out=2, counted=3, valid=2, pure=1)
    assert found.by_occurrence == Validity(total=21, left_out=11, counted=10, valid=6, pure=4)
    assert found.by_type.ratios() == {"valid_fraction": 0.666667, "pure_fraction": 0.333333, "left_out_fraction": 0.333333}
    assert found.by_occurrence.ratios() == {"valid_fraction": 0.6, "pure_fraction": 0.4, "left_out_fraction": 0.52381}


def test_the_ranking_of_two_tokenizers_flips_with_the_weights() -> None:
    """One has many whole words and cuts the rest into rare junk; the other has few words, but those that are frequent."""
    many = validity(["ev", "ler", "evler", "ışık", "xq"], [1, 1, 1, 1, 16])
    few = validity(["ev", "xa", "xb", "xc"], [17, 1, 1, 1])
    assert many.by_type.ratios()["valid_fraction"] == 0.8
    assert few.by_type.ratios()["valid_fraction"] == 0.25
    assert many.by_occurrence.ratios()["valid_fraction"] == 0.2
    assert few.by_occurrence.ratios()["valid_fraction"] == 0.85


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t", "\u00a0", ".", "!?", "42", "½", "\ufffd", "\ufffd\ufffd", "_", "😀", "\u0301"]
)
def test_what_has_no_letter_is_left_out(text: str) -> None:
    found = validity([text], [3], is_valid=lambda _: True)
    assert found == Both(Validity(total=1, left_out=1), Validity(total=3, left_out=3))
    assert found.by_type.ratios() == {"valid_fraction": None, "pure_fraction": None, "left_out_fraction": 1.0}


@pytest.mark.parametrize("text", ["a", "'s", "a\ufffd", "<pad>", "中", "x2"])
def test_what_has_a_letter_counts(text: str) -> None:
    assert validity([text], [3]).by_occurrence == Validity(total=3, counted=3)


def test_special_ids_are_left_out_whatever_their_text() -> None:
    assert validity(["ev", "<pad>"], [1, 1], special_ids=[1]).by_type == Validity(2, 1, 1, 1, 1)


def test_the_lower_case_is_that_of_the_language() -> None:
    assert validity(["IŞIK"], [1], lower=turkish_lower).by_type.valid == 1
    assert validity(["IŞIK"], [1]).by_type.valid == 0  # "işik"


def test_a_text_is_asked_for_as_it_is_first() -> None:
    found = validity(["Ev", "EV"], [1, 1], is_valid={"Ev"}, is_pure={"ev"})
    assert (found.by_type.valid, found.by_type.pure) == (1, 2)
    assert found.by_type.counted == 2  # two types: the case tells them apart


def test_a_function_does_as_well_as_a_set() -> None:
    texts, counts = ["ev", "xq", "EVLER"], [1, 2, 3]
    assert validity(texts, counts) == validity(texts, counts, is_valid=lambda t: t in WORDS, is_pure=lambda t: t in PURE)


def test_no_tokens_at_all() -> None:
    assert validity([], []) == Both(Validity(), Validity())
    assert set(Validity().ratios().values()) == {None}


def test_validity_needs_a_text_for_each_count() -> None:
    with pytest.raises(ValueError, match="2 texts and 1 counts"):
        validity(["a", "b"], [1])
    with pytest.raises(ValueError, match="id 1 occurs -2 times"):
        validity(["a", "b"], [1, -2])


def test_validity_cannot_be_added() -> None:
    """By type that would count a text twice that occurs in both parts; counts of ids can be added."""
    one = validity(["ev"], [1])
    with pytest.raises(TypeError):
        one + one


token_counts = st.lists(st.integers(0, 3), min_size=6, max_size=6)


@given(token_counts, token_counts)
def test_occurrences_add_up_and_types_do_not_exceed_them(one: list[int], other: list[int]) -> None:
    texts = ["ev", " ev", "xq", ".", "Evler", "ler"]
    parts = [asdict(validity(texts, counts).by_occurrence) for counts in (one, other)]
    whole = validity(texts, [a + b for a, b in zip(one, other, strict=True)])
    assert asdict(whole.by_occurrence) == {name: parts[0][name] + parts[1][name] for name in parts[0]}
    assert all(types <= asdict(whole.by_occurrence)[name] for name, types in asdict(whole.by_type).items())


@given(token_counts)
def test_counts_of_one_and_distinct_texts_make_types_of_occurrences(counts: list[int]) -> None:
    found = validity(["ev", "a", "xq", ".", "Evler", "ler"], [min(count, 1) for count in counts])
    assert found.by_type == found.by_occurrence


# --- boundaries -------------------------------------------------------------------------------------------------------


def test_boundaries_by_hand() -> None:
    found = count_boundaries(
        [Segmented("evlerde", ["ev", "lerde"], ["ev", "ler", "de"]), Segmented("ev", ["e", "v"], ["ev"], 3)]
    )
    assert found.by_type == Boundaries(
        words=2, hits=1, predicted=2, gold=2, precision_parts=PARTS, recall_parts=PARTS // 2 + PARTS
    )
    assert found.by_type.ratios() == {
        "precision": 0.5, "recall": 0.5, "f1": 0.5,
        "macro_precision": 0.5, "macro_recall": 0.75, "macro_f1": 0.6,
        "all_right_fraction": 0.0, "over_segmentation": 0.5, "under_segmentation": 0.5,
    }  # fmt: skip
    assert found.by_occurrence == Boundaries(
        words=4, hits=1, predicted=4, gold=2, precision_parts=PARTS, recall_parts=PARTS // 2 + 3 * PARTS
    )
    assert found.by_occurrence.ratios() == {
        "precision": 0.25, "recall": 0.5, "f1": 0.333333,
        "macro_precision": 0.25, "macro_recall": 0.875, "macro_f1": 0.388889,
        "all_right_fraction": 0.0, "over_segmentation": 0.75, "under_segmentation": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pieces", "morphs", "precision", "recall", "right"),
    [
        ("ev", "ev", 1, 1, 1),
        ("e v", "ev", 0, 1, 0),
        ("ev", "e v", 1, 0, 0),
        ("e v", "e v", 1, 1, 1),
        ("ev ler", "evl er", 0, 0, 0),
        ("ev l er", "ev ler", Fraction(1, 2), 1, 0),
    ],
)
def test_precision_and_recall_of_one_word(pieces: str, morphs: str, precision: float, recall: float, right: int) -> None:
    word = pieces.replace(" ", "")
    found = count_boundaries([Segmented(word, pieces.split(), morphs.split())]).by_type
    assert (found.precision_parts, found.recall_parts, found.all_right) == (precision * PARTS, recall * PARTS, right)


def test_nothing_right_at_all_is_a_macro_f1_of_zero() -> None:
    ratios = count_boundaries([Segmented("evler", ["evl", "er"], ["ev", "ler"])]).by_type.ratios()
    assert (ratios["macro_f1"], ratios["f1"]) == (0.0, 0.0)


def test_words_that_cannot_be_cut_are_counted_apart() -> None:
    found = count_boundaries([Segmented("o", ["o"], ["o"], 4), Segmented("", [], [""]), Segmented("ev", ["ev"], ["ev"])])
    assert found.by_type == Boundaries(words=1, too_short=2, all_right=1, precision_parts=PARTS, recall_parts=PARTS)
    assert found.by_occurrence.too_short == 5


def test_no_words() -> None:
    assert count_boundaries([]) == Both(Boundaries(), Boundaries())
    assert set(Boundaries().ratios().values()) == {None}


def test_words_without_boundaries_have_nothing_to_divide_by_but_their_own_scores() -> None:
    ratios = count_boundaries([Segmented("ev", ["ev"], ["ev"])]).by_type.ratios()
    assert [ratios[name] for name in ("precision", "recall", "f1", "over_segmentation", "under_segmentation")] == [None] * 5
    assert [ratios[name] for name in ("macro_precision", "macro_recall", "macro_f1", "all_right_fraction")] == [1.0] * 4


@given(segmented_words(), st.lists(st.integers(0, 9), max_size=4))
def test_empty_pieces_change_nothing(segmented: Segmented, places: list[int]) -> None:
    pieces = list(segmented.pieces)
    for place in places:
        pieces.insert(place, "")
    assert count_boundaries([segmented._replace(pieces=pieces)]) == count_boundaries([segmented])


@pytest.mark.parametrize("count", [count_boundaries, count_morph_score])
@pytest.mark.parametrize(
    ("segmented", "message"),
    [
        (Segmented("evler", ["ev", "le"], ["ev", "ler"]), r"word 'evler': its pieces are \['ev', 'le'\]"),
        (Segmented("evler", ["ev", "ler"], ["ev", "lar"]), r"word 'evler': its morphs are \['ev', 'lar'\]"),
        (Segmented("evler", [], ["evler"]), "word 'evler': its pieces"),
        (Segmented("ev", [" ev"], ["ev"]), "word 'ev': its pieces"),
        (Segmented("ev", ["ev"], ["ev"], 0), "word 'ev': its weight is 0"),
    ],
)
def test_what_does_not_fit_names_the_word(count: object, segmented: Segmented, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count([Segmented("a", ["a"], ["a"]), segmented])  # type: ignore[operator]


@given(segmented_lists)
def test_boundaries_are_those_of_the_slow_twin(words: list[Segmented]) -> None:
    found = count_boundaries(words)
    assert asdict(found.by_occurrence) == naive_boundaries(words)
    assert asdict(found.by_type) == naive_boundaries([word._replace(weight=1) for word in words])


def test_words_of_very_many_boundaries_are_rounded() -> None:
    word = "a" * 20
    for wanted in range(20):
        segmented = [Segmented(word, list(word), cut(word, 2 ** (wanted + 1) - 2))]
        found, exact = count_boundaries(segmented).by_type, naive_boundaries(segmented)
        assert abs(found.precision_parts - exact["precision_parts"]) <= Fraction(1, 2)
        assert found.recall_parts == exact["recall_parts"]


@given(segmented_lists)
def test_a_perfect_segmentation_is_perfect(words: list[Segmented]) -> None:
    ratios = count_boundaries([word._replace(pieces=word.morphs) for word in words]).by_occurrence.ratios()
    wrong = {ratios.pop("over_segmentation"), ratios.pop("under_segmentation")}
    assert set(ratios.values()) <= {1.0, None}
    assert wrong <= {0.0, None}


# --- MorphScore -------------------------------------------------------------------------------------------------------


def test_morph_score_by_hand() -> None:
    words = [
        Segmented("evlerde", ["ev", "ler", "de"], ["ev", "lerde"], 2),
        Segmented("evlere", ["evl", "ere"], ["ev", "lere"], 5),
        Segmented("evleri", ["evleri"], ["ev", "leri"], 7),
        Segmented("eve", ["", "eve", ""], ["ev", "e"]),  # empty pieces do not cut: whole
        Segmented("ev", ["e", "v"], ["ev"], 3),  # no gold boundary
    ]
    found = count_morph_score(words)
    assert found.by_type == MorphScore(words=5, no_gold=1, whole=2, hits=1)
    assert found.by_type.ratios() == {"morph_score": 0.5, "whole_fraction": 0.5}
    assert found.by_occurrence == MorphScore(words=18, no_gold=3, whole=8, hits=2)
    assert found.by_occurrence.ratios() == {"morph_score": round(2 / 7, 6), "whole_fraction": round(8 / 15, 6)}


def test_the_first_boundary_counts_or_another_one() -> None:
    segmented = Segmented("evlerde", ["evler", "de"], ["ev", "ler", "de"])
    assert first_boundary(segmented) == 2
    assert count_morph_score([segmented]).by_type.hits == 0
    assert count_morph_score([segmented], lambda s: len(s.word) - len(s.morphs[-1])).by_type.hits == 1
    given = {"evlerde": 5}
    words = [segmented, Segmented("evde", ["ev", "de"], ["ev", "de"])]
    assert count_morph_score(words, lambda s: given.get(s.word)).by_type == MorphScore(words=2, no_gold=1, hits=1)


@pytest.mark.parametrize("boundary", [-1, 0, 2, 9])
def test_a_boundary_outside_of_its_word(boundary: int) -> None:
    with pytest.raises(ValueError, match=f"word 'ev': its gold boundary is {boundary}"):
        count_morph_score([Segmented("ev", ["ev"], ["ev"])], lambda _: boundary)


def test_no_morph_score_without_words_that_are_cut() -> None:
    assert count_morph_score([]).by_type.ratios() == {"morph_score": None, "whole_fraction": None}
    assert count_morph_score([Segmented("evde", ["evde"], ["ev", "de"])]).by_type.ratios()["morph_score"] is None
    assert count_morph_score([Segmented("o", ["o"], ["o"])]).by_type == MorphScore(words=1, no_gold=1)


@given(segmented_lists)
def test_a_perfect_morph_score(words: list[Segmented]) -> None:
    found = count_morph_score([word._replace(pieces=word.morphs) for word in words]).by_type
    assert found.hits == found.scored == found.words - found.no_gold
    assert found.whole == 0


# --- tokens and morphemes ---------------------------------------------------------------------------------------------


def test_morphemes_by_hand() -> None:
    words = [
        Analyzed("térségen", ["tér", "sége", "n"], ["tér", "ség", "en"]),  # 1 hit of 3 and 3, 2 edits
        Analyzed("félnek", ["fél", "nek"], ["fél", "nak"], 2),  # 1 hit of 2 and 2, 1 edit
        Analyzed("evden", ["evden"], ["ev", "den"], 3),  # no hit of 1 and 2, 2 edits
    ]
    found = count_morphemes(words)
    assert found.by_type == Morphemes(words=3, hits=2, tokens=6, morphemes=7, edits=5)
    assert found.by_type.ratios() == {
        "precision": 0.333333, "recall": 0.285714, "f1": 0.307692, "mean_edit_distance": 1.666667,
    }  # fmt: skip
    assert found.by_occurrence == Morphemes(words=6, hits=3, tokens=10, morphemes=13, edits=10)
    assert found.by_occurrence.ratios() == {
        "precision": 0.3, "recall": 0.230769, "f1": 0.26087, "mean_edit_distance": 1.666667,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tokens", "morphemes", "hits", "edits"),
    [
        ("a a b", "a b b", 2, 1),  # one "a" and one "b": each as often as both have it
        ("a b", "b a", 2, 2),  # the order is for the distance alone
        ("a a a", "a", 1, 2),
        ("", "a b", 0, 2),
        ("", "", 0, 0),
    ],
)
def test_hits_are_an_overlap_of_multisets(tokens: str, morphemes: str, hits: int, edits: int) -> None:
    found = count_morphemes([Analyzed("w", tokens.split(), morphemes.split())]).by_type
    assert (found.hits, found.edits) == (hits, edits)


def test_ids_do_as_well_as_texts() -> None:
    """A tokenizer that has one id for ``ler`` and ``lar`` is right where the strings differ."""
    assert count_morphemes([Analyzed("evler", ["ev", "ler"], ["ev", "lar"])]).by_type.hits == 1
    assert count_morphemes([Analyzed("evler", [7, 300], [7, 300])]).by_type.hits == 2


def test_morphemes_need_a_weight_of_one_or_more() -> None:
    with pytest.raises(ValueError, match="word 'ev': its weight is -1"):
        count_morphemes([Analyzed("ev", ["ev"], ["ev"], -1)])


def test_no_words_have_no_morphemes() -> None:
    assert count_morphemes([]) == Both(Morphemes(), Morphemes())
    assert set(Morphemes().ratios().values()) == {None}


short_sequences = st.lists(st.sampled_from("abc"), max_size=5)


@given(short_sequences, short_sequences)
def test_the_distance_is_that_of_the_slow_twin(one: list[str], other: list[str]) -> None:
    assert edit_distance(one, other) == naive_distance(one, other) == edit_distance(other, one)


@given(analyzed_lists)
def test_perfect_tokens_are_the_morphemes(words: list[Analyzed]) -> None:
    found = count_morphemes([word._replace(tokens=word.morphemes) for word in words]).by_occurrence
    assert found.hits == found.tokens == found.morphemes
    assert found.edits == 0
    assert set(found.ratios().values()) <= {1.0, 0.0, None}


@pytest.mark.parametrize(
    ("field", "morphemes"),
    [("tér @@ség @@en", ("tér", "ség", "en")), ("blamál", ("blamál",)), ("", ()), ("@@s", ("s",)), ("a@@b", ("a@@b",))],
)
def test_the_morphemes_of_a_field(field: str, morphemes: tuple[str, ...]) -> None:
    assert canonical_morphemes(field) == morphemes


def test_canonical_morphemes_give_boundaries_where_they_join_to_the_word() -> None:
    words = [
        Segmented("térségen", ["térség", "en"], canonical_morphemes("tér @@ség @@en"), 2),
        Segmented("félnek", ["fél", "nek"], canonical_morphemes("fél @@nak"), 5),
        Segmented("Avrupa", ["Avrupa"], ["avrupa"]),
    ]
    found = align_canonical(words)
    assert found == ([words[0]], 2, 6)
    counted = count_boundaries(found.words).by_occurrence
    assert (counted.words, counted.hits, counted.predicted, counted.gold) == (2, 2, 2, 4)
    assert align_canonical([]) == ([], 0, 0)
    with pytest.raises(ValueError, match="word 'Avrupa': its weight is 0"):
        align_canonical([words[2]._replace(weight=0)])


# --- consistency ------------------------------------------------------------------------------------------------------

FOUR = [
    Analyzed("evler", ["ev", "ler"], ["ev", "ler"]),
    Analyzed("evde", ["ev", "de"], ["ev", "de"]),
    Analyzed("kediler", ["kedi", "ler"], ["kedi", "ler"]),
    Analyzed("deniz", ["de", "niz"], ["deniz"]),
]


def test_consistency_by_hand() -> None:
    found = count_consistency(FOUR)
    # Tokens: evler-evde (ev), evler-kediler (ler), evde-deniz (de). Morphemes: the first two of these.
    assert found == Consistency(words=4, share_token=3, share_morpheme=2, share_both=2)
    assert found.ratios() == {"precision": 0.666667, "recall": 1.0, "f1": 0.8}


def test_a_pair_counts_once_however_much_it_shares() -> None:
    words = [Analyzed("ababab", ["ab", "ab", "ab"], [1, 2]), Analyzed("abba", ["ab", "ba", ""], [2, 1])]
    assert count_consistency(words) == Consistency(words=2, share_token=1, share_morpheme=1, share_both=1)


def test_all_that_is_given_is_a_token() -> None:
    """Empty strings, single letters and markers too: who does not want them leaves them out."""
    for token in ("", "e", "<cap>", 0, b"\xc4"):
        words = [Analyzed("a", [token, "x"], ["m"]), Analyzed("b", [token, "y"], ["n"])]
        assert count_consistency(words).share_token == 1


def test_allomorphs_share_an_id() -> None:
    ids = [Analyzed("evler", [5, 300], [5, 300]), Analyzed("atlar", [9, 300], [9, 300])]
    texts = [Analyzed("evler", ["ev", "ler"], [5, 300]), Analyzed("atlar", ["at", "lar"], [9, 300])]
    assert count_consistency(ids).ratios()["recall"] == 1.0
    assert count_consistency(texts).ratios()["recall"] == 0.0


@pytest.mark.parametrize("words", [[], FOUR[:1], [FOUR[0], FOUR[3]]])
def test_no_pairs_that_share_anything(words: list[Analyzed]) -> None:
    found = count_consistency(words)
    assert found == Consistency(words=len(words))
    assert found.ratios() == {"precision": None, "recall": None, "f1": None}


def test_a_word_is_given_once() -> None:
    with pytest.raises(ValueError, match="word 'evde' is given twice"):
        count_consistency([*FOUR, FOUR[1]])
    with pytest.raises(ValueError, match="most_words is -1"):
        count_consistency(FOUR, most_words=-1)


@given(analyzed_lists)
def test_consistency_is_that_of_the_slow_twin(words: list[Analyzed]) -> None:
    found = count_consistency(words)
    assert (found.words, found.left_out) == (len(words), 0)
    assert (found.share_token, found.share_morpheme, found.share_both) == naive_consistency(words)


@given(analyzed_lists)
def test_perfect_tokens_are_consistent(words: list[Analyzed]) -> None:
    found = count_consistency([word._replace(tokens=word.morphemes) for word in words])
    assert found.share_both == found.share_token == found.share_morpheme
    assert set(found.ratios().values()) <= {1.0, None}


def test_many_words_are_sampled_by_their_hashes() -> None:
    words = [Analyzed(f"w{n}", [n % 7], [n % 5]) for n in range(200)]
    shuffled = random.Random(0).sample(words, len(words))
    found = count_consistency(words, most_words=50, seed=1)
    assert (found.words, found.left_out) == (50, 150)
    assert count_consistency(shuffled, most_words=50, seed=1) == found
    assert len({count_consistency(words, most_words=50, seed=seed) for seed in range(5)}) > 1
    assert count_consistency(words, most_words=200, seed=1) == count_consistency(words, seed=2)
    assert count_consistency(words, most_words=0) == Consistency(left_out=200)


def test_a_word_in_the_sample_stays_while_the_sample_grows() -> None:
    """So two sizes of a sample are comparable: pairs of the smaller are among those of the larger."""
    words = [Analyzed(f"w{n}", ["t"], [n]) for n in range(30)]
    shared = [count_consistency(words, most_words=size).share_token for size in range(31)]
    assert shared == [size * (size - 1) // 2 for size in range(31)]


# --- what holds for all -----------------------------------------------------------------------------------------------


@given(segmented_lists, analyzed_lists, st.integers(0, 12))
def test_sums_of_parts_add_up(segmented: list[Segmented], analyzed: list[Analyzed], at: int) -> None:
    assert count_boundaries(segmented[:at]) + count_boundaries(segmented[at:]) == count_boundaries(segmented)
    assert count_morph_score(segmented[:at]) + count_morph_score(segmented[at:]) == count_morph_score(segmented)
    assert count_morphemes(analyzed[:at]) + count_morphemes(analyzed[at:]) == count_morphemes(analyzed)


@given(segmented_lists, analyzed_lists, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(segmented: list[Segmented], analyzed: list[Analyzed], rng: random.Random) -> None:
    other, others = rng.sample(segmented, len(segmented)), rng.sample(analyzed, len(analyzed))
    assert count_boundaries(other) == count_boundaries(segmented)
    assert count_morph_score(other) == count_morph_score(segmented)
    assert count_morphemes(others) == count_morphemes(analyzed)
    assert count_consistency(others) == count_consistency(analyzed)
    assert count_consistency(others, most_words=4) == count_consistency(analyzed, most_words=4)


@given(segmented_lists, analyzed_lists)
def test_weights_of_one_make_types_of_occurrences(segmented: list[Segmented], analyzed: list[Analyzed]) -> None:
    ones = [word._replace(weight=1) for word in segmented]
    for count in (count_boundaries, count_morph_score):
        found = count(ones)
        assert found.by_type == found.by_occurrence == count(segmented).by_type
    found_morphemes = count_morphemes([word._replace(weight=1) for word in analyzed])
    assert found_morphemes.by_type == found_morphemes.by_occurrence == count_morphemes(analyzed).by_type


def test_the_warning_is_plain() -> None:
    assert "no proof of a better language model" in WARNING
    assert WARNING.count(". ") == 1
    assert "\n" not in WARNING
