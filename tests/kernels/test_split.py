"""The splitting kernel cuts as a backtracking engine does, wherever blocks, spans and documents end."""

from __future__ import annotations

import itertools
from random import Random

import numba
import numpy as np
import pytest
from hypothesis import given
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from pipeline.kernels import split
from pipeline.kernels.keys import PADDING
from pipeline.pretokenizer import DIGITS, PRESETS, Pretokenizer
from pipeline.regex import compile_regex
from tests import strategies

WITHOUT_JIT = bool(numba.config.DISABLE_JIT)
if WITHOUT_JIT:  # a span of two blocks has the same edges, and is quick
    split.SPAN_BLOCKS, split.SPAN = 2, 128
SPAN = split.SPAN

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
FROM_THE_RIGHT = r"\d{1,3}(?=(?:\d{3})*(?!\d))"
SPECIAL = [GPT2, FROM_THE_RIGHT, r"[ab]+c|\p{Lu}", r"\s+$", "a+?b", r"\w+?(?=[aeiou]|\z)|\s", r"(?:\S\S)+(?!\S)|\s*\n"]
ALL_PRESETS = [p for preset in PRESETS for digits in (None, *DIGITS) for p in Pretokenizer.named(preset, digits).patterns]
PATTERNS = list(dict.fromkeys(SPECIAL + (ALL_PRESETS[:1] + ALL_PRESETS[-1:] if WITHOUT_JIT else ALL_PRESETS)))

PIECES = (
    "a", "the", " the", " Mill", "USA", "I'm", "they'll", "'", "''", "d'été", "'S", " ", "  ", "\t", "\n", "\r\n", " \n ",
    "\u00a0", "\u3000", "\u2028", "1", "12", " 1234567", "٣٤", "½", ".", "!?", "...", "/", "_", "é", "e\u0301", "\u0301",
    "ǅ", "ß", "Жук", "中文", "한글", "😀", "👩\u200d💻", "\U0010ffff", "c", "ab",
)  # fmt: skip
ODD = "aAǅs1٣ \n\r\u00a0\u3000'./\u0301中😀"
"""One character of each kind that a preset tells apart, and of different widths."""


def cut(texts: list[str], pattern: str, before: str = "") -> list[bytes]:
    """All words of all texts, taken as few at a time as the kernel can; ``before`` lies in front of the first text."""
    tables = compile_regex(pattern)
    parts = [text.encode() for text in texts]
    data = before.encode() + b"".join(parts)
    values = np.frombuffer(data + b"s" * PADDING, dtype=np.uint8)  # a letter: who looks at the padding will be wrong
    offsets = np.cumsum([len(before.encode()), *map(len, parts)], dtype=np.int64)
    bits = np.full(offsets[-1] - offsets[0] if tables.num_lookaheads else 0, 0xFF, dtype=np.uint8)
    lookaheads = split.Lookaheads(bits, offsets[:1].copy())
    doc = 0
    start = at = first = int(offsets[0])
    words: list[bytes] = []
    while doc < len(texts):
        stops = np.full(SPAN + 4, -1, dtype=np.int64)
        num_words, doc, start, at = split.split_some(values, offsets, tables, lookaheads, doc, start, at, stops)
        for stop in stops[:num_words].tolist():
            words.append(data[first:stop])
            first = stop
        assert first == start
    assert first == len(data)
    return words


def expected(texts: list[str], pattern: str) -> list[bytes]:
    cutter = Split(Regex(pattern), "isolated")  # once: it costs more than most texts
    return [word.encode() for text in texts if text for word, _ in cutter.pre_tokenize_str(text)]


def filler(chance: Random, num_bytes: int) -> str:
    """Text of exactly so many bytes."""
    pieces = [""]
    left = num_bytes
    while left > 0:
        piece = chance.choice(PIECES)
        piece = piece if len(piece.encode()) <= left else "x"
        pieces.append(piece)
        left -= len(piece.encode())
    return "".join(pieces)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(texts=strategies.texts)
def test_words_are_those_of_the_reference(pattern: str, texts: list[str]) -> None:
    assert cut(texts, pattern) == expected(texts, pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_documents_may_end_anywhere(pattern: str) -> None:
    """Around the edges of blocks and spans, some empty, some of one byte."""
    sizes = [SPAN - 1, 0, 1, 0, 0, 1, 62, 63, 64, 65, 127, 128, 129, 1, SPAN - 64, SPAN, SPAN + 1, 2 * SPAN + 3, 2, 0]
    chance = Random(7)
    texts = [filler(chance, size) for size in sizes]
    assert cut(texts, pattern) == expected(texts, pattern)
    texts = texts[::-1]
    assert cut(texts, pattern) == expected(texts, pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_one_document_of_several_spans(pattern: str) -> None:
    """Words go on over span edges; all at one position are resumed there."""
    text = filler(Random(8), 3 * SPAN + 100)
    assert cut([text], pattern) == expected([text], pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pieces_from_the_middle_of_a_text(pattern: str) -> None:
    texts = [filler(Random(9), size) for size in (70, SPAN + 50, 0, 3)]
    for before in ("x", "'", "12", "é" * 33, "中" * 50):
        assert cut(texts, pattern, before) == expected(texts, pattern)


@pytest.mark.parametrize("edge", [64, SPAN])
@pytest.mark.parametrize("pattern", [GPT2, *PATTERNS[-1:], Pretokenizer.named("gpt4o").patterns[0], FROM_THE_RIGHT])
def test_characters_may_lie_across_an_edge(pattern: str, edge: int) -> None:
    straddling = "I'm 中'll don't été's 👩\u200d💻 d'\u00a0x\u3000\u0301'S ǅ٣1234 ''re 1\r\n  \n'"
    for shift in range(71):
        text = filler(Random(shift), edge - 60 + shift) + straddling * 2 if edge > 60 else ""
        assert cut([text], pattern) == expected([text], pattern)


@pytest.mark.parametrize("pattern", [GPT2, FROM_THE_RIGHT, "a+?b", Pretokenizer.named("gpt4").patterns[0]])
def test_many_tiny_documents(pattern: str) -> None:
    """Between two letters no boundary is seen: nothing but the offsets ends these documents."""
    many = 1_000 if WITHOUT_JIT else 40_000
    assert cut(["a"] * many, pattern) == [b"a"] * many
    assert cut(["", "a", "", "1", "ab"] * many, pattern) == expected(["a", "1", "ab"], pattern) * many
    assert cut([""] * many, pattern) == []


@pytest.mark.parametrize("pattern", PATTERNS)
def test_odd_characters_beside_each_other(pattern: str) -> None:
    texts = ["".join(chars) for chars in itertools.product(ODD, repeat=2 if WITHOUT_JIT else 3)]
    assert cut(texts, pattern) == expected(texts, pattern)
    whole = ["".join(texts)]  # the same in the middle of a document
    assert cut(whole, pattern) == expected(whole, pattern)


@pytest.mark.parametrize("text", ["bcex", "bcxxexx", "bc" + "x" * 100 + "ex" * 40])
def test_a_document_may_start_with_a_word_found_nowhere_else(text: str) -> None:
    """``b`` alone is a word at the start only: further on, what stands before it takes it in."""
    pattern = r"b(?=[cd])|c(?=[de])|[\s\S][^e]*"
    assert cut([text, text], pattern) == expected([text, text], pattern)


def test_docstring_example() -> None:
    assert cut(["I'm here  now"], GPT2) == [b"I", b"'m", b" here", b" ", b" now"]


def test_lookaheads_stop_at_the_end_of_a_document() -> None:
    assert cut(["1234", "5"], FROM_THE_RIGHT) == [b"1", b"234", b"5"]


@pytest.mark.parametrize("num_digits", [1_000, 1_001, 3_002] if WITHOUT_JIT else [3_001, 100_000, 1_000_000])
def test_lookahead_over_a_long_run_is_linear(num_digits: int) -> None:
    """The square of a million would take hours."""
    words = cut(["x" + "1" * num_digits, "22"], FROM_THE_RIGHT)
    first = [b"1" * (num_digits % 3)] if num_digits % 3 else []
    assert words == [b"x", *first, *[b"111"] * (num_digits // 3), b"22"]


@pytest.mark.parametrize("code_point", [0x0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF])
def test_every_width_of_utf8_is_decoded(code_point: int) -> None:
    char = chr(code_point)
    pattern = rf"[^{char}]+" if code_point > 0x7F else r"[^\x00\x7f]+"
    assert cut([f"é{char}中"], pattern) == ["é".encode(), char.encode(), "中".encode()]
