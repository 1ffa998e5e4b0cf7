"""Term packs and a user's terms: what is in them, what is refused, and what becomes of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from pipeline.arrow import Rows
from pipeline.errors import SpecError
from pipeline.normalizer import NORMALIZERS, normalize_text
from pipeline.pretokenizer import PRESETS, Pretokenizer
from pipeline.terms import (
    PACKS,
    Term,
    check_term,
    legal_terms,
    list_terms,
    normalized,
    parse_pack,
    parse_terms,
    read_pack,
    reserved,
    term_words,
)
from tests import strategies

LOWER, UPPER = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ROMAN = [tens + ones for tens in ("", "x") for ones in ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")]


def texts(pack: str, match: str | None = None) -> set[str]:
    return {term.text for term in read_pack(pack) if match in (None, term.match)}


def is_word(char: str) -> bool:
    """What `single_word` of `tokenizers` takes for part of a word."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.add_tokens([AddedToken("%", single_word=True)])
    return 1 not in tokenizer.encode(f"%{char}").ids


def pieces_of(text: str, contents: tuple[tuple[str, bool], ...]) -> list[str]:
    """A text, cut by `tokenizers` at its added tokens, which stand in brackets, and nowhere else."""
    alphabet = {char: number for number, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_tokens([AddedToken(content, single_word=alone) for content, alone in contents])
    pieces, end = [], 0
    encoding = tokenizer.encode(text)
    for number, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
        if number >= len(alphabet):
            pieces += [text[end:start], f"[{text[start:stop]}]"]
            end = stop
    return [piece for piece in [*pieces, text[end:]] if piece]


# --- packs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", PACKS)
def test_packs_are_sorted_and_clean(pack: str) -> None:
    terms = read_pack(pack)
    found = [term.text for term in terms]
    assert found == sorted(set(found))
    assert all(found)
    assert {term.match for term in terms} <= {"whole", "anywhere"}
    assert {term.where for term in terms} == {""}
    assert not [text for text in found if "{upper}" in text or "\x00" in text]


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_no_pack_reserves_a_plain_word(pack: str, normalizer: str) -> None:
    """Behind a blank it would be cut off longer words; so nº is in no pack, which NFKC makes ``no``."""
    assert not [term for term in normalized(read_pack(pack), normalizer) if term.match == "whole" and term.text.isalpha()]


@pytest.mark.parametrize("pack", PACKS)
def test_what_is_met_anywhere_ends_where_a_word_ends(pack: str) -> None:
    """So ``<b`` of ``<body`` is not met. The underscore, and what JSON and addresses escape, are no words."""
    found = [text for text in texts(pack, "anywhere") if text.strip(" _")]
    escapes = re.compile(r"%[0-9A-F]{2}|(\\[a-z])+|\\u00")
    assert not [text for text in found if is_word(text[-1]) and not escapes.fullmatch(text)]
    assert pack == "uri" or not [text for text in found if is_word(text[0])]


def test_years() -> None:
    assert read_pack("years") == tuple(Term(str(year), "whole") for year in range(1776, 2051))


def test_enumerations() -> None:
    assert texts("enumerations", "whole") == {str(number) for number in range(10, 1000)}
    inner = [*LOWER, *UPPER, *map(str, range(1, 100)), *ROMAN, *(number.upper() for number in ROMAN)]
    assert texts("enumerations", "anywhere") == {f"({item})" for item in inner}
    assert len(read_pack("enumerations")) == 990 + 2 * 26 + 99 + 2 * (20 - 3)  # i, v and x are letters too


def test_whitespace() -> None:
    runs = {char * times for char in " \t\n" for times in range(2, 9)} | {"\r\n" * times for times in range(1, 5)}
    others = {"\n" + " " * times for times in range(2, 9)} | {"\n\t", "\n\t\n\t", "\t ", " \t"}
    assert texts("whitespace") == runs | others


@pytest.mark.parametrize(
    ("pack", "match", "some"),
    [
        ("markdown", "anywhere", ["##", "######", "**", "~~", "```", "![", "](", "- [x] ", "********", "| ", "\n## "]),
        ("html", "anywhere", ["<div>", "</DIV>", "<td ", '" class="', ' HREF="', "<br/>", "&nbsp;", "<!DOCTYPE html>"]),
        ("json", "anywhere", ['": "', '":"', '", "', "}, {", "},{", '":true,', '": null}', '"}', "\\n", '\\"']),
        ("xml", "anywhere", ["<![CDATA[", "]]>", '<?xml version="1.0"', ' encoding="UTF-8"', "/>", ' xmlns="', "&lt;"]),
        ("uri", "anywhere", ["http://", "https://www.", "mailto:", "ftp://", "://", "www.", ".com/", "%20"]),
        ("citations", "anywhere", ["§", "§§", " § ", "] UKSC "]),
        (
            "citations",
            "whole",
            ["U.S.C.", "C.F.R.", "F.3d", "v.", "et seq.", "Id.", "supra,", "No.", "Abs.", "S.", "n°"],
        ),
    ],
)
def test_packs_hold(pack: str, match: str, some: list[str]) -> None:
    assert set(some) <= texts(pack, match)


def test_a_table_of_terms() -> None:
    table = (
        "# a comment\nmatch\tform\tterms\n"
        "whole\t-\tb 8..11 X..Z iii..vi IX..XI\n"
        "anywhere\t<{}> {upper}=\\s\\\\\tab\n"
        "anywhere\t-\t\\t*1..2 b #*2..3 \\r\\n -\n"
    )
    whole = ["b", "8", "9", "10", "11", "X", "Y", "Z", "iii", "iv", "v", "vi", "IX", "X", "XI"]
    anywhere = ["<ab>", "AB= \\", "\t", "\t\t", "##", "###", "\r\n", "-"]
    expected = [Term(text, "whole") for text in set(whole)] + [Term(text, "anywhere") for text in anywhere]
    assert parse_pack(table.encode(), "x.tsv") == tuple(sorted(expected, key=lambda term: term.text))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("half\t-\ta", "match is 'half'; whole or anywhere is allowed"),
        ("whole\t-\ta..9", "a..9: two numbers, two letters or two Roman numbers of one case are expected"),
        ("whole\t-\ta..Z", "a..Z: two numbers, two letters or two Roman numbers of one case are expected"),
        ("whole\t-\tiI..x", "iI..x: two numbers, two letters or two Roman numbers of one case are expected"),
        ("whole\t-\tii..xl", "ii..xl: Roman numbers up to xxxix are expected"),
        ("whole\t-\tiiii..x", "iiii..x: Roman numbers up to xxxix are expected"),
        ("whole\t-\ta\\q", "'a\\\\q' has \\q; \\s, \\t, \\n, \\r and \\\\ are allowed"),
        ("whole\t{}\\\ta", "'{}\\\\' has \\; \\s, \\t, \\n, \\r and \\\\ are allowed"),
        ("whole\ta", "2 cells; 3 (match, form, terms), separated by tabs, are expected"),
    ],
)
def test_a_table_that_is_not_as_it_should_be(row: str, message: str) -> None:
    with pytest.raises(SpecError, match=rf"^x\.tsv, line 2: {re.escape(message)}$"):
        parse_pack(f"match\tform\tterms\n{row}\n".encode(), "x.tsv")


def test_an_unknown_pack() -> None:
    with pytest.raises(SpecError, match=r"^there is no term pack 'year'; allowed: citations, enumerations, html, json, "):
        read_pack("year")


def test_reporters_and_journals() -> None:
    found = [term.text for term in legal_terms()]
    assert {"F.3d", "U.S.", "Cal.App.", "U.S.C.", "C.F.R.", "N.E.2d", "A.B.A.", "Int'l"} <= set(found)
    assert {term.match for term in legal_terms()} == {"whole"}
    assert not [text for text in found if len(text) < 2 or text.isalpha() or re.search(r"\s", text)]
    assert read_pack("legal") == legal_terms()
    code = "from pipeline.terms import legal_terms; print([ascii(term.text) for term in legal_terms()])"
    for seed in "12":
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        assert run.stdout.decode() == f"{[ascii(text) for text in found]}\n"


def test_reporters_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reporters_db", None)
    with pytest.raises(
        SpecError,
        match=r"^the term pack 'legal' is made of the package 'reporters-db', which is not installed: "
        r"pip install 'tokenmill\[legal\]'$",
    ):
        read_pack("legal")


def test_the_page_says_how_many_there_are() -> None:
    page = (Path(__file__).parents[1] / "docs" / "domains.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \| (.*) \|$", page, re.MULTILINE)
    assert [(pack, terms, contents) for pack, terms, contents, _ in rows] == [
        (pack, f"{len(read_pack(pack)):,}", f"{len(reserved(read_pack(pack))):,}") for pack in PACKS
    ]
    for pack, _, _, examples in rows:
        assert set(re.findall(r"`([^`]+)`", examples)) - {"-", "="} <= texts(pack)


# --- a user's terms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "habeas corpus\n# a comment\n\n \t\nEBITDA\n\\#include\n\\section\n\\\\#\na # b\nEBITDA\n",
        "\ufeffhabeas corpus\r\nEBITDA\r\n\r\n\\#include\r\n\\section\r\n\\\\#\r\na # b",
    ],
)
def test_a_file_of_terms(content: str) -> None:
    found = parse_terms(content.encode(), "t.txt")
    assert [term.text for term in found] == ["habeas corpus", "EBITDA", "#include", "\\section", "\\#", "a # b"]
    assert {term.match for term in found} == {"whole"}


def test_terms_know_where_they_were_given() -> None:
    found = parse_terms(b"# x\nb\na\nb\n", "t.txt")
    assert [(term.text, term.where) for term in found] == [("b", "t.txt, line 2"), ("a", "t.txt, line 3")]
    found = list_terms(["b", "#a", "b"], "terms")
    assert [(term.text, term.where) for term in found] == [("b", "terms[0]"), ("#a", "terms[1]")]


@given(st.lists(strategies.text, min_size=1))
def test_every_term_can_be_written_in_a_file(candidates: list[str]) -> None:
    allowed = []
    for text in candidates:
        try:
            check_term(text, "")
        except SpecError:
            continue
        allowed.append(text)
    if allowed:
        lines = [f"\\{text}" if text.lstrip("\\").startswith("#") else text for text in allowed]
        found = parse_terms("\n".join(lines).encode(), "t.txt")
        assert [term.text for term in found] == list(dict.fromkeys(allowed))
        assert found == list_terms(allowed, "terms")


REFUSED = [
    ("a\tb", "the term 'a\\tb' holds U+0009; tabs, line breaks, other control characters and halves of"),
    ("a\rb", "the term 'a\\rb' holds U+000D; tabs"),
    ("\x00", "the term '\\x00' holds U+0000; tabs"),
    ("a\u2028b", "the term 'a\\u2028b' holds U+2028; tabs"),
    ("a\u0085", "the term 'a\\x85' holds U+0085; tabs"),
    (" a", "the term ' a' begins or ends with white space; take it away: a term is also found behind a blank"),
    ("a ", "the term 'a ' begins or ends with white space; take it away: a term is also found behind a blank"),
    ("a\u00a0", "the term 'a\\xa0' begins or ends with white space; take it away: a term is also found behind a blank"),
    ("é" * 1001, f"the term '{'é' * 60}'… has 1,001 characters; up to 1,000 are allowed"),
]


@pytest.mark.parametrize(("term", "message"), REFUSED)
def test_terms_that_are_refused(term: str, message: str) -> None:
    with pytest.raises(SpecError, match=rf"^t\.txt, line 2: {re.escape(message)}"):
        parse_terms(f"good\n{term}\n".encode(), "t.txt")
    with pytest.raises(SpecError, match=rf"^terms\[1\]: {re.escape(message)}"):
        list_terms(["good", term], "terms")


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("", "the term is empty; 1 to 1,000 characters are allowed"),
        ("a\nb", "the term 'a\\nb' holds U+000A; tabs"),
        (" ", "the term ' ' begins or ends with white space"),
        ("\ud800", "the term '\\ud800' holds U+D800; tabs"),
    ],
)
def test_terms_that_are_refused_in_a_list(term: str, message: str) -> None:
    with pytest.raises(SpecError, match=rf"^terms\[1\]: {re.escape(message)}"):
        list_terms(["good", term], "terms")


def test_a_term_of_the_most_characters() -> None:
    assert parse_terms(("é" * 1000).encode(), "t.txt")[0].text == "é" * 1000


def test_files_without_terms() -> None:
    for content in (b"", b"\n\n", b"# a\n", b"\xef\xbb\xbf"):
        with pytest.raises(SpecError, match=r"^t\.txt: there are no terms; a file with a term on each line is expected$"):
            parse_terms(content, "t.txt")
    with pytest.raises(SpecError, match=r"^terms: there are no terms; a list of terms is expected$"):
        list_terms([], "terms")


def test_a_file_that_is_not_utf8() -> None:
    with pytest.raises(SpecError, match=r"^t\.txt, line 2: byte 3 is not UTF-8 \(0xe9\); save the file as UTF-8$"):
        parse_terms(b"good\ncaf\xe9\n", "t.txt")


# --- normalized -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_packs_are_normalized(pack: str, normalizer: str) -> None:
    found = normalized(read_pack(pack), normalizer)
    expected = dict.fromkeys(normalize_text(term.text, normalizer) for term in read_pack(pack))
    assert [term.text for term in found] == list(expected)
    assert normalized(found, normalizer) == found


def test_the_first_of_terms_that_become_the_same_stays() -> None:
    terms = (Term("No.", "anywhere"), Term("no.", "whole"))
    assert normalized(terms, "lowercase") == (Term("no.", "anywhere"),)


@pytest.mark.parametrize(
    ("term", "normalizer", "message"),
    [
        ("EBITDA", "lowercase", "the normalizer 'lowercase' makes it 'ebitda'; write it so, or choose another normalizer"),
        ("ﬁle", "nfkc", "the normalizer 'nfkc' makes it 'file'; write it so, or choose another normalizer"),
        (
            "cafe\u0301",
            "nfc",
            "the normalizer 'nfc' makes it 'caf\u00e9' (U+0301 becomes U+00E9); write it so, or choose another normalizer",
        ),
        (
            "caf\u00e9",
            "nfd",
            "the normalizer 'nfd' makes it 'cafe\u0301' (U+00E9 becomes U+0301); write it so, or choose another normalizer",
        ),
    ],
)
def test_a_term_that_the_normalizer_changes_is_refused(term: str, normalizer: str, message: str) -> None:
    terms = parse_terms(f"good\n{term}\n".encode(), "t.txt")
    with pytest.raises(
        SpecError, match=f"^{re.escape(f't.txt, line 2: the term {term!r} never stands in normalized text, for {message}')}$"
    ):
        normalized(terms, normalizer)
    assert normalized(terms, "none") == terms


# --- reserved ---------------------------------------------------------------------------------------------------------


def test_what_is_reserved_for_a_term() -> None:
    whole = ["F.3d", "12", "1,000", "10-K", "U.S.", "(2d", "(a)", "§", "habeas corpus", "C++", "é", "का", "٣"]
    assert reserved([Term(text, "whole") for text in whole]) == (
        (" F.3d", False), ("F.3d", True), ("12", True), ("1,000", True), (" 10-K", False), ("10-K", True), (" U.S.", False),
        ("U.S.", True), ("(2d", True), ("(a)", False), ("§", False), (" habeas corpus", False), ("habeas corpus", True),
        (" C++", False), ("C++", True), (" é", False), ("é", True), (" का", False), ("का", True), ("٣", True),
    )  # fmt: skip
    anywhere = ["a", "12", "  ", "(a)"]
    assert reserved([Term(text, "anywhere") for text in anywhere]) == tuple((text, False) for text in anywhere)


def test_what_is_reserved_keeps_its_order_and_comes_once() -> None:
    terms = [Term("b", "whole"), Term(" a", "anywhere"), Term("a", "whole"), Term("b", "anywhere"), Term("12", "anywhere")]
    expected = ((" b", False), ("b", True), (" a", False), ("a", True), ("12", False))
    assert reserved(terms) == expected
    assert reserved([*terms, *terms]) == expected


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("12345 123 x12 12x 12_", ["12345 ", "[123]", " x12 12x 12_"]),
        ("1,999 x12 12_ 12th", ["1,", "[999]", " x12 12_ 12th"]),
        ("in 1999, 31999 and 19991", ["in ", "[1999]", ", 31999 and 19991"]),
        ("1,999.12-13", ["1,", "[999]", ".", "[12]", "-", "[13]"]),
        ("5(a)(12)(xii)(q1)", ["5", "[(a)]", "[(12)]", "[(xii)]", "(q1)"]),
        ("<b><body x", ["[<b>]", "<body x"]),
        ("18 U.S.C. § 1030", ["[18]", "[ U.S.C.]", "[ § ]", "1030"]),
        ("(U.S.C.) xU.S.C.", ["(", "[U.S.C.]", ") xU.S.C."]),
        ("99 F.3d 12", ["[99]", "[ F.3d]", " ", "[12]"]),
        ("a    b", ["a", "[    ]", "b"]),
    ],
)
def test_how_packs_are_met(text: str, pieces: list[str]) -> None:
    packs = ("whitespace", "html", "citations", "years", "enumerations")
    terms = [term for pack in packs for term in read_pack(pack) if term.text not in ("<body", "<body ")]
    assert pieces_of(text, reserved(terms)) == pieces


def test_a_term_that_ends_in_a_letter_also_begins_longer_words() -> None:
    """What `tokenizers` cannot do: to look behind a token that begins with a blank, but not before it."""
    contents = reserved([Term("art", "whole")])
    expected = ["the", "[ art]", "; start (", "[art]", ")", "[ art]", "icle"]
    assert pieces_of("the art; start (art) article", contents) == expected
    assert pieces_of("the art art", (("art", True), (" art", True))) == ["the art art"]


numbers = st.lists(st.sampled_from(["0", "1", "9", "٣"]), min_size=1, max_size=4).map("".join)


@given(st.sets(numbers, max_size=8), st.lists(st.one_of(numbers, st.sampled_from([" ", "a", "_", ",", "é", "(", "²"]))))
def test_numbers_are_never_cut(terms: set[str], parts: list[str]) -> None:
    text = "".join(parts)
    pieces = pieces_of(text, reserved([Term(term, "whole") for term in sorted(terms)]))
    expected = []
    for piece in re.split(r"(\w+)", text.replace("²", "\N{DOUBLE PRIME}")):  # no part of a word there, but in Python's \w
        piece = piece.replace("\N{DOUBLE PRIME}", "²")
        if piece in terms:
            expected.append(f"[{piece}]")
        elif piece and expected and not expected[-1].startswith("["):
            expected[-1] += piece
        elif piece:
            expected.append(piece)
    assert pieces == expected


@given(
    st.lists(st.text("aB1.( §", min_size=1, max_size=4).filter(lambda text: text == text.strip()), max_size=6),
    strategies.text,
)
def test_a_whole_term_never_begins_within_a_word(terms: list[str], text: str) -> None:
    contents = reserved([Term(term, "whole") for term in terms])
    pieces = pieces_of(text, contents)
    before = ""
    for piece in pieces:
        found = piece[1:-1] if (piece[1:-1] in dict(contents) and piece[0] == "[") else None
        if found and is_word(found[0]) and before:
            assert not is_word(before[-1])
        before = found or piece


@pytest.mark.parametrize(
    "char", ["a", "é", "я", "中", "\u0301", "\u093e", "7", "٣", "Ⅷ", "_", "‿", "²", ".", " ", "§", "°", "😀"]
)
def test_what_is_part_of_a_word_is_so_for_tokenizers(char: str) -> None:
    expected = {(f" {char}.", False), (f"{char}.", True)} if is_word(char) else {(f"{char}.", False)}
    assert set(reserved([Term(f"{char}.", "whole")])) == expected


# --- counts -----------------------------------------------------------------------------------------------------------


def rows_list(rows: Rows) -> list[bytes]:
    return [rows.values[a:b].tobytes() for a, b in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)]


def test_words_of_terms() -> None:
    terms = [Term("habeas corpus", "whole"), Term("corpus", "whole"), Term("Corpus", "whole"), Term("12", "whole")]
    words, counts = term_words(terms, Pretokenizer.named("gpt2"), "lowercase")
    found = dict(zip(rows_list(words), counts.tolist(), strict=True))
    assert found == {b" 12": 1, b" corpus": 3, b" habeas": 1, b"12": 1, b"corpus": 1, b"habeas": 1}
    assert list(found) == sorted(found)
    assert counts.dtype == np.int64


def test_words_of_no_terms() -> None:
    words, counts = term_words([], Pretokenizer.named("gpt4"))
    assert rows_list(words) == []
    assert counts.tolist() == []


@pytest.mark.parametrize("preset", PRESETS)
@given(
    terms=st.lists(strategies.typical_text.filter(bool), max_size=6),
    normalizer=st.sampled_from(["none", "nfc", "lowercase"]),
)
def test_words_of_terms_are_those_of_tokenizers(preset: str, terms: list[str], normalizer: str) -> None:
    pretokenizer = Pretokenizer.named(preset)
    splits = pretokenizer.to_tokenizers()
    to_byte = {char: bytes([byte]) for byte, char in byte_chars().items()}
    expected: Counter[bytes] = Counter()
    for text in {normalize_text(f"{blank}{term}", normalizer) for term in terms for blank in ("", " ")}:
        expected.update(b"".join(map(to_byte.__getitem__, piece)) for piece, _ in splits.pre_tokenize_str(text))
    words, counts = term_words([Term(term, "whole") for term in terms], pretokenizer, normalizer)
    assert list(zip(rows_list(words), counts.tolist(), strict=True)) == sorted(expected.items())


def byte_chars() -> dict[int, str]:
    """The characters that stand for bytes in the vocabulary of GPT-2."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return {byte: chr(byte) if byte in printable else chr(next(others)) for byte in range(256)}
