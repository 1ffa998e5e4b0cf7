"""The automaton of a language against its rules themselves, evaluated letter by letter."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SpecError
from pipeline.language import VOWEL, Language, Part
from pipeline.morphology import MOST_STATES, Casing, Morphology, Stepper, compile_language
from tests.languages import packs

# --- the rules, naively -----------------------------------------------------------------------------------------------


def sound(language: Language, form: Sequence[Part], before: str, stem: str) -> tuple[str, bool]:
    """What a form becomes after some letters, and whether letters before these could not change that."""
    found, is_known = "", True
    for what, part in form:
        text, known = (part, True) if what == "text" else becomes(language, part, before + found, stem)
        found, is_known = found + text, is_known and known
    return found, is_known


def becomes(language: Language, rule: str, before: str, stem: str) -> tuple[str, bool]:
    """What a rule becomes after some letters. Where it looks at letters and there are none: what it would last, perhaps."""
    rows = language.rules[rule]
    for row in rows:
        if row.letters is None or (row.looks == "next" and stem in row.letters):
            return sound(language, row.becomes, before, stem)
        if row.looks == "next":
            continue
        named = {char for other in rows if other.looks == "last" for char in other.letters or ()}
        heard = before[-1:] if row.looks == "end" else "".join(char for char in before if char in named)[-1:]
        if not heard:
            return sound(language, rows[-1].becomes, before, stem)[0], False
        if heard in row.letters:
            return sound(language, row.becomes, before, stem)
    return sound(language, rows[-1].becomes, before, stem)


def asked(language: Language, form: Sequence[Part], stem: str | None, before: str) -> int:
    """The stem that an affix asks for of what stands before it, by number; -1: not known."""
    if stem is not None:
        return language.stems.index(stem)
    text, is_known = sound(language, form, before, language.stems[0])
    if not is_known:
        return -1
    return language.stems.index(VOWEL) if text[:1] in language.vowels else 0


def texts_of(letters: str, longest: int) -> Iterator[str]:
    for length in range(longest + 1):
        yield from map("".join, itertools.product(letters, repeat=length))


def check(language: Language, letters: str, longest: int = 4) -> None:
    """Surfaces and stems asked for after all texts of some letters."""
    morphology = compile_language(language)
    stepper = Stepper(morphology)
    affix_of = {affix.name: affix for affix in language.affixes}
    expected: dict[int, list[object]] = {}  # of the texts that lead to a state: the same, else there are too few states
    for text in texts_of(letters, longest):
        state = stepper.after(0, text)
        found: list[object] = []
        for table in morphology.affixes:
            affix = affix_of[table.name]
            for stem, number in zip(morphology.stems, table.surface[state], strict=True):
                surface, is_known = sound(language, affix.form, text, stem)
                assert table.surfaces[number if number >= 0 else ~number] == surface, (table.name, text, stem)
                assert (number >= 0) is is_known, (table.name, text, stem)
                found.append((surface, is_known))
            assert table.asks[state] == asked(language, affix.form, affix.stem, text), (table.name, text)
        assert expected.setdefault(state, found) == found


# --- the tables -------------------------------------------------------------------------------------------------------


def test_the_made_up_language() -> None:
    check(packs.language_of(), "aekr3x", longest=4)
    check(packs.language_of(), "ıelpx", longest=4)


def test_every_state_is_reached() -> None:
    """So all that the tables say is compared above, with letters of every class."""
    morphology = packs.morphology_of()
    one_of = {sound: lower for lower, _, sound in morphology.letters}
    stepper = Stepper(morphology)
    reached = {stepper.after(0, text) for text in texts_of("".join(one_of.values()), 3)}
    assert reached == set(range(len(morphology.step)))
    check(packs.language_of(), "".join(one_of.values()), longest=3)


@given(packs.languages())
def test_any_language(language: Language) -> None:
    check(language, "abcx", longest=3)


@given(packs.languages(), st.text("abcx", max_size=4), st.text("abcx", max_size=3))
def test_what_is_known_holds_whatever_stands_before(language: Language, before: str, text: str) -> None:
    """Surfaces and stems that are certain are those after the whole text too."""
    for affix in language.affixes:
        for stem in language.stems:
            surface, is_known = sound(language, affix.form, text, stem)
            assert not is_known or sound(language, affix.form, before + text, stem) == (surface, True)


def test_classes_are_bits_and_clitics_come_first() -> None:
    morphology = packs.morphology_of()
    assert [affix.name for affix in morphology.affixes[:3]] == ["DA", "MI", "APOS"]
    assert [affix.is_clitic for affix in morphology.affixes] == [True] * 2 + [False] * 10
    by_name = {affix.name: affix for affix in morphology.affixes}

    def classes(bits: int) -> set[str]:
        return {kind for number, kind in enumerate(morphology.kinds) if bits >> number & 1}

    assert classes(by_name["DA"].after) == set(morphology.kinds)  # *
    assert classes(by_name["PL"].after) == {"noun", "name", "other", "apostrophe"}
    assert morphology.kinds[by_name["INF"].kind] == "noun"
    assert morphology.kinds[0] == "other"
    roots = dict(zip((root.text for root in packs.language_of().roots), morphology.roots, strict=True))
    assert classes(roots["de"].kinds) == {"verb", "pron"}
    assert roots["kitap"].forms == ("kitap", "kitab", "kitab", "kitap")  # plain, vowel, dat, loc
    assert morphology.stems == ("plain", "vowel", "dat", "loc")
    assert (roots["so"].sounds, roots["kitap"].sounds) == ("so3", "")


def test_turkish_harmony_as_the_docstring_has_it() -> None:
    morphology = packs.morphology_of()
    plural = next(affix for affix in morphology.affixes if affix.name == "PL")
    after_ev = plural.surface[Stepper(morphology).after(0, "ev")][0]
    assert plural.surfaces[after_ev] == "ler"
    assert plural.surface[0][0] < 0


# --- limits and mistakes ----------------------------------------------------------------------------------------------


def test_too_many_states() -> None:
    """A rule that tells n letters apart knows n + 1 states, the last of them where none of these was heard."""

    def language(*sizes: int) -> Language:
        letters = [[chr(0x4E00 + 100 * n + i) for i in range(size)] for n, size in enumerate(sizes)]
        rules = "".join(f"R{n} last {char} {i}\n" for n, of_rule in enumerate(letters) for i, char in enumerate(of_rule))
        return packs.language_of("vowel letters ae -\n" + rules, "X case a * -\n" + packs.ROOT_CLASSES, "ev verb -\n")

    assert len(compile_language(language(2, 2, 4, 6, 12)).step) == MOST_STATES  # and one before the first character
    with pytest.raises(
        SpecError, match=r"^harmony\.tsv: the rules tell more than 4096 states .*; use fewer sets of letters$"
    ):
        compile_language(language(3, 3, 3, 3, 3, 3))


@pytest.mark.parametrize(
    ("form", "is_fine"),
    [("_d{A}", True), ("_d{E}", False), ("_{E}d", True), ("_{E}e", False), ("_{E}", False), ("_d", True)],
)
def test_clitics_that_are_the_beginning_of_each_other(form: str, is_fine: bool) -> None:
    """``de`` and ``d``: which of them a word starts with could not be told."""
    harmony = "vowel letters aei -\nA last e e\nA last a a\nE last e e\nE last a -\n"
    language = packs.language_of(harmony, f"DA clitic {form} * -\nX case d{{E}} * -\n" + packs.ROOT_CLASSES, "ev verb -\n")
    if is_fine:
        assert len(compile_language(language).affixes) == 2
        return
    with pytest.raises(
        SpecError, match=r"^affixes\.tsv: clitic 'DA' may be ' .*' or ' .*', which starts with it; split it$"
    ):
        compile_language(language)


# --- case -------------------------------------------------------------------------------------------------------------


def test_turkish_i() -> None:
    casing = Casing(packs.morphology_of().letters)
    assert casing.upper("iıoğş'3中") == "İIOĞŞ'3中"
    assert casing.lower("İIOĞŞ'3中") == "iıoğş'3中"
    assert casing.capitalized("ılık") == "Ilık"
    assert casing.capitalized("ilik") == "İlik"
    assert casing.capitalized("") == ""


def test_case_that_does_not_lead_back_is_none() -> None:
    """``SS`` is no letter, the upper case of ``ς`` is that of ``σ``, and there is none of ``ʼn``."""
    language = packs.language_of(roots="straße noun -\nςσ noun -\nŉ noun -\nǆ noun -\nµ noun -\n")
    letters = {lower: upper for lower, upper, _ in compile_language(language).letters}
    assert [letters[char] for char in "ßςσŉǆµ"] == ["", "", "Σ", "", "Ǆ", ""]


def test_without_rows_for_upper_case_it_is_the_usual_one() -> None:
    casing = Casing(compile_language(packs.language_of("vowel letters ei -\n", packs.ROOT_CLASSES, "ıi verb -\n")).letters)
    assert casing.upper("i") == "I"
    assert casing.lower("I") == "i"
    assert casing.upper("ı") == "ı"  # I leads back to i


@given(st.text(st.sampled_from([char for row in packs.morphology_of().letters for char in row[:2] if char])))
def test_case_leads_back(text: str) -> None:
    casing = Casing(packs.morphology_of().letters)
    lower = casing.lower(text)
    assert casing.lower(casing.upper(lower)) == lower
    assert casing.lower(casing.capitalized(lower)) == lower
    assert packs.language_of().lower(text) == lower


# --- as JSON ----------------------------------------------------------------------------------------------------------


def test_json_and_back() -> None:
    morphology = packs.morphology_of()
    assert Morphology.from_json(json.loads(json.dumps(morphology.to_json()))) == morphology
    assert Morphology.from_json(morphology.to_json()) == morphology
    assert compile_language(packs.language_of()) == morphology  # and the same each time


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Morphology)])
def test_a_field_that_is_not_there(name: str) -> None:
    root = packs.morphology_of().to_json()
    with pytest.raises((KeyError, TypeError, ValueError)):
        Morphology.from_json({key: value for key, value in root.items() if key != name})
    with pytest.raises((KeyError, TypeError, ValueError)):
        Morphology.from_json({**root, name: 3})


def test_some_of_the_roots() -> None:
    morphology = packs.morphology_of()
    some = morphology.with_roots([5, 0])
    assert some.roots == (morphology.roots[5], morphology.roots[0])
    assert dataclasses.replace(some, roots=morphology.roots) == morphology
