"""What the rules say about a position is what a backtracking engine does there."""

from __future__ import annotations

import re
import string
from random import Random

import numba
import numpy as np
import pytest
from hypothesis import given

from pipeline.kernels import boundaries
from pipeline.kernels._llvm import BLOCK
from pipeline.kernels.boundaries import HARD, decode, find_boundaries
from pipeline.kernels.keys import PADDING
from pipeline.pretokenizer import DIGITS, GPT2_REGEX, PRESETS, Pretokenizer
from pipeline.regex import compile_regex
from tests import reference, strategies

WITHOUT_JIT = bool(numba.config.DISABLE_JIT)
PATTERNS = list(
    dict.fromkeys(p for preset in PRESETS for digits in (None, *DIGITS) for p in Pretokenizer.named(preset, digits).patterns)
)[:: 5 if WITHOUT_JIT else 1]


def flags_of(data: bytes, pattern: str, start: int = 0) -> tuple[set[int], set[int]]:
    """Bytes from ``start`` on where a word starts, and those to ask about."""
    tables = compile_regex(pattern)
    num_blocks = (len(data) - start + BLOCK - 1) // BLOCK
    values = np.frombuffer(data + b"s" * PADDING, dtype=np.uint8)
    planes = np.full((tables.local.num_planes + 1, num_blocks + 3), 0x5555, dtype=np.uint64)
    unions = np.full((6, num_blocks + 2), 0x5555, dtype=np.uint64)
    flags = np.full((2, num_blocks), 0x5555, dtype=np.uint64)
    find_boundaries(values, start, len(data), num_blocks, tables.class_of, tables.local, planes, unions, flags)
    starts, asked = (
        {start + int(at) for at in np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))} for row in flags
    )
    return starts - asked, asked


def naive_starts(texts: list[str], pattern: str) -> tuple[set[int], set[int]]:
    """Where words start, and where characters start that are neither the first nor the last of a document."""
    starts, meaningful = set[int](), set[int]()
    first = 0
    for text in texts:
        at = first
        for word in reference.split(text, [pattern]):
            starts.add(at)
            at += len(word.encode())
        positions = first + np.cumsum([0, *(len(char.encode()) for char in text)])
        meaningful |= set(positions[1:-2].tolist())
        first = at
    return starts, meaningful


def assert_right(texts: list[str], pattern: str, start: int = 0) -> None:
    data = "".join(texts).encode()
    starts, meaningful = naive_starts(texts, pattern)
    seen, asked = flags_of(data, pattern, start)
    sure = {at for at in meaningful if at >= start} - asked
    assert seen & sure == starts & sure
    assert all(data[at] & 0xC0 != 0x80 for at in (seen | asked) if at < len(data)), "a flag inside a character"


@pytest.mark.parametrize("pattern", PATTERNS)
@given(texts=strategies.texts)
def test_what_is_not_asked_is_right(pattern: str, texts: list[str]) -> None:
    assert_right(texts, pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_blocks_from_the_middle_know_their_neighbours(pattern: str) -> None:
    """The characters before the first block and behind the last one count, whatever their width."""
    pieces = ["a", "A", " ", " the", "'s", "'", "1", "\n", ".", "é", "中", "😀", "\u00a0", "\u0301", "ǅ", "٣"]
    for seed in range(4 if WITHOUT_JIT else 40):
        chance = Random(seed)
        text = "".join(chance.choices(pieces, k=150))
        for start in (64, 65, 66, 67, 128):
            assert_right([text], pattern, start)


def test_plain_english_asks_nowhere() -> None:
    """Without apostrophes the rules know all of it: the automaton never runs."""
    chance = Random(5)
    alphabet = string.ascii_letters + string.digits + "   \n\t" + string.punctuation.replace("'", "")
    text = "x" + "".join(chance.choices(alphabet, k=200 if WITHOUT_JIT else 20_000)) + "x"
    seen, asked = flags_of(text.encode(), GPT2_REGEX)
    assert asked == set()
    starts, meaningful = naive_starts([text], GPT2_REGEX)
    assert seen & meaningful == starts & meaningful


def test_an_apostrophe_is_asked_about_and_little_else() -> None:
    """From one character before it to as many behind it as a contraction can have."""
    text = "We know that " * 10 + "they'll" + " be here " * 10
    at = text.index("'")
    _, asked = flags_of(text.encode(), GPT2_REGEX)
    assert asked == set(range(at - 1, at + 1 + compile_regex(GPT2_REGEX).local.reach + 1))


@pytest.mark.parametrize("char", ["'", "a", "é", "中", "😀"])
def test_planes_do_not_overlap(char: str) -> None:
    """A byte belongs to one character and so to one plane, also where a character lies across blocks."""
    local = compile_regex(GPT2_REGEX).local
    for shift in range(66):
        data = ("b" * shift + char * 40).encode()
        num_blocks = -(-len(data) // BLOCK)
        planes = np.zeros((local.num_planes + 1, num_blocks + 3), dtype=np.uint64)
        unions, flags = np.zeros((6, num_blocks + 2), dtype=np.uint64), np.zeros((2, num_blocks), dtype=np.uint64)
        values = np.frombuffer(data + bytes(PADDING), dtype=np.uint8)
        find_boundaries(values, 0, len(data), num_blocks, compile_regex(GPT2_REGEX).class_of, local, planes, unions, flags)
        bits = np.unpackbits(planes[: local.num_planes, 1 : num_blocks + 1].copy().view(np.uint8), axis=1, bitorder="little")
        assert (bits[:, : len(data)].sum(axis=0) == 1).all()
        assert bits[HARD, : len(data)].sum() == data.count(b"'")


@pytest.mark.parametrize(
    "char", ["\0", "a", "\x7f", "\x80", "é", "\u07ff", "\u0800", "中", "\uffff", "\U00010000", "\U0010ffff"]
)
def test_decoding(char: str) -> None:
    data = ("x" + char + "y").encode()
    assert decode(np.frombuffer(data, dtype=np.uint8), 1) == (ord(char), len(data) - 2)


@pytest.mark.skipif(WITHOUT_JIT, reason="without the compiler there is no code to look at")
def test_bytes_are_compared_64_at_a_time() -> None:
    """In the code as it runs: Numba would have said nothing had it become a loop over bytes."""
    local = compile_regex(GPT2_REGEX).local
    class_of = compile_regex(GPT2_REGEX).class_of
    values = np.zeros(BLOCK + PADDING, dtype=np.uint8)
    planes = np.zeros((local.num_planes + 1, 4), dtype=np.uint64)
    fill = numba.njit(boundaries._fill_planes.py_func)
    fill(values, 0, BLOCK, 1, 1, class_of, local, planes)
    (code,) = fill.inspect_llvm().values()
    assert re.search(r"icmp u\w+ <64 x i8>", code)
