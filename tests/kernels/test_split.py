"""The splitting kernel cuts as a backtracking engine does, whatever the size of its output buffer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels.split import lookahead_bits, split_some
from pipeline.regex import compile_regex
from tests import reference, strategies

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
FROM_THE_RIGHT = r"\d{1,3}(?=(?:\d{3})*(?!\d))"
GAPS = r"[ab]+c|\p{Lu}"


def cut(texts: list[str], pattern: str, capacity: int) -> list[bytes]:
    """All words of all texts, taken ``capacity`` or so at a time."""
    tables = compile_regex(pattern)
    parts = [text.encode() for text in texts]
    data = b"".join(parts)
    values = np.frombuffer(data + bytes(16), dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    bits = lookahead_bits(values, offsets, tables) if tables.num_lookaheads else values[:0]
    words: list[bytes] = []
    doc = start = 0
    at = 0
    while doc < len(texts):
        stops = np.full(capacity, -1, dtype=np.int64)
        num_words, doc, at = split_some(values, offsets, bits, tables, doc, at, stops)
        assert num_words > 0 or doc == len(texts)
        for stop in stops[:num_words].tolist():
            words.append(data[start:stop])
            start = stop
    return words


@pytest.mark.parametrize("pattern", [GPT2, FROM_THE_RIGHT, GAPS, r"\s+$", "a+?b"])
@given(strategies.texts, st.integers(2, 5))
def test_words_are_those_of_the_reference(pattern: str, texts: list[str], capacity: int) -> None:
    expected = [word.encode() for text in texts for word in reference.split(text, [pattern])]
    assert cut(texts, pattern, capacity) == expected


def test_docstring_example() -> None:
    assert cut(["I'm here  now"], GPT2, 100) == [b"I", b"'m", b" here", b" ", b" now"]


def test_lookaheads_stop_at_the_end_of_a_document() -> None:
    assert cut(["1234", "5"], FROM_THE_RIGHT, 100) == [b"1", b"234", b"5"]


def test_lookahead_over_a_long_run_is_linear() -> None:
    words = cut(["1" * 3_001], FROM_THE_RIGHT, 64)
    assert words == [b"1"] + [b"111"] * 1_000


@pytest.mark.parametrize("code_point", [0x0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF])
def test_every_width_of_utf8_is_decoded(code_point: int) -> None:
    char = chr(code_point)
    pattern = r"\n" if char == "\n" else rf"[^{char}]+" if code_point > 0x7F else r"[^\x00\x7f]+"
    assert cut([f"é{char}中"], pattern, 2) == ["é".encode(), char.encode(), "中".encode()]
