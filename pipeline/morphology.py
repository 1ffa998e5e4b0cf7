"""A language's tables as an automaton: what each affix sounds like after anything, looked up instead of worked out.

What an affix becomes depends on the letters before it only through its *state*: which row of each rule was hit last, and
which row the very last character is in. There are few states. So for each affix, each state and each stem that the next
affix may ask for, the surface is computed once; where it depends on letters that were not seen yet, it is unknown.

Examples
--------
Turkish ``l{A}r`` after ``ev``: the last vowel is ``e``, so rule A becomes ``e``, and the surface is ``ler``. At the start of
a word no vowel was seen: the surface is unknown there.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SpecError
from pipeline.kernels.vocabulary import build_trie
from pipeline.language import MOST_CLASSES, MOST_STEMS, VOWEL, Language, Part, Root, Row

MOST_STATES = 4096

_State = tuple[tuple[int | None, int | None], ...]
"""For each rule: the row of letters that was hit last, and the row the very last character is in; -1 none, None unknown."""


@dataclass(frozen=True, slots=True)
class AffixTable:
    """An affix, worked out.

    ``kind``: its class, by number. ``after``: the classes it may follow, as bits. ``surfaces``: all it can be.
    ``surface [n_states][n_stems]``: which of them; ``~number`` where letters not seen yet might change that.
    ``asks [n_states]``: the stem it asks for of what stands before it, by the state that the plain one leaves; -1: unknown.
    """

    name: str
    kind: int
    after: int
    is_clitic: bool
    surfaces: tuple[str, ...]
    surface: tuple[tuple[int, ...], ...]
    asks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RootTable:
    """A root: its classes as bits, its form for each stem, and what affixes hear in place of each form (empty: the form)."""

    kinds: int
    forms: tuple[str, ...]
    sounds: str


@dataclass(frozen=True)
class Morphology:
    """All that encoding and decoding need to know of a language, as plain values.

    ``letters``: lower case, upper case (empty: none), class of sounds. Other characters have the class 0.
    ``step [n_states][n_classes]``: the state after one more character. State 0: nothing is known.
    ``stems``, ``kinds``: names, by number. ``affixes``: clitics first.
    """

    letters: tuple[tuple[str, str, int], ...]
    step: tuple[tuple[int, ...], ...]
    stems: tuple[str, ...]
    kinds: tuple[str, ...]
    affixes: tuple[AffixTable, ...]
    roots: tuple[RootTable, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(root: Mapping[str, Any]) -> Morphology:
        """From what ``to_json`` gave; KeyError, TypeError or ValueError if it is damaged."""
        return Morphology(
            letters=tuple((str(lower), str(upper), int(sound)) for lower, upper, sound in root["letters"]),
            step=tuple(tuple(row) for row in root["step"]),
            stems=tuple(root["stems"]),
            kinds=tuple(root["kinds"]),
            affixes=tuple(
                AffixTable(
                    name=affix["name"],
                    kind=affix["kind"],
                    after=affix["after"],
                    is_clitic=affix["is_clitic"],
                    surfaces=tuple(affix["surfaces"]),
                    surface=tuple(tuple(row) for row in affix["surface"]),
                    asks=tuple(affix["asks"]),
                )
                for affix in root["affixes"]
            ),
            roots=tuple(RootTable(item["kinds"], tuple(item["forms"]), item["sounds"]) for item in root["roots"]),
        )

    def check(self) -> None:
        """ValueError if something in it does not fit something else, so that look-ups would go astray."""
        num_states, num_classes, num_stems = len(self.step), len(self.step[0]) if self.step else 0, len(self.stems)
        states = {state for row in self.step for state in row}
        surfaces = [(affix, number) for affix in self.affixes for row in affix.surface for number in row]
        letters = [char for lower, upper, _ in self.letters for char in (lower, upper) if char]
        checks = {
            "step": num_states > 0 and {len(row) for row in self.step} == {num_classes} and states <= set(range(num_states)),
            "letters": all(
                len(lower) == 1 and len(upper) <= 1 and 0 <= sound < num_classes for lower, upper, sound in self.letters
            ) and len(set(letters)) == len(letters),
            "stems": 1 <= num_stems <= MOST_STEMS,
            "kinds": len(self.kinds) <= MOST_CLASSES and all(affix.kind < len(self.kinds) for affix in self.affixes),
            "affixes": all(
                len(affix.surface) == len(affix.asks) == num_states and all(len(row) == num_stems for row in affix.surface)
                and all(-1 <= stem < num_stems for stem in affix.asks)
                for affix in self.affixes
            ) and all(-len(affix.surfaces) <= number < len(affix.surfaces) for affix, number in surfaces),
            "clitics": all(a.is_clitic or not b.is_clitic for a, b in itertools.pairwise(self.affixes)),
            "roots": all(len(root.forms) == num_stems and all(root.forms) for root in self.roots),
        }  # fmt: skip
        if wrong := [name for name, is_right in checks.items() if not is_right]:
            raise ValueError(f"of its morphology, {', '.join(wrong)} do not fit the rest")

    def with_roots(self, chosen: Iterable[int]) -> Morphology:
        """The same with some of the roots, by number."""
        return dataclasses.replace(self, roots=tuple(self.roots[i] for i in chosen))


# --- from the tables of a language ------------------------------------------------------------------------------------


class _Sounds:
    """The states of a language and what its rules become in them."""

    def __init__(self, language: Language) -> None:
        self._rules = language.rules
        self._names = list(language.rules)
        looked_at = [row for rows in language.rules.values() for row in rows if row.looks != "next"]
        named = {char for row in looked_at for char in row.letters or ()}
        self._signatures: list[tuple[tuple[int, int], ...]] = [((-1, -1),) * len(self._names)]
        self.classes: dict[str, int] = {}
        for char in sorted(named):
            signature = tuple(
                (_first_row(rows, "last", char), _first_row(rows, "end", char)) for rows in language.rules.values()
            )
            if signature not in self._signatures:
                self._signatures.append(signature)
            self.classes[char] = self._signatures.index(signature)
        start: _State = ((None, None),) * len(self._names)
        self._numbers = {start: 0}
        self.states = [start]
        self.step: list[tuple[int, ...]] = []
        while len(self.step) < len(self.states):
            self.step.append(tuple(map(self._number, self._followers(self.states[len(self.step)]))))

    def _followers(self, state: _State) -> Iterable[_State]:
        for signature in self._signatures:
            pairs = zip(state, signature, strict=True)
            yield tuple((last if hit < 0 else hit, end) for (last, _), (hit, end) in pairs)

    def _number(self, state: _State) -> int:
        if state not in self._numbers:
            if len(self.states) == MOST_STATES:
                raise SpecError(
                    f"harmony.tsv: the rules tell more than {MOST_STATES} states of a word apart; use fewer sets of letters"
                )
            self._numbers[state] = len(self.states)
            self.states.append(state)
        return self._numbers[state]

    def after(self, state: int, text: str) -> int:
        """The state after some more letters."""
        for char in text:
            state = self.step[state][self.classes.get(char, 0)]
        return state

    def sound(self, form: Sequence[Part], state: int, stem: str) -> tuple[str, bool]:
        """What a form becomes, and whether that is certain."""
        found, is_known = "", True
        for what, part in form:
            text, known = (part, True) if what == "text" else self._rule(part, self.after(state, found), stem)
            found += text
            is_known &= known
        return found, is_known

    def _rule(self, name: str, state: int, stem: str) -> tuple[str, bool]:
        rows = self._rules[name]
        last, end = self.states[state][self._names.index(name)]
        for number, row in enumerate(rows):
            seen = {"last": last, "end": end}.get(row.looks, -1)
            if row.letters is None or (row.looks == "next" and stem in row.letters) or seen == number:
                return self.sound(row.becomes, state, stem)
            if row.looks != "next" and seen is None:
                return self.sound(rows[-1].becomes, state, stem)[0], False
        return self.sound(rows[-1].becomes, state, stem)


def _first_row(rows: Sequence[Row], looks: str, char: str) -> int:
    found = (number for number, row in enumerate(rows) if row.looks == looks and char in (row.letters or ()))
    return next(found, -1)


def compile_language(language: Language) -> Morphology:
    """The automaton of a language.

    Raises
    ------
    SpecError
        The rules tell too many states apart, or a clitic may be read in two ways.
    """
    sounds = _Sounds(language)
    stems, kinds = language.stems, language.kinds
    affixes = []
    for affix in sorted(language.affixes, key=lambda affix: not affix.is_clitic):
        surfaces: dict[str, int] = {}
        table = []
        for state in range(len(sounds.states)):
            row = []
            for stem in stems:
                text, is_known = sounds.sound(affix.form, state, stem)
                number = surfaces.setdefault(text, len(surfaces))
                row.append(number if is_known else ~number)
            table.append(tuple(row))
        if affix.is_clitic:
            _check_clitic(affix.name, surfaces)
        affixes.append(
            AffixTable(
                name=affix.name,
                kind=kinds.index(affix.kind),
                after=(1 << len(kinds)) - 1 if affix.after is None else sum(1 << kinds.index(kind) for kind in affix.after),
                is_clitic=affix.is_clitic,
                surfaces=tuple(surfaces),
                surface=tuple(table),
                asks=tuple(_asked(affix.stem, row[0], tuple(surfaces), language, stems) for row in table),
            )
        )
    roots = tuple(_compile_root(root, stems, kinds) for root in language.roots)
    return Morphology(
        _letters(language, sounds.classes, affixes, roots), tuple(sounds.step), stems, kinds, tuple(affixes), roots
    )


def _asked(stem: str | None, surface: int, surfaces: Sequence[str], language: Language, stems: Sequence[str]) -> int:
    if stem is not None:
        return stems.index(stem)
    if surface < 0:
        return -1
    return stems.index(VOWEL) if surfaces[surface][:1] in language.vowels else 0


def _check_clitic(name: str, surfaces: Iterable[str]) -> None:
    for text in surfaces:
        for other in surfaces:
            if text != other and other.startswith(text):
                raise SpecError(f"affixes.tsv: clitic {name!r} may be {text!r} or {other!r}, which starts with it; split it")


def _compile_root(root: Root, stems: Sequence[str], kinds: Sequence[str]) -> RootTable:
    forms = tuple(root.forms.get(stem, root.text) for stem in stems)
    return RootTable(sum(1 << kinds.index(kind) for kind in root.kinds), forms, root.sounds or "")


def _letters(
    language: Language, classes: Mapping[str, int], affixes: Sequence[AffixTable], roots: Sequence[RootTable]
) -> tuple[tuple[str, str, int], ...]:
    """All characters that roots, affixes and rules have, with their upper case where it leads back to them."""
    chars = set(classes) | set("".join(text for affix in affixes for text in affix.surfaces))
    chars |= set(language.lower("".join(form for root in roots for form in root.forms)))
    upper_of = {}
    for char in sorted(chars):
        upper = language.upper.get(char, char.upper())
        upper_of[char] = upper if upper != char and len(upper) == 1 and language.lower(upper) == char else ""
    large = set(language.upper.values())
    return tuple((char, upper, classes.get(char, 0)) for char, upper in upper_of.items() if char not in large)


# --- for the kernels --------------------------------------------------------------------------------------------------


def joined(texts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Bytes one after the other, padded, and their offsets."""
    return np.frombuffer(b"".join(texts) + b"\0", dtype=np.uint8), np.cumsum([0, *map(len, texts)], dtype=np.int64)


class Casing:
    """Upper and lower case of a language's letters."""

    def __init__(self, letters: Sequence[tuple[str, str, int]]) -> None:
        self._upper = {lower: upper for lower, upper, _ in letters if upper}
        self._lower = {upper: lower for lower, upper in self._upper.items()}

    def lower(self, text: str) -> str:
        """In lower case, as far as it leads back."""
        return "".join(self._lower.get(char, char) for char in text)

    def upper(self, text: str) -> str:
        """In upper case, as far as it leads back."""
        return "".join(self._upper.get(char, char) for char in text)

    def capitalized(self, text: str) -> str:
        """With the first letter in upper case."""
        return self.upper(text[:1]) + text[1:]


def text_tables(morphology: Morphology, root_costs: Sequence[int]) -> dict[str, Any]:
    """What roots, affixes and letters are to the kernels: fields of ``MorphTables``, by name."""
    casing = Casing(morphology.letters)
    roots = _root_tables(morphology, casing, root_costs)
    return {**_letter_tables(morphology), **roots, **_affix_tables(morphology, casing)}


def _letter_tables(morphology: Morphology) -> dict[str, Any]:
    letters = morphology.letters
    letter_of = np.full(max((ord(char) for row in letters for char in row[0] + row[1]), default=0) + 1, -1, dtype=np.int32)
    for number, (lower, upper, _) in enumerate(letters):
        letter_of[ord(lower)] = 2 * number
        if upper:
            letter_of[ord(upper)] = 2 * number + 1
    values, offsets = joined([lower.encode() for lower, _, _ in letters])
    return {
        "letter_of": letter_of,
        "letter_values": values,
        "letter_offsets": offsets,
        "letter_sounds": np.array([sound for _, _, sound in letters], dtype=np.int32),
        "letter_cased": np.array([bool(upper) for _, upper, _ in letters], dtype=np.bool_),
        "step": np.array(morphology.step, dtype=np.int32),
    }


class Stepper:
    """The states of a morphology, for text."""

    def __init__(self, morphology: Morphology) -> None:
        self._step = morphology.step
        self._classes = {char: sound for lower, upper, sound in morphology.letters for char in (lower, upper) if char}

    def after(self, state: int, text: str) -> int:
        """The state after some more text."""
        for char in text:
            state = self._step[state][self._classes.get(char, 0)]
        return state


def _entries(rows: Mapping[str, Sequence[Any]]) -> tuple[list[bytes], NDArray[np.int64], list[Any]]:
    """Texts, and of each what has it: offsets and entries."""
    return (
        [text.encode() for text in rows],
        np.cumsum([0, *map(len, rows.values())], dtype=np.int64),
        [entry for found in rows.values() for entry in found],
    )


def _root_tables(morphology: Morphology, casing: Casing, costs: Sequence[int]) -> dict[str, Any]:
    stepper = Stepper(morphology)
    forms: dict[str, dict[int, int]] = {}
    states, written = [], []
    for number, root in enumerate(morphology.roots):
        states.append([stepper.after(0, root.sounds or form) for form in root.forms])
        for stem, form in enumerate(root.forms):
            of_form = forms.setdefault(casing.lower(form), {})
            of_form[number] = of_form.get(number, 0) | 1 << stem
            written += [text.encode() for text in (form, casing.capitalized(form), casing.upper(form))]
    texts, rows = [], []
    for form, found in forms.items():
        for left, (number, stems) in zip(range(len(found) - 1, -1, -1), found.items(), strict=True):
            root = morphology.roots[number]
            first_stem = (stems & -stems).bit_length() - 1
            is_name = casing.lower(root.forms[0]) != root.forms[0]
            texts.append(form.encode())  # the trie keeps the first of equal texts
            rows.append(
                (number, stems, states[number][first_stem], states[number][0], root.kinds, is_name, costs[number], left > 0)
            )
    values, value_offsets = joined(written)
    return {
        "roots": build_trie(*joined(texts), np.ones(len(texts), dtype=np.bool_)),
        "root_rows": np.array(rows, dtype=np.int64).reshape(-1, 8),
        "root_states": np.array(states, dtype=np.int16).reshape(-1, len(morphology.stems)),
        "root_values": values,
        "root_value_offsets": value_offsets,
    }


def _affix_tables(morphology: Morphology, casing: Casing) -> dict[str, Any]:
    stepper = Stepper(morphology)
    numbers: dict[str, list[int]] = {}
    for number, affix in enumerate(morphology.affixes):
        for text in affix.surfaces:
            numbers.setdefault(text, []).append(number)
    surface_numbers = {text: number for number, text in enumerate(numbers)}
    shape = (len(morphology.affixes), len(morphology.step), len(morphology.stems))
    surfaces, states = np.zeros(shape, dtype=np.int16), np.zeros(shape, dtype=np.int16)
    for number, affix in enumerate(morphology.affixes):
        for state, row in enumerate(affix.surface):
            for stem, local in enumerate(row):
                text = affix.surfaces[local if local >= 0 else ~local]
                found = surface_numbers[text]
                surfaces[number, state, stem] = found if local >= 0 else ~found
                states[number, state, stem] = stepper.after(state, text) if local >= 0 else 0
    texts, offsets, entries = _entries(numbers)
    values, value_offsets = joined([written.encode() for text in numbers for written in (text, casing.upper(text))])
    return {
        "affixes": build_trie(*joined(texts), np.ones(len(texts), dtype=np.bool_)),
        "affix_offsets": offsets,
        "affix_entries": np.array(entries, dtype=np.int32),
        "affix_surfaces": surfaces,
        "affix_states": states,
        "affix_asks": np.array([affix.asks for affix in morphology.affixes], dtype=np.int8).reshape(shape[:2]),
        "affix_after": np.array([affix.after for affix in morphology.affixes], dtype=np.int64),
        "affix_kinds": np.array([1 << affix.kind for affix in morphology.affixes], dtype=np.int64),
        "affix_values": values,
        "affix_value_offsets": value_offsets,
    }
