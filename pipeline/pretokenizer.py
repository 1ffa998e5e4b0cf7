"""Named ways to cut text into words, and the same cut in a tokenizer.json.

A pretokenizer is a list of regexes applied one after the other, each to the pieces the last one left. What a regex does
not match is a piece of its own: nothing is removed, so words always join up to the text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.arrow import Rows
from pipeline.errors import ArtifactError, DataError, SpecError
from pipeline.kernels.split import SPAN, Lookaheads, SplitTables, split_some
from pipeline.regex import compile_regex
from pipeline.regex_syntax import UnsupportedRegex

GPT2_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_CL100K = _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTION}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTION}?"
    r"|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

DIGITS = {
    "l2r": r"\p{N}{1,3}",
    "r2l": r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
    "single": r"\p{N}",
}
"""Groups of three from the left (1234567 = 123 456 7), from the right (1 234 567), and single digits."""

PRESETS: dict[str, tuple[str, str]] = {
    "gpt2": (GPT2_REGEX.replace(r" ?\p{N}+", "DIGITS"), r" ?\p{N}+"),
    "gpt4": (_CL100K, DIGITS["l2r"]),
    "gpt4o": (_O200K, DIGITS["l2r"]),
    "llama3": (_CL100K, DIGITS["l2r"]),
    "qwen2": (_CL100K, DIGITS["single"]),
    "superbpe": (_O200K.replace(f"{_CONTRACTION}?", ""), DIGITS["l2r"]),
    "whitespace": (r" ?\S+|\s+(?!\S)|\s+", ""),
    "words": (
        r" ?[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        DIGITS["l2r"],
    ),
    "none": ("", ""),
}
"""Regex with a place for the digits, and what stands there if the spec does not say."""

_BEFORE_THREES = r"(?=(?:\p{Nd}{3})*(?!\p{Nd}))"
_OTHER_NUMBERS = rf"[\p{{Nl}}\p{{No}}]+(?:\p{{Nd}}{{1,2}}{_BEFORE_THREES})?"
_NUMBERS = rf"\P{{N}}+|(?:\p{{Nd}}{{1,3}}{_BEFORE_THREES}|{_OTHER_NUMBERS})(?:{_OTHER_NUMBERS})*"
"""Numbers are cut off, and cut inside, so that groups of three digits stand at the right: 1|234|567. Numbers that are no
digits, such as ², stay with what is before them: 1|000².
"""

RECIPES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "paper": ((_NUMBERS, r" ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"), (_NUMBERS,)),
    "recommended": (
        (PRESETS["superbpe"][0].replace("DIGITS", DIGITS["l2r"]),),
        (r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]{2,}[\r\n/]*| +(?!\S)",),
    ),
}
"""How SuperBPE cuts text, its two stages: that of the paper, and what its authors recommend since November 2025."""

LINES = r"[^\n]*\n|[^\n]+"
"""Lines, each with the line break at its end."""

PARAGRAPHS = r"[^\r\n]*[\r\n]+|[^\r\n]+"
"""Lines with all the line breaks behind them."""

LONGEST_KMER = 1000
"""Letters of the longest k-mers."""

WORDS_AT_ONCE = 1 << 16
"""Words per chunk that the splitter yields, or some more: their stops stay in the second-level cache."""


OUTSIDE_BYTES = 32 << 20
"""The longest document for the splitter of ``tokenizers``."""


class _Cutter(Protocol):
    def cut(self, rows: Rows) -> Iterator[tuple[int, NDArray[np.int64]]]: ...


@dataclass(frozen=True)
class _TableCutter:
    tables: SplitTables

    def cut(self, rows: Rows) -> Iterator[tuple[int, NDArray[np.int64]]]:
        doc, at = 0, int(rows.offsets[0])
        start = at
        num_bits = int(rows.offsets[-1]) - at if self.tables.num_lookaheads else 0
        lookaheads = Lookaheads(np.zeros(num_bits, dtype=np.uint8), np.array([at], dtype=np.int64))
        stops = np.empty(SPAN + 4 + WORDS_AT_ONCE, dtype=np.int64)
        while doc < len(rows.offsets) - 1:
            first = start
            num_words, doc, start, at = split_some(rows.values, rows.offsets, self.tables, lookaheads, doc, start, at, stops)
            if num_words:
                yield first, stops[:num_words]


@dataclass(frozen=True)
class _OutsideCutter:
    """The splitter of ``tokenizers``, for a regex the compiler does not know."""

    pattern: str

    def cut(self, rows: Rows) -> Iterator[tuple[int, NDArray[np.int64]]]:
        split = _outside_split(self.pattern)
        for start, stop in zip(rows.offsets[:-1].tolist(), rows.offsets[1:].tolist(), strict=True):
            if start == stop:
                continue
            if stop - start > OUTSIDE_BYTES:
                raise DataError(
                    f"a document of {stop - start:,} bytes: the regex {self.pattern!r} runs in `tokenizers`, "
                    f"which needs over 100 times as much memory and is given at most {OUTSIDE_BYTES:,} bytes; use a preset "
                    "or a regex that compiles, or drop such documents with the length filter"
                )
            try:
                pieces = split.pre_tokenize_str(rows.values[start:stop].tobytes().decode())
            except BaseException as error:
                if type(error).__name__ != "PanicException":  # what `tokenizers` raises is no Exception
                    raise
                raise DataError(
                    f"a document of {stop - start:,} bytes: the regex {self.pattern!r}, which runs in `tokenizers`, gives "
                    f"up on it ({error}); use a preset or a regex that compiles"
                ) from error
            yield start, start + np.cumsum([len(piece.encode()) for piece, _ in pieces], dtype=np.int64)


@functools.lru_cache(maxsize=64)
def _outside_split(pattern: str) -> Any:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    return Split(Regex(pattern), "isolated")


@dataclass(frozen=True)
class Pretokenizer:
    """``patterns``: regexes in the order they are applied; none: a document is one word."""

    patterns: tuple[str, ...]

    @staticmethod
    def named(preset: str, digits: str | None = None) -> Pretokenizer:
        """A preset, with its rule for digits or another one."""
        pattern, usual_digits = PRESETS[preset]
        if "DIGITS" in pattern:
            return Pretokenizer((pattern.replace("DIGITS", DIGITS[digits] if digits else usual_digits),))
        return Pretokenizer(tuple(p for p in (DIGITS[digits] if digits else "", pattern) if p))

    @staticmethod
    def custom(regex: str, digits: str | None = None) -> Pretokenizer:
        """Any regex ``tokenizers`` accepts; digits are cut off before it.

        Raises
        ------
        SpecError
            ``tokenizers`` refuses the regex.
        """
        try:
            _outside_split(regex)
        except Exception as error:  # tokenizers raises plain Exception
            raise SpecError(f"pretokenizer.regex is {regex!r}, which the regex engine refuses: {error}") from error
        return Pretokenizer(((DIGITS[digits],) if digits else ()) + (regex,))

    @staticmethod
    def kmers(k: int) -> Pretokenizer:
        """k-mers side by side: a document is cut after every ``k`` characters, from its beginning; the last may be shorter.

        Raises
        ------
        ValueError
            ``k`` is not 1 to ``LONGEST_KMER``.

        Examples
        --------
        With ``k = 3``, ``ACGTACGT`` is cut into ``ACG``, ``TAC`` and ``GT``.
        """
        if not 1 <= k <= LONGEST_KMER:
            raise ValueError(f"k is {k}; 1 to {LONGEST_KMER} is allowed")
        return Pretokenizer((rf"[\s\S]{{1,{k}}}",))

    @property
    def messages(self) -> list[str]:
        """For each regex that cannot be compiled: which construct is to blame."""
        found = []
        for pattern in self.patterns:
            try:
                compile_regex(pattern)
            except UnsupportedRegex as error:
                found.append(f"the regex runs through the slower splitter of `tokenizers`, with the same result: {error}")
        return found

    def _cutters(self) -> list[_Cutter]:
        cutters: list[_Cutter] = []
        for pattern in self.patterns:
            try:
                cutters.append(_TableCutter(compile_regex(pattern)))
            except UnsupportedRegex:
                cutters.append(_OutsideCutter(pattern))
        return cutters

    def iter_words(self, rows: Rows) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Cut documents into words, at most ``WORDS_AT_ONCE`` or so at a time.

        Yields
        ------
        (start, stops)
            Where the first word starts, and where each stops and the next starts, in bytes of ``rows.values``
            ``[shape=(n_words,), dtype=int64]``; overwritten when the next are asked for. Words are in order, never empty,
            and leave nothing out.
        """
        if not self.patterns:
            stops = rows.offsets[1:][np.diff(rows.offsets) > 0]
            if len(stops):
                yield 0, stops
            return
        yield from _cut_all(self._cutters(), rows)

    def to_tokenizers(self) -> Any:
        """The same cut as a ``tokenizers`` pre-tokenizer that also maps bytes to its byte-level characters."""
        from tokenizers import Regex, pre_tokenizers

        if self.patterns == (GPT2_REGEX,):
            return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        to_chars = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        if not self.patterns:
            return to_chars
        splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in self.patterns]
        return pre_tokenizers.Sequence([*splits, to_chars])

    @staticmethod
    def from_json(node: dict[str, Any] | None) -> Pretokenizer:
        """From the ``pre_tokenizer`` of a tokenizer.json.

        Raises
        ------
        ArtifactError
            It does something other than cutting with regexes and mapping bytes.
        """
        parts = (node.get("pretokenizers", [node]) if node else []) or []
        *splits, last = parts or [{}]
        if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
            raise ArtifactError("its pre-tokenizer does not end in ByteLevel without a prefix blank")
        patterns = []
        for split in splits:
            pattern = split.get("pattern", {}).get("Regex")
            if split.get("type") != "Split" or pattern is None or split["behavior"] != "Isolated" or split["invert"]:
                raise ArtifactError(f"its pre-tokenizer has a part that is not an isolating regex: {split.get('type')}")
            try:
                _outside_split(pattern)
            except Exception as error:  # tokenizers raises plain Exception
                raise ArtifactError(f"its pre-tokenizer has a regex that is none: {error}") from error
            patterns.append(pattern)
        return Pretokenizer((*patterns, GPT2_REGEX) if last.get("use_regex", True) else tuple(patterns))


def _cut_all(cutters: list[_Cutter], rows: Rows) -> Iterator[tuple[int, NDArray[np.int64]]]:
    first, *others = cutters
    for start, stops in first.cut(rows):
        if others:
            yield from _cut_all(others, Rows(rows.values, np.concatenate(([start], stops))))
        else:
            yield start, stops
