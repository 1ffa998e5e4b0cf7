"""A language as data: how its affixes follow the sounds before them, which affixes there are, and its roots.

Three tables, tab-separated, UTF-8, each with a line of column names; ``#`` starts a comment line, ``-`` is nothing.
``docs/languages.md`` explains them with examples.

``harmony.tsv`` (rule, looks, letters, becomes)
    *letters*: a named set of letters. *upper*: a letter whose upper case is not the usual one. Else a row of a rule: *last*,
    the last letter of the word so far that any such row of the rule names; *end*, its very last character; *next*, the stem
    that the next affix asks for. ``*`` fits always. The first row that fits says what the rule becomes; if none fits, the
    last does. ``{name}`` stands for a set among letters, and for another rule in what a rule becomes.
``affixes.tsv`` (affix, class, form, after, stem)
    ``l{A}r`` is ``l``, what rule A becomes there, ``r``. A form that starts with ``_`` is a clitic, a word of its own behind
    a blank. *after*: the classes it may follow, or ``*``. *stem*: what it asks of the stem before it; ``-``: ``vowel`` if it
    starts with a vowel, else the plain one. A row with the affix ``-`` only names a class, of roots.
``roots.tsv`` (root, class, forms)
    Classes as affixes name them. Forms: ``vowel=kitab``, the root before affixes that ask for the stem ``vowel``;
    ``sounds=saet``, what affixes hear in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.errors import SpecError
from pipeline.tsv import Line, read_table

TABLES = {
    "harmony.tsv": ("rule", "looks", "letters", "becomes"),
    "affixes.tsv": ("affix", "class", "form", "after", "stem"),
    "roots.tsv": ("root", "class", "forms"),
}
"""The files of a language, and their columns."""

VOWEL = "vowel"
"""The set of letters, and the stem before affixes that start with one of them."""

PLAIN = "plain"
"""The stem at the end of a word, and before other affixes."""

OTHER = "other"
"""The class of what is neither root nor affix."""

MOST_STEMS = 8
MOST_CLASSES = 62

_NOTHING = "-"
_ANY = "*"
_BLANK = "_"
_NAME = re.compile(r"\{([^{}]*)\}")

Part = tuple[str, str]
"""Of a form: ``("text", letters)`` or ``("rule", name)``."""


@dataclass(frozen=True, slots=True)
class Row:
    """Of a rule: where it looks (``last``, ``end``, ``next``), for which letters or stem (None: any), what it becomes."""

    looks: str
    letters: frozenset[str] | None
    becomes: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Affix:
    """One id. ``after``: classes it may follow, None: any. ``stem``: what it asks for, None: as its first letter says."""

    name: str
    kind: str
    form: tuple[Part, ...]
    after: frozenset[str] | None
    stem: str | None
    is_clitic: bool


@dataclass(frozen=True, slots=True)
class Root:
    """One id. ``forms``: by stem, where it is not ``text``. ``sounds``: what affixes hear, None: the form itself."""

    text: str
    kinds: frozenset[str]
    forms: Mapping[str, str] = field(default_factory=dict)
    sounds: str | None = None


@dataclass(frozen=True)
class Language:
    """Checked tables; made by ``parse_language``."""

    vowels: frozenset[str]
    upper: Mapping[str, str]
    rules: Mapping[str, tuple[Row, ...]]
    affixes: tuple[Affix, ...]
    roots: tuple[Root, ...]

    @property
    def stems(self) -> tuple[str, ...]:
        """All stems that affixes ask for; the first is the plain one."""
        asked = dict.fromkeys(affix.stem for affix in self.affixes if affix.stem)
        return (PLAIN, VOWEL, *(stem for stem in asked if stem not in (PLAIN, VOWEL)))

    @property
    def kinds(self) -> tuple[str, ...]:
        """All classes; the first is that of what is neither root nor affix."""
        found = {OTHER: None} | {affix.kind: None for affix in self.affixes}
        found |= {kind: None for affix in self.affixes for kind in sorted(affix.after or ())}
        found |= {kind: None for root in self.roots for kind in sorted(root.kinds)}
        return tuple(found)

    def lower(self, text: str) -> str:
        """The text in lower case, as this language writes it."""
        for small, large in self.upper.items():
            text = text.replace(large, small)
        return text.lower()


def parse_language(files: Mapping[str, bytes], places: Mapping[str, str] | None = None) -> Language:
    """A language from the content of its three tables; ``places``: what to call them in errors.

    Raises
    ------
    SpecError
        A table is not as it should be; names file and line.
    """
    places = places or {name: name for name in TABLES}
    lines = {name: list(read_table(files[name], places[name], columns)) for name, columns in TABLES.items()}
    vowels, upper, rules, rule_lines = _parse_harmony(lines["harmony.tsv"], places["harmony.tsv"])
    declared = {line.cells[1] for line in lines["affixes.tsv"] if line.cells[0] == _NOTHING}
    lines["affixes.tsv"] = [line for line in lines["affixes.tsv"] if line.cells[0] != _NOTHING]
    affixes = _parse_affixes(lines["affixes.tsv"], rules)
    roots = _parse_roots(lines["roots.tsv"])
    language = Language(vowels, upper, rules, tuple(affixes), tuple(roots))
    _check_letters(language, lines)
    _check_case(language, lines["roots.tsv"])
    _check_stems(language, lines, rule_lines)
    _check_classes(language, declared, lines)
    return language


# --- harmony ----------------------------------------------------------------------------------------------------------


def _parse_harmony(
    lines: list[Line], place: str
) -> tuple[frozenset[str], dict[str, str], dict[str, tuple[Row, ...]], list[tuple[Line, str]]]:
    sets: dict[str, str] = {}
    upper: dict[str, str] = {}
    rules: dict[str, list[Row]] = {}
    lines_of: dict[str, list[Line]] = {}
    asked: list[tuple[Line, str]] = []  # stems that rules look for

    def letters_of(line: Line, cell: str) -> str:
        for name in _NAME.findall(cell):
            if name not in sets:
                raise line.error(f"{{{name}}} is no set of letters; known so far: {', '.join(sets) or 'none'}")
        return _NAME.sub(lambda match: sets[match.group(1)], cell)

    for line in lines:
        name, looks, letters, becomes = line.cells
        if looks == "letters":
            if name in sets:
                raise line.error(f"the letters {name!r} are given twice")
            sets[name] = letters_of(line, letters)
        elif looks == "upper":
            if len(letters) != 1 or len(becomes) != 1 or letters in upper:
                raise line.error(f"upper is {letters!r} to {becomes!r}; one letter to one, each once, is expected")
            upper[letters] = becomes
        elif looks in ("last", "end", "next"):
            fits = None if letters == _ANY else frozenset([letters] if looks == "next" else letters_of(line, letters))
            if looks == "next" and fits is not None:
                asked.append((line, letters))
            lines_of.setdefault(name, []).append(line)
            rules.setdefault(name, []).append(Row(looks, fits, _parse_form(line, becomes)))
        else:
            raise line.error(f"looks is {looks!r}; letters, upper, last, end or next is allowed")
    if VOWEL not in sets:
        raise SpecError(f"{place}: the letters {VOWEL!r} are missing; a row such as {VOWEL}, letters, aeiou, -")
    _check_rules(rules, lines_of)
    return frozenset(sets[VOWEL]), upper, {name: tuple(rows) for name, rows in rules.items()}, asked


def _parse_form(line: Line, cell: str) -> tuple[Part, ...]:
    """``l{A}r`` as ``("text", "l"), ("rule", "A"), ("text", "r")``."""
    if cell == _NOTHING:
        return ()
    if _NAME.sub("", cell).count("{") or _NAME.sub("", cell).count("}"):
        raise line.error(f"{cell!r} has a brace without its partner")
    pieces = _NAME.split(cell)
    return tuple(("rule" if i % 2 else "text", piece) for i, piece in enumerate(pieces) if piece or i % 2)


def _check_rules(rules: dict[str, list[Row]], lines: dict[str, list[Line]]) -> None:
    """SpecError if a rule becomes one that is not there, or itself in the end."""
    uses = {
        name: list(dict.fromkeys(part for row in rows for kind, part in row.becomes if kind == "rule"))
        for name, rows in rules.items()
    }
    for name, rows in rules.items():
        for row, line in zip(rows, lines[name], strict=True):
            for kind, other in row.becomes:
                if kind == "rule" and other not in rules:
                    raise line.error(f"rule {name!r} becomes {{{other}}}, which is no rule; there are {', '.join(rules)}")
    done: set[str] = set()
    for name in rules:
        path: list[str] = []

        def visit(rule: str, path: list[str] = path) -> None:
            if rule in path:
                cycle = " → ".join([*path[path.index(rule) :], rule])
                raise lines[rule][0].error(f"the rules go in a circle: {cycle}; let one of them become letters")
            if rule not in done:
                path.append(rule)
                for other in uses[rule]:
                    visit(other)
                path.pop()
                done.add(rule)

        visit(name)


# --- affixes ----------------------------------------------------------------------------------------------------------


def _parse_affixes(lines: list[Line], rules: Mapping[str, tuple[Row, ...]]) -> list[Affix]:
    affixes = []
    names: dict[str, str] = {}
    forms: dict[tuple[str, str], str] = {}
    for line in lines:
        name, kind, form, after, stem = line.cells
        if name in names:
            raise line.error(f"the affix {name!r} is given twice, first in {names[name]}")
        if (kind, form) in forms:
            raise line.error(f"class {kind!r} has the form {form!r} twice, first in {forms[kind, form]}")
        names[name] = forms[kind, form] = line.place
        if form == _NOTHING or kind in (_NOTHING, OTHER):
            raise line.error(f"class {kind!r}, form {form!r}: a name other than {OTHER!r} and letters are needed")
        parts = _parse_form(line, form.removeprefix(_BLANK))
        for what, part in parts:
            if what == "rule" and part not in rules:
                known = ", ".join(rules) or "none"
                raise line.error(f"affix {name!r}, class {kind!r}: no rule {{{part}}} in harmony.tsv; there are {known}")
        is_clitic = form.startswith(_BLANK)
        if is_clitic and after != _ANY:
            raise line.error(f"the clitic {name!r} stands after {after!r}; it may stand after any word: write {_ANY}")
        affixes.append(
            Affix(
                name,
                kind,
                (("text", " "), *parts) if is_clitic else parts,
                None if after == _ANY else frozenset(part.strip() for part in after.split(",")),
                None if stem == _NOTHING else stem,
                is_clitic,
            )
        )
    return affixes


def _check_classes(language: Language, declared: set[str], lines: Mapping[str, list[Line]]) -> None:
    """SpecError if there are too many classes, or a table uses one that affixes.tsv does not name."""
    kinds = language.kinds
    if len(kinds) > MOST_CLASSES:
        line = (lines["affixes.tsv"] or lines["roots.tsv"])[0]
        raise line.error(f"{len(kinds)} classes of roots and affixes; at most {MOST_CLASSES} are possible")
    known = {OTHER, *declared, *(affix.kind for affix in language.affixes)}
    shown = ", ".join(sorted(known))
    for affix, line in zip(language.affixes, lines["affixes.tsv"], strict=True):
        for kind in sorted((affix.after or set()) - known):
            raise line.error(f"affix {affix.name!r} stands after {kind!r}, which is no class; there are {shown}")
    for root, line in zip(language.roots, lines["roots.tsv"], strict=True):
        for kind in sorted(root.kinds - known):
            raise line.error(
                f"root {root.text!r} has the class {kind!r}, which affixes.tsv does not name; there are {shown}. "
                f"A row with the affix {_NOTHING} names one"
            )


def _check_stems(language: Language, lines: Mapping[str, list[Line]], asked: list[tuple[Line, str]]) -> None:
    stems = language.stems
    if len(stems) > MOST_STEMS:
        raise lines["affixes.tsv"][0].error(f"{len(stems)} stems ({', '.join(stems)}); at most {MOST_STEMS} are possible")
    for line, stem in asked:
        if stem not in stems:
            raise line.error(f"no affix asks for the stem {stem!r}; there are {', '.join(stems)}")
    for root, line in zip(language.roots, lines["roots.tsv"], strict=True):
        for stem in root.forms:
            if stem not in stems:
                raise line.error(f"no affix asks for the stem {stem!r}; there are {', '.join(stems)}")


def _check_letters(language: Language, lines: Mapping[str, list[Line]]) -> None:
    """SpecError if a rule or an affix has capitals, or blanks among its letters."""
    cells = [
        (line, cell)
        for line in lines["harmony.tsv"]
        if line.cells[1] != "upper"
        for cell in line.cells[3 if line.cells[1] == "next" else 2 :]
    ]
    cells += [(line, line.cells[2]) for line in lines["affixes.tsv"]]
    for line, cell in cells:
        text = _NAME.sub("", cell)
        if text != language.lower(text):
            raise line.error(f"{cell!r} has capitals; write it in lower case, upper case is derived")
        if any(char.isspace() for char in text):
            raise line.error(f"{cell!r} holds white space; write the letters one behind the other")


def _check_case(language: Language, lines: list[Line]) -> None:
    """SpecError if a form is neither in lower case nor capitalized, or not as its root is."""
    for root, line in zip(language.roots, lines, strict=True):
        is_name = root.text != language.lower(root.text)
        for form in (root.text, *root.forms.values()):
            lower = language.lower(form)
            if form[1:] != lower[1:]:
                raise line.error(f"{form!r} has capitals after its first letter; write it in lower case, a name capitalized")
            if (form != lower) != is_name:
                raise line.error(f"{form!r} is a form of {root.text!r}; both in lower case, or both capitalized, are needed")


# --- roots ------------------------------------------------------------------------------------------------------------


def _parse_roots(lines: list[Line]) -> list[Root]:
    roots = []
    places: dict[str, str] = {}
    for line in lines:
        text, kinds, forms = line.cells
        if text in places:
            raise line.error(f"the root {text!r} is given twice, first in {places[text]}; give it all its classes there")
        places[text] = line.place
        if any(char.isspace() for char in text):
            raise line.error(f"the root {text!r} holds white space; a root is one word")
        found = {}
        for item in [] if forms == _NOTHING else forms.split():
            key, equals, value = item.partition("=")
            if not equals or not key or not value:
                raise line.error(f"the form {item!r} is no STEM=FORM")
            if key in found:
                raise line.error(f"the form {key!r} is given twice")
            if key == PLAIN:
                raise line.error(f"the form {item!r}: the plain stem is the root itself")
            found[key] = value
        sounds = found.pop("sounds", None)
        roots.append(Root(text, frozenset(kind.strip() for kind in kinds.split(",")), found, sounds))
    return roots
