"""The rules derived from an automaton: what they leave open, what they forget, and when there are none."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from pipeline.arrow import rows_of
from pipeline.boundaries import MOST_PLANES, MOST_REACH
from pipeline.kernels.boundaries import HARD, LocalRules
from pipeline.kernels.split import SplitTables
from pipeline.pretokenizer import DIGITS, GPT2_REGEX, PRESETS, Pretokenizer
from pipeline.regex import compile_regex
from tests import reference

PLAIN = r" ?\p{L}+| ?[^\s\p{L}]+|\s+(?!\S)|\s+"

STRINGS = r'"(?:a[^x"]*|b[^y"]*|c[^z"]*)"|[^"]+'
"""Between two quotes the first letter decides how the word goes on, however far away it is."""


def plane(tables: SplitTables, char: str) -> int:
    local = tables.local
    if ord(char) > 0x7F:
        return int(local.plane_of[tables.class_of[ord(char)]])
    (index,) = [i for i in range(len(local.range_low)) if local.range_low[i] <= ord(char) <= local.range_last[i]]
    return int(local.range_plane[index])


def hard_ascii(tables: SplitTables) -> set[str]:
    return {chr(byte) for byte in range(128) if plane(tables, chr(byte)) == HARD}


def says(tables: SplitTables, before: str, at: str, after: str) -> str:
    """What the rules say of the position before ``at``, each of the three a character that is not hard."""
    planes = [plane(tables, char) for char in (before, at, after)]
    found = {
        int(rule[0])
        for rule in tables.local.rules
        if all(int(members) >> plane & 1 for members, plane in zip(rule[1:], planes, strict=True))
    }
    assert len(found) < 2
    return {(): "goes on", (0,): "ask", (1,): "starts"}[tuple(found)]


def cut(texts: list[str], pattern: str) -> list[str]:
    rows = rows_of(pa.array(texts, type=pa.large_string()))
    words = []
    for start, stops in Pretokenizer((pattern,)).iter_words(rows):
        for stop in stops.tolist():
            words.append(rows.values[start:stop].tobytes().decode())
            start = stop
    return words


def test_docstring_example() -> None:
    tables = compile_regex(PLAIN)
    assert (tables.local.reach, hard_ascii(tables)) == (0, set())
    assert (tables.local.rules[:, 0] == 1).all(), "nothing is asked"
    for before, after in itertools.product("aé1. \n", repeat=2):
        assert says(tables, before, "x", after) == ("goes on" if before in "aé " else "starts")
        is_run = before in " \n" and after in " \n"
        assert says(tables, before, " ", after) == ("goes on" if is_run else "starts")


@pytest.mark.parametrize("pattern", [PLAIN, GPT2_REGEX, *(Pretokenizer.named(p).patterns[0] for p in ("gpt4o", "qwen2"))])
def test_rules_hold_in_every_context(pattern: str) -> None:
    tables = compile_regex(pattern)
    chars = [char for char in "aA1 \n./中" if plane(tables, char) != HARD]
    said = {window: says(tables, *window) for window in itertools.product(chars, repeat=3)}
    cutter = Split(Regex(pattern), "isolated")  # once: it costs more than the texts
    for text in map("".join, itertools.product(chars, repeat=5)):
        found = said[tuple(text[1:4])]
        is_start = any(start == 2 for _, (start, _) in cutter.pre_tokenize_str(text))
        assert found == "ask" or (found == "starts") == is_start, text


@pytest.mark.parametrize(
    "pattern", [p for name in PRESETS for digits in (None, *DIGITS) for p in Pretokenizer.named(name, digits).patterns]
)
def test_presets_have_rules(pattern: str) -> None:
    """Of ASCII only the apostrophe is hard, where there are contractions, and it is soon forgotten."""
    tables = compile_regex(pattern)
    has_contractions = "'ll" in pattern
    assert hard_ascii(tables) == ({"'"} if has_contractions else set())
    assert 0 < tables.local.reach <= 3 if has_contractions else tables.local.reach == 0
    assert tables.local.num_planes <= MOST_PLANES
    assert all(plane(tables, char) != HARD for char in "中한א1")


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        (STRINGS, ['zxy"axyz"xyz"abc"', '"byz"' + '"bxz' * 50 + '"', "x" * 70 + '"czx"' * 30, '"cxyxyxyxyxyxyz"']),
        (
            "|".join(f"{chr(0x41 + n)}{chr(0x61 + n)}+" for n in range(MOST_PLANES // 2)),
            ["AaaaBbbAbCcc" * 30, "PppPo", "zzAa"],
        ),
    ],
    ids=["never forgets", "too many planes"],
)
def test_without_rules_words_are_the_same(pattern: str, texts: list[str]) -> None:
    local: LocalRules = compile_regex(pattern).local
    assert (local.reach, len(local.rules), local.num_planes) == (-1, 0, 1)
    assert cut(texts, pattern) == [word for text in texts for word in reference.split(text, [pattern])]


def test_counting_is_asked() -> None:
    """Whether a pair starts here depends on how far away the run began: the automaton must say."""
    pattern = r"[ab]{2}|[cd]+"
    tables = compile_regex(pattern)
    assert says(tables, "a", "b", "a") == "ask"
    assert says(tables, "c", "a", "b") == "starts"
    assert says(tables, "c", "d", "a") == "goes on"
    texts = ["ab" * 100 + "a", "a" * 101 + "cd" + "b" * 65]
    assert cut(texts, pattern) == [word for text in texts for word in reference.split(text, [pattern])]


@pytest.mark.parametrize("length", range(1, MOST_REACH + 3))
def test_what_is_hard_is_forgotten_in_time(length: int) -> None:
    """After a quote some letters are a word of their own; if they are too many, there are no rules."""
    pattern = rf"'[abc]{{{length}}}d|'[ab]{{{length}}}e|\p{{L}}+|\p{{N}}+|\s+|[^\s\p{{L}}\p{{N}}]"
    local = compile_regex(pattern).local
    assert local.reach == -1 or local.reach >= length
    texts = [
        "".join(text) for text in itertools.product(["'", "ab" * length, "'" + "a" * length, "c", "d", "e", " "], repeat=3)
    ]
    assert cut(texts, pattern) == [word for text in texts for word in reference.split(text, [pattern])]


@pytest.mark.parametrize(
    ("pattern", "text"), [(r"b(?=[cd])|c(?=d)|[\s\S][^e]*", "bcex"), (r"[^a](?:a|[^d]c)(?=c)|[\s\S][^a]*", "xac")]
)
def test_the_first_word_of_a_document_may_be_like_no_other(pattern: str, text: str) -> None:
    """Further on, the word before takes its first character in, so no state behind it is found there."""
    assert cut([text, text], pattern) == 2 * reference.split(text, [pattern])
