"""Tables of a language: what they mean, and what is said of each mistake in them, with file and line."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pipeline.errors import SpecError
from pipeline.language import MOST_CLASSES, MOST_STEMS, OTHER, PLAIN, TABLES, VOWEL, Affix, Root, Row, parse_language
from tests.languages import packs

HARMONY = "vowel letters ae -\nA last e e\nA last a a\n"
AFFIXES = "PL plural l{A}r noun -\n"
ROOTS = "ev noun -\n"


def tables(harmony: str = HARMONY, affixes: str = AFFIXES, roots: str = ROOTS) -> dict[str, bytes]:
    """A small language; line 1 of a table is that of its columns, and ``noun`` is always named as a class."""
    return packs.files(harmony, f"{affixes}- noun - - -\n", roots)


def refuse(files: dict[str, bytes], message: str) -> None:
    """All of the message, with ``…`` for what does not matter."""
    pattern = "^" + ".*".join(map(re.escape, message.split("…"))) + "$"
    with pytest.raises(SpecError, match=pattern):
        parse_language(files)


def test_the_tables_of_a_language() -> None:
    language = parse_language(
        tables(
            harmony=(
                "vowel letters ae -\nhard letters {vowel}k -\nı upper ı I\n"
                "A last {vowel}x e\nA end b {B}a{B}\nB next vowel -\n"
            ),
            affixes="DA clitic _d{A} * -\nPL plural l{A}r noun,clitic -\nACC case {A} plural vowel\nX case xx other loc\n",
            roots="kitap noun vowel=kitab loc=kita sounds=ketap\nAli plural,noun -\n",
        )
    )
    assert language.vowels == {"a", "e"}
    assert language.upper == {"ı": "I"}
    assert language.rules == {
        "A": (
            Row("last", frozenset("aex"), (("text", "e"),)),
            Row("end", frozenset("b"), (("rule", "B"), ("text", "a"), ("rule", "B"))),
        ),
        "B": (Row("next", frozenset(["vowel"]), ()),),
    }
    assert language.affixes == (
        Affix("DA", "clitic", (("text", " "), ("text", "d"), ("rule", "A")), None, None, is_clitic=True),
        Affix("PL", "plural", (("text", "l"), ("rule", "A"), ("text", "r")), frozenset(["noun", "clitic"]), None, False),
        Affix("ACC", "case", (("rule", "A"),), frozenset(["plural"]), "vowel", is_clitic=False),
        Affix("X", "case", (("text", "xx"),), frozenset(["other"]), "loc", is_clitic=False),
    )
    assert language.roots == (
        Root("kitap", frozenset(["noun"]), {"vowel": "kitab", "loc": "kita"}, "ketap"),
        Root("Ali", frozenset(["noun", "plural"]), {}, None),
    )
    assert language.stems == (PLAIN, VOWEL, "loc")
    assert language.kinds[0] == OTHER
    assert set(language.kinds) == {OTHER, "clitic", "plural", "case", "noun"}


def test_any_letters_and_stems_are_a_star() -> None:
    language = parse_language(tables(HARMONY + "B last * b\nB next * c\n"))
    assert [row.letters for row in language.rules["B"]] == [None, None]


def test_lower_case_is_that_of_the_language() -> None:
    language = packs.language_of()
    assert language.lower("IŞIK İZMİR ẞ") == "ışık izmir ß"
    assert parse_language(tables()).lower("IZMIR") == "izmir"


@pytest.mark.parametrize("name", TABLES)
def test_marks_line_ends_and_comments_of_editors(name: str) -> None:
    """A byte order mark, as Windows has lines, blank lines, blanks around cells, no line end at the end."""
    files = packs.files()
    expected = parse_language(files)
    lines = files[name].decode().splitlines()
    changes: list[bytes] = [
        b"\xef\xbb\xbf" + files[name],
        files[name].replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + files[name].replace(b"\n", b"\r\n"),
        files[name].rstrip(b"\n"),
        "\n".join(["# a comment", "", " \t ", lines[0], "#\tb", *lines[1:], "# the end é"]).encode(),
        "\n".join("\t".join(f" {cell} " for cell in line.split("\t")) for line in lines if line[0] != "#").encode(),
    ]
    for content in changes:
        assert parse_language({**files, name: content}) == expected


# --- every table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_other_columns_are_refused(name: str) -> None:
    columns = ", ".join(TABLES[name])
    files = tables()
    refuse({**files, name: b"# comment\n\na\tb\nc\td\n"}, f"{name}, line 3: the columns are a, b; {columns} are expected")
    refuse({**files, name: files[name].split(b"\n", 1)[1]}, f"{name}, line 1: the columns are …; {columns} are expected")
    for content in (b"", b"\n\n", b"# comment\n", b"\xef\xbb\xbf"):
        refuse({**files, name: content}, f"{name}: it is empty; a line with the columns {columns} is expected")


@pytest.mark.parametrize("name", TABLES)
def test_rows_of_other_lengths_are_refused(name: str) -> None:
    files, columns = tables(), TABLES[name]
    line = files[name].count(b"\n") + 1
    message = f"{name}, line {line}: NUM cells; {len(columns)} ({', '.join(columns)}), separated by tabs, are expected"
    for num in (1, len(columns) - 1, len(columns) + 1):
        refuse({**files, name: files[name] + b"\t".join([b"x"] * num)}, message.replace("NUM", str(num)))


@pytest.mark.parametrize(("name", "column"), [(name, column) for name, columns in TABLES.items() for column in columns])
def test_empty_cells_are_refused(name: str, column: str) -> None:
    files = tables()
    cells = ["" if other == column else "x" for other in TABLES[name]]
    row = "\t".join(cells).encode() + b"\n"
    header, rest = files[name].split(b"\n", 1)
    message = f"{name}, line 2: the {column} is empty; - stands for nothing"
    refuse({**files, name: header + b"\n" + row + rest}, message)
    refuse({**files, name: header + b"\n" + row.replace(b"\t\t", b"\t \t") + rest}, message)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("line", "byte"), [(b"ab\xff", 2), (b"# \xe7", 2), (b"\xc4", 0), (b"a\xed\xa0\x80", 1)])
def test_what_is_not_utf8_is_refused(name: str, line: bytes, byte: int) -> None:
    files = tables()
    number = files[name].count(b"\n") + 1
    message = f"{name}, line {number}: byte {byte} is not UTF-8 (0x{line[byte]:02x}); save the table as UTF-8"
    refuse({**files, name: files[name] + line + b"\r\n"}, message)


def test_places_are_named_as_they_are_given() -> None:
    places = {name: f"s3://b/{name}" for name in TABLES}
    with pytest.raises(
        SpecError, match=r"^s3://b/roots\.tsv, line 3: the root 'ev' is given twice, first in s3://b/roots\.tsv, line 2;"
    ):
        parse_language(tables(roots="ev noun -\nev noun -\n"), places)
    with pytest.raises(SpecError, match=r"^s3://b/harmony\.tsv: the letters 'vowel' are missing"):
        parse_language(tables(harmony="x letters a -\n"), places)


# --- what each of them may not hold -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harmony", "message"),
    [
        ("", "harmony.tsv: the letters 'vowel' are missing; a row such as vowel, letters, aeiou, -"),
        ("vowels letters ae -\n", "harmony.tsv: the letters 'vowel' are missing; …"),
        ("vowel letters ae -\nvowel letters i -\n", "harmony.tsv, line 3: the letters 'vowel' are given twice"),
        ("vowel letters {hard} -\n", "harmony.tsv, line 2: {hard} is no set of letters; known so far: none"),
        ("vowel letters ae -\nA last {b}{vowel} e\n", "harmony.tsv, line 3: {b} is no set of letters; known so far: vowel"),
        ("vowel letters ae -\nA end {b} e\n", "harmony.tsv, line 3: {b} is no set of letters; known so far: vowel"),
        (
            "vowel letters ae -\nA Last a e\n",
            "harmony.tsv, line 3: looks is 'Last'; letters, upper, last, end or next is allowed",
        ),
        ("vowel letters ae -\nA last e {B}\nA last a a{C\n", "harmony.tsv, line 4: 'a{C' has a brace without its partner"),
        ("vowel letters ae -\nA last e x}\n", "harmony.tsv, line 3: 'x}' has a brace without its partner"),
        ("vowel letters ae -\nA last e {B}\n", "harmony.tsv, line 3: rule 'A' becomes {B}, which is no rule; there are A"),
        ("vowel letters ae -\nA last e {}\n", "harmony.tsv, line 3: rule 'A' becomes {}, which is no rule; there are A"),
        (
            "vowel letters ae -\nA last e {A}\n",
            "harmony.tsv, line 3: the rules go in a circle: A → A; let one of them become letters",
        ),
        (
            "vowel letters ae -\nX last a {B}\nB last a x{C}\nC last a -\nC last e {D}y\nD last a {B}\n",
            "harmony.tsv, line 4: the rules go in a circle: B → C → D → B; let one of them become letters",
        ),
        (
            "vowel letters ae -\nA next loc e\n",
            "harmony.tsv, line 3: no affix asks for the stem 'loc'; there are plain, vowel",
        ),
        (
            "vowel letters ae -\ni upper ii I\n",
            "harmony.tsv, line 3: upper is 'ii' to 'I'; one letter to one, each once, is expected",
        ),
        ("vowel letters ae -\ni upper i II\n", "harmony.tsv, line 3: upper is 'i' to 'II'; one letter to one, …"),
        (
            "vowel letters ae -\ni upper i I\nı upper i İ\n",
            "harmony.tsv, line 4: upper is 'i' to 'İ'; … each once, is expected",
        ),
    ],
)
def test_harmony_that_is_refused(harmony: str, message: str) -> None:
    refuse(tables(harmony, affixes=""), message)


def test_an_unknown_rule_is_named_where_it_stands() -> None:
    """Not in the first row of the rule."""
    refuse(
        tables("vowel letters ae -\nA last e e\nA last a {B}\n", affixes=""),
        "harmony.tsv, line 4: rule 'A' becomes {B}, which is no rule; there are A",
    )


def test_rules_may_share_a_rule() -> None:
    """Two ways to the same rule are no circle."""
    language = parse_language(tables("vowel letters ae -\nA last e {B}{C}\nB last a {D}\nC last a {D}{D}\nD last a x\n", ""))
    assert list(language.rules) == ["A", "B", "C", "D"]


@pytest.mark.parametrize(
    ("affixes", "message"),
    [
        (
            "A case a * -\nB case b * -\nA case c * -\n",
            "affixes.tsv, line 4: the affix 'A' is given twice, first in affixes.tsv, line 2",
        ),
        (
            "A case a * -\nB case a noun x\n",
            "affixes.tsv, line 3: class 'case' has the form 'a' twice, first in affixes.tsv, line 2",
        ),
        ("A - a * -\n", "affixes.tsv, line 2: class '-', form 'a': a name other than 'other' and letters are needed"),
        (
            "A other a * -\n",
            "affixes.tsv, line 2: class 'other', form 'a': a name other than 'other' and letters are needed",
        ),
        ("A case - * -\n", "affixes.tsv, line 2: class 'case', form '-': a name other than 'other' and letters are needed"),
        ("A case x{B} * -\n", "affixes.tsv, line 2: affix 'A', class 'case': no rule {B} in harmony.tsv; there are A"),
        (
            "A case _{vowel} * -\n",
            "affixes.tsv, line 2: affix 'A', class 'case': no rule {vowel} in harmony.tsv; there are A",
        ),
        (
            "A case _a noun -\n",
            "affixes.tsv, line 2: the clitic 'A' stands after 'noun'; it may stand after any word: write *",
        ),
        ("A case x{A * -\n", "affixes.tsv, line 2: 'x{A' has a brace without its partner"),
        ("A case {A}} * -\n", "affixes.tsv, line 2: '{A}}' has a brace without its partner"),
        (
            "A case a noun,verb -\n",
            "affixes.tsv, line 2: affix 'A' stands after 'verb', which is no class; there are …noun…",
        ),
        ("A case a noun, -\n", "affixes.tsv, line 2: affix 'A' stands after '', which is no class; there are …"),
    ],
)
def test_affixes_that_are_refused(affixes: str, message: str) -> None:
    refuse(tables(affixes=affixes), message)


def test_the_same_form_in_two_classes_is_fine() -> None:
    assert len(parse_language(tables(affixes="A case a * -\nB person a * -\n")).affixes) == 2


def test_an_unknown_rule_where_there_is_none() -> None:
    refuse(
        tables("vowel letters ae -\n", "A case {A} * -\n"),
        "affixes.tsv, line 2: affix 'A', class 'case': no rule {A} in harmony.tsv; there are none",
    )


@pytest.mark.parametrize(
    ("roots", "message"),
    [
        (
            "ev noun -\nal noun -\nev noun -\n",
            "roots.tsv, line 4: the root 'ev' is given twice, first in roots.tsv, line 2; give it all its classes there",
        ),
        ("e\u00a0v noun -\n", "roots.tsv, line 2: the root 'e\\xa0v' holds white space; a root is one word"),
        ("e\u3000v noun -\n", "roots.tsv, line 2: the root …holds white space; a root is one word"),
        (
            "eV noun -\n",
            "roots.tsv, line 2: 'eV' has capitals after its first letter; write it in lower case, a name capitalized",
        ),
        ("EV noun -\n", "roots.tsv, line 2: 'EV' has capitals after its first letter; …"),
        ("ev noun vowel=av\nal noun vowel=aL\n", "roots.tsv, line 3: 'aL' has capitals after its first letter; …"),
        ("ev noun vowel\n", "roots.tsv, line 2: the form 'vowel' is no STEM=FORM"),
        ("ev noun vowel=\n", "roots.tsv, line 2: the form 'vowel=' is no STEM=FORM"),
        ("ev noun plain=av\n", "roots.tsv, line 2: the form 'plain=av': the plain stem is the root itself"),
        ("ev noun =av\n", "roots.tsv, line 2: the form '=av' is no STEM=FORM"),
        ("ev noun vowel=av vowel=iv\n", "roots.tsv, line 2: the form 'vowel' is given twice"),
        ("ev noun sounds=av sounds=iv\n", "roots.tsv, line 2: the form 'sounds' is given twice"),
        ("ev noun -\nal noun loc=el\n", "roots.tsv, line 3: no affix asks for the stem 'loc'; there are plain, vowel"),
        (
            "ev noun -\nal noun,foo -\n",
            "roots.tsv, line 3: root 'al' has the class 'foo', which affixes.tsv does not name; there are …noun…",
        ),
        ("ev - -\n", "roots.tsv, line 2: root 'ev' has the class '-', …"),
        ("ev noun,,plural -\n", "roots.tsv, line 2: root 'ev' has the class '', …"),
    ],
)
def test_roots_that_are_refused(roots: str, message: str) -> None:
    refuse(tables(roots=roots), message)


@pytest.mark.parametrize(
    ("harmony", "line"),
    [
        ("big letters aŸ -\nA last {big} e", 2),
        ("A last aÖ e", 2),
        ("A end {vowel} E", 2),
        ("A next vowel E", 2),
        ("i upper i İ\nA last aİ e", 3),
    ],
)
def test_capitals_in_rules_are_refused(harmony: str, line: int) -> None:
    """Encoding is by lower case letters; with capitals among them, words were read in two ways once."""
    refuse(tables(f"vowel letters aoiu -\n{harmony}\n"), f"harmony.tsv, line {line + 1}: …has capitals; …")


@pytest.mark.parametrize("form", ["lAr", "l{A}R", "_dA", "İr"])
def test_capitals_in_affixes_are_refused(form: str) -> None:
    files = packs.files(HARMONY, f"{AFFIXES}CAP cap {form} * -\n- noun - - -\n", ROOTS)
    refuse(files, "affixes.tsv, line 3: …has capitals; …")


def test_a_blank_within_a_root_is_refused() -> None:
    files = tables()
    refuse(
        {**files, "roots.tsv": files["roots.tsv"] + b"a b\tnoun\t-\n"},
        "roots.tsv, line 3: the root 'a b' holds white space; …",
    )


def test_capitals_are_those_of_the_language() -> None:
    """İ is a capital of its own, and so no mistake within a word of a language that has none."""
    upper = "i upper i İ\nı upper ı I\n"
    refuse(tables(HARMONY + upper, roots="eİv noun -\n"), "roots.tsv, line 2: 'eİv' has capitals after its first letter; …")
    language = parse_language(tables(HARMONY + upper, roots="İzmir noun -\nIşık noun -\n"))
    assert [root.text for root in language.roots] == ["İzmir", "Işık"]


@pytest.mark.parametrize("roots", ["Ahmet noun vowel=ahmed\n", "kitap noun vowel=Kitab\n"])
def test_forms_of_a_root_in_another_case_are_refused(roots: str) -> None:
    """Else " Ahmedi" would be Ahmet and an accusative, which read as " ahmedi"; it was so once."""
    root, form = roots.split()[0], roots.strip().partition("=")[2]
    message = f"{form!r} is a form of {root!r}; both in lower case, or both capitalized, are needed"
    refuse(tables(roots=roots), f"roots.tsv, line 2: {message}")


# --- limits -----------------------------------------------------------------------------------------------------------


def test_too_many_stems() -> None:
    def affixes(num: int) -> str:
        return "".join(f"X{n} case x{n} noun s{n}\n" for n in range(num))

    assert len(parse_language(tables(affixes=affixes(MOST_STEMS - 2))).stems) == MOST_STEMS
    refuse(
        tables(affixes=affixes(MOST_STEMS - 1)),
        f"affixes.tsv, line 2: {MOST_STEMS + 1} stems (plain, vowel, s0, …); at most {MOST_STEMS} are possible",
    )


def _with_classes(of_affixes: int, of_roots: int) -> dict[str, Any]:
    named = "".join(f"- r{n} - - -\n" for n in range(of_roots))
    return {
        "affixes": "".join(f"X{n} c{n} x noun -\n" for n in range(of_affixes)) + named,
        "roots": "ev noun -\n" + "".join(f"r{n} r{n} -\n" for n in range(of_roots)),
    }


@pytest.mark.parametrize("of_affixes", [1, 30, MOST_CLASSES - 2])
def test_too_many_classes(of_affixes: int) -> None:
    of_roots = MOST_CLASSES - 2 - of_affixes  # beside other and noun
    assert len(parse_language(tables(**_with_classes(of_affixes, of_roots))).kinds) == MOST_CLASSES
    refuse(
        tables(**_with_classes(of_affixes, of_roots + 1)),
        f"affixes.tsv, line …: {MOST_CLASSES + 1} classes of roots and affixes; at most {MOST_CLASSES} are possible",
    )


def test_too_many_classes_of_roots_alone() -> None:
    """Without affixes there is no first one to name."""
    with pytest.raises(
        SpecError, match=f"{MOST_CLASSES + 1} classes of roots and affixes; at most {MOST_CLASSES} are possible"
    ):
        parse_language(tables(**_with_classes(0, MOST_CLASSES - 1)))


def test_a_language_without_affixes_or_roots() -> None:
    language = parse_language(tables("vowel letters a -\n", "", ""))
    assert language.affixes == language.roots == ()
    assert language.stems == (PLAIN, VOWEL)
