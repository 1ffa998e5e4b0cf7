r"""Random regexes and every preset on random texts, beside ``tokenizers``' own splitter.

``python -m tests.fuzz --seconds 600 --seed 1``; a difference is made small, printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from pipeline.arrow import rows_of
from pipeline.kernels.split import SPAN
from pipeline.pretokenizer import DIGITS, PRESETS, Pretokenizer
from pipeline.regex import compile_regex
from pipeline.regex_syntax import UnsupportedRegex

Patterns = tuple[str, ...]
Case = tuple[Patterns, list[str]]

_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SUPERBPE = (  # the first stage of its recommended recipe
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_NAMED = [Pretokenizer.named(preset, digits).patterns for preset in PRESETS for digits in (None, *DIGITS)]
_PAPER = r"(?=(\d{3})+(?!\d))"  # its published tokenizers: empty matches in front of groups of digits
FIXED: list[Patterns] = [
    patterns
    for patterns in dict.fromkeys(
        [*_NAMED, (SUPERBPE,), (_PAPER,), (_PAPER + r"| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",)]
    )
    if patterns
]

BLOCKS = [first for first in range(0, 0x110000, 256) if not 0xD800 <= first < 0xE000]
"""First code points of all blocks of 256, but those of surrogates."""


# --- texts ------------------------------------------------------------------------------------------------------------

_PIECES = (
    "a", "b", "ab", "the", "The", "USA", "iPhone", " a", " the", "'s", "'S", "'re", "'VE", "'ll", "'d", "'", "''", "'ſ",
    " ", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n", "\u00a0", "\u3000", "\u2028", "\u0085", "1", "12", "123",
    "1234567", " 7", "٣", "½", "Ⅷ", ".", ",", "!?", "...", "/", "_", "-", "(", "{}", '"', "é", "e\u0301", "\u0301", "ǅ",
    "ß", "ſ", "K", "Жук", "中文", "か", "한", "ภา", "א", "😀", "👩\u200d💻", "\u200b", "\ufeff", "\x00", "\x7f", "\ufffd",
    "\U0010ffff", "c", "x",
)  # fmt: skip
_SHORT = ("a", "b", "c", "1", " ", "\n", "'s", "é", "A", ".")


def _char(chance: Random, first: int) -> str:
    return chr(first + chance.randrange(256))


def _text(chance: Random, num_pieces: int) -> str:
    """A few pieces again and again, so that they meet in every order."""
    palette = chance.choices(chance.choice((_PIECES, _SHORT)), k=chance.randint(1, 8))
    if chance.random() < 0.3:
        palette += [_char(chance, chance.choice(BLOCKS)) for _ in range(3)]
    return "".join(chance.choices(palette, k=num_pieces))


def _documents(chance: Random) -> list[str]:
    """Some empty, many short, some of several blocks, now and then one of several spans."""
    sizes = [chance.choice((0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 150)) for _ in range(chance.randint(1, 30))]
    texts = [_text(chance, size) for size in sizes]
    if chance.random() < 0.02:
        # In pieces: a backtracking engine gives up on a long run.
        lines = "\n".join(_text(chance, 20) for _ in range(20)) + "\n"
        texts.insert(chance.randrange(len(texts)), lines * (2 * SPAN // len(lines.encode()) + 1))
    return texts


def _walk(chance: Random, num_chars: int, num_blocks: int = 16) -> Iterator[list[str]]:
    """Characters of every block, each between two pieces or beside each other."""
    for start in range(0, len(BLOCKS), num_blocks):
        texts = []
        for first in BLOCKS[start : start + num_blocks]:
            chars = [chr(first + i) for i in chance.sample(range(256), num_chars)]
            texts.append("".join(char + chance.choice(("", chance.choice(_PIECES))) for char in chars))
        yield texts


# --- regexes ----------------------------------------------------------------------------------------------------------

_CLASSES = (
    "a", "b", "c", "s", "1", " ", r"\n", r"\.", "'", "é", "中", "[ab]", "[bc]", "[^a]", "[^ab]", r"[a-c\d]", r"[\r\n]",
    r"[^\s\p{L}\p{N}]", r"[^\r\n\p{L}\p{N}]", r"[\p{Lu}\p{Lt}]", r"[\p{Ll}\p{M}]", r"[\s\S]", r"\p{L}", r"\P{L}", r"\p{N}",
    r"\p{^N}", r"\p{Lu}", r"\p{Ll}", r"\p{M}", r"\p{P}", r"\p{S}", r"\p{Zs}", r"\p{Han}", r"\p{Greek}", r"\s", r"\S", r"\d",
    r"\D", "[a-]", "[-b]", "[!-&]", "[!-&&a]", r"\w", r"\W", r"\x41", r"\u00e9", ".",
)  # fmt: skip
_REPEATS = ("+", "*", "?", "+?", "*?", "??", "++", "*+", "?+", "{2}", "{1,3}", "{2,}", "{0,2}", "{1,3}+", "{1}")
_CHECKS = (
    "$", r"\z", r"(?!\S)", r"(?=\s)", "(?=a)", "(?!b)", r"(?=[bc]|\z)", "(?= ?b)", r"(?!\s*1)", "(?=ab)", "(?!ab|c)",
    r"(?=a+\d)", r"(?=(?:\d{3})*(?!\d))", "(?=[ab]+$)",
)  # fmt: skip
_FOLDED = ("(?i:'s|'LL)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?i:k)", "(?i:[sx]a)", "(?i:a|b1)")


_FEW_CLASSES = ("a", "b", "c", "d", "[ab]", "[bc]", "[cd]", "[^a]", "[^d]", r"[\s\S]", "[ab]", "[^cd]")
_FEW_CHECKS = ("(?=a)", "(?=b)", "(?=[bc])", "(?=[cd])", "(?=[ad])", "(?!c)", "(?![ab])", "$", "(?=ab)", "(?=b*c)")


@dataclass(frozen=True)
class _Composer:
    """Regexes over a set of classes and lookaheads. Of few, each alternative has to do with the others."""

    chance: Random
    classes: Sequence[str]
    checks: Sequence[str]

    def repeated(self) -> str:
        return self.chance.choice(self.classes) + (self.chance.choice(_REPEATS) if self.chance.random() < 0.5 else "")

    def group(self) -> str:
        # No repeat without a bound around another: a backtracking engine would need exponential time.
        items = ["".join(self.chance.choices(self.classes, k=self.chance.randint(1, 2))) for _ in range(2)]
        if self.chance.random() < 0.5:
            stacked = self.chance.choice(("", "", "", "{2}", "{1}", "{1,2}"))
            return f"(?:{'|'.join(items)}){stacked}{self.chance.choice(('+', '*', '+?', '{1,3}', '{2,}', '{1}'))}"
        return f"({'|'.join(item + self.chance.choice(('', '+', '*?')) for item in items)}){self.chance.choice(('', '?'))}"

    def check(self) -> str:
        return self.chance.choice(self.checks)

    def alternative(self) -> str:
        sure = self.chance.choice(self.classes) + self.chance.choice(("", "", "+", "+?", "++", "{1,3}"))
        kinds = (self.repeated, self.repeated, self.group, self.check, lambda: self.chance.choice(_FOLDED))
        parts = [self.chance.choice(kinds)() for _ in range(self.chance.choice((0, 0, 1, 1, 2)))]
        if not parts or self.chance.random() < 0.9:  # few that match nothing, or they would cut at every character
            parts.insert(self.chance.randint(0, len(parts)), sure)
        return "".join(parts) + (self.check() if self.chance.random() < 0.4 else "")

    def regex(self) -> str:
        rest = (r"[\s\S][^a]*", r"[\s\S]+", r"[\s\S]", r"\s+(?!\S)|\s+")
        last = [self.chance.choice(rest)] if self.chance.random() < 0.4 else []
        return "|".join([self.alternative() for _ in range(self.chance.randint(1, 4))] + last)


# --- comparison -------------------------------------------------------------------------------------------------------


def ours(patterns: Patterns, texts: Sequence[str]) -> list[str]:
    rows = rows_of(pa.array(texts, type=pa.large_string()))
    words = []
    for start, stops in Pretokenizer(patterns).iter_words(rows):
        starts = [start, *stops[:-1].tolist()]
        words += [rows.values[a:b].tobytes().decode(errors="replace") for a, b in zip(starts, stops.tolist(), strict=True)]
    return words


def theirs(patterns: Patterns, texts: Iterable[str]) -> list[str]:
    pieces = [text for text in texts if text]
    for pattern in patterns:
        cutter = Split(Regex(pattern), "isolated")
        pieces = [piece for whole in pieces for piece, _ in cutter.pre_tokenize_str(whole)]
    return pieces


def verdict(patterns: Patterns, texts: Sequence[str]) -> str:
    """``same`` or ``different``; or who does not take the regex, ``unsupported`` by us or ``refused`` by them."""
    try:
        expected = theirs(patterns, texts)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "refused"  # an Exception of a regex they do not know, a panic of too much backtracking
    try:
        for pattern in patterns:
            compile_regex(pattern)  # without this, iter_words leaves it to tokenizers
    except UnsupportedRegex:
        return "unsupported"
    return "same" if ours(patterns, texts) == expected else "different"


def _shrink(whole: Any, fails: Callable[[Any], bool]) -> Any:
    """Leave one chunk after the other out of a string or list, as long as it still fails."""
    size = len(whole)
    while size > 0:
        at = 0
        while at < len(whole):
            fewer = whole[:at] + whole[at + size :]
            if fails(fewer):
                whole = fewer
            else:
                at += size
        size //= 2
    return whole


def reproduction(patterns: Patterns, texts: list[str]) -> str:
    """What is left of a case with a difference, and the words of both."""

    def differ(*case: Any) -> bool:
        return verdict(*case) == "different"

    texts = _shrink(texts, lambda fewer: differ(patterns, fewer))
    for i, whole in enumerate(texts):
        texts[i] = _shrink(whole, lambda less, i=i: differ(patterns, [*texts[:i], less, *texts[i + 1 :]]))
    if len(patterns) == 1:
        patterns = (_shrink(patterns[0], lambda less: differ((less,), texts)),)
    found = {"patterns": patterns, "texts": texts, "ours": ours(patterns, texts), "theirs": theirs(patterns, texts)}
    return "\n".join(f"{name}: {value!r}" for name, value in found.items())


# --- runs -------------------------------------------------------------------------------------------------------------


def walk_cases(seed: int, num_chars: int = 8) -> Iterator[Case]:
    """Each fixed regex with some characters of every block."""
    for number, patterns in enumerate(FIXED):
        for texts in _walk(Random(f"walk {seed} {number}"), num_chars):
            yield patterns, texts


def random_cases(seed: int) -> Iterator[Case]:
    """A fixed regex, then a random one, without end; several texts each, as compiling costs more than cutting."""
    chance = Random(f"random {seed}")
    while True:
        yield chance.choice(FIXED), _documents(chance)
        yield (_Composer(chance, _CLASSES, _CHECKS).regex(),), [text for _ in range(4) for text in _documents(chance)]
        few = ["".join(chance.choices("abcdx", k=chance.randrange(12))) for _ in range(200)]
        yield (_Composer(chance, chance.sample(_FEW_CLASSES, 6), _FEW_CHECKS).regex(),), few


def run(cases: Iterable[Case], seconds: float = float("inf")) -> tuple[Counter[str], str]:
    """How many cases ended how, and the first difference, made small; empty if there is none."""
    verdicts: Counter[str] = Counter()
    stop = time.monotonic() + seconds
    for patterns, texts in cases:
        found = verdict(patterns, texts)
        verdicts[found] += 1
        if found == "different":
            return verdicts, reproduction(patterns, texts)
        if time.monotonic() > stop:
            break
    return verdicts, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    verdicts, difference = run(itertools.chain(walk_cases(args.seed), random_cases(args.seed)), args.seconds)
    print(f"seed {args.seed}: {verdicts.total():,} cases, {dict(verdicts)}")  # noqa: T201
    print(difference, end="\n" if difference else "")  # noqa: T201
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())
