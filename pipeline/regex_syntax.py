r"""The syntax of pretokenizer regexes: from a pattern to a tree.

The syntax is Oniguruma's Ruby flavour, which is what ``tokenizers`` uses; so ``$`` is the end of a *line*, ``.`` stops
at ``\n`` and ``{1,3}+`` is a repeat of a repeat. Supported: alternation, groups, ``(?i:…)`` over ASCII, classes with
Unicode properties, greedy, lazy and counted repeats, possessive repeats of one class, ``$`` and lookaheads.
Whatever else is found raises ``UnsupportedRegex`` and names the construct: the caller then uses the
splitter of ``tokenizers`` itself.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.unicode import CATEGORIES, NUM_CODE_POINTS, in_categories, probe

CodePoints = NDArray[np.bool_]

MAX_CHARS = 10_000
MAX_DEPTH = 100


class UnsupportedRegex(ValueError):
    """The regex uses something the compiler does not know; the message names it."""


@dataclass(frozen=True, eq=False)
class Chars:
    """One character of a set."""

    members: CodePoints


@dataclass(frozen=True, eq=False)
class Sequence:
    """One thing after the other."""

    items: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Choice:
    """Alternatives, the first that leads to a match wins."""

    items: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Repeat:
    """``least`` to ``most`` times (None: any number), as many as possible if greedy."""

    item: Node
    least: int
    most: int | None
    greedy: bool


@dataclass(frozen=True, eq=False)
class NextChar:
    """True where the next character is in the set, or, if ``at_end``, where there is none."""

    members: CodePoints
    at_end: bool


@dataclass(frozen=True, eq=False)
class Lookahead:
    """True where what follows matches, or, if not ``positive``, does not."""

    item: Node
    positive: bool


Node = Chars | Sequence | Choice | Repeat | NextChar | Lookahead


def _is_nullable(node: Node) -> bool:
    match node:
        case Chars():
            return False
        case Sequence(items):
            return all(map(_is_nullable, items))
        case Choice(items):
            return any(map(_is_nullable, items))
        case Repeat(item, least, _, _):
            return least == 0 or _is_nullable(item)
        case _:
            return True


_ESCAPED_CHARS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "a": "\a", "e": "\x1b"}
_WHITE_SPACE = (0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85)
# Beyond their other case, the letters k and s also fold to KELVIN SIGN and LATIN SMALL LETTER LONG S.
_EXTRA_FOLDS = {"k": "\u212a", "s": "\u017f"}
# Two-letter strings that fold to one character (ß, ﬀ, ﬁ, ﬂ, ﬆ): not expressible one character at a time.
_FOLDED_PAIRS = {"ss", "ff", "fi", "fl", "st"}


@functools.cache
def _property(name: str) -> CodePoints:
    wanted = next((c for c in CATEGORIES if c.lower() == name.lower()), None)
    if wanted or (len(name) == 1 and name.upper() in "LMNPSZ"):
        return in_categories((wanted or name.upper(),))
    try:
        return probe(rf"\p{{{name}}}")
    except Exception as error:  # tokenizers raises plain Exception for a regex it refuses
        raise UnsupportedRegex(f"the property \\p{{{name}}}: {error}") from error


@functools.cache
def _shorthand(letter: str) -> CodePoints:
    match letter:
        case "s":
            members = in_categories(("Z",)).copy()
            members[list(_WHITE_SPACE)] = True
            return members
        case "d":
            return in_categories(("Nd",))
        case _:
            return probe(r"\w")


@functools.lru_cache(maxsize=64)
def _single(char: str, ignore_case: bool) -> CodePoints:
    """The set of one character, in both cases if it is ASCII; not to be changed."""
    members = np.zeros(NUM_CODE_POINTS, dtype=bool)
    members[ord(char)] = True
    if ignore_case:
        for other in (char.lower(), char.upper(), _EXTRA_FOLDS.get(char.lower(), char)):
            members[ord(other)] = True
    return members


class _Parser:
    """Recursive descent over the pattern; ``at`` is the next character to read."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0

    def peek(self, length: int = 1) -> str:
        return self.pattern[self.at : self.at + length]

    def take(self, expected: str) -> bool:
        if self.pattern.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False

    def unsupported(self, what: str, at: int | None = None) -> UnsupportedRegex:
        return UnsupportedRegex(f"{what} at character {self.at if at is None else at} of {self.pattern!r}")

    def parse(self) -> Node:
        node = self.choice(ignore_case=False)
        if self.at < len(self.pattern):
            raise self.unsupported(f"{self.peek()!r}")
        return node

    def choice(self, ignore_case: bool) -> Node:
        items = [self.sequence(ignore_case)]
        while self.take("|"):
            items.append(self.sequence(ignore_case))
        return items[0] if len(items) == 1 else Choice(tuple(items))

    def sequence(self, ignore_case: bool) -> Node:
        items: list[Node] = []
        previous, was_opaque = "", False
        while self.peek() not in ("", "|", ")"):
            char = self.peek()
            # What hides its first or last letter from the check of pairs: a group, a character by number.
            is_opaque = char == "(" or self.peek(2) in ("\\x", "\\u")
            if ignore_case and (previous + char).lower() in _FOLDED_PAIRS:
                raise self.unsupported(f"{previous + char!r} inside (?i:…), which folds to one character,")
            if ignore_case and (
                (is_opaque and (was_opaque or previous.lower() in ("s", "f")))
                or (was_opaque and char.lower() in ("s", "f", "i", "l", "t"))
            ):
                raise self.unsupported("a group or a numbered character beside a letter inside (?i:…)")
            previous, was_opaque = char, is_opaque
            items.append(self.repeated(ignore_case))
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def repeated(self, ignore_case: bool) -> Node:
        start = self.at
        item = self.atom(ignore_case)
        is_once = False
        while (bounds := self.quantifier()) is not None:
            if is_once:  # Oniguruma drops {1}, and what follows belongs to the last character alone
                raise self.unsupported("another quantifier after {1}")
            least, most, is_braced = bounds
            is_once = is_braced and least == most == 1
            if isinstance(item, NextChar | Lookahead) or _is_nullable(item):
                raise self.unsupported("a repeat of what can match the empty string", start)
            if ignore_case and not isinstance(item, Chars):
                raise self.unsupported("a repeated group inside (?i:…)", start)
            if is_braced and self.peek() == "?":
                raise self.unsupported("'?' after a counted repeat")
            if self.take("?"):
                item = Repeat(item, least, most, greedy=False)
            elif not is_braced and self.take("+"):
                if not isinstance(item, Chars):
                    raise self.unsupported("a possessive repeat of a group", start)
                item = self.possessive(item, least, most)
            else:
                item = Repeat(item, least, most, greedy=True)
        return item

    def possessive(self, item: Chars, least: int, most: int | None) -> Node:
        """A possessive repeat of one class: a greedy one that may not stop before another member."""
        no_more = NextChar(~item.members, at_end=True)
        if most is None:
            return Sequence((Repeat(item, least, None, greedy=True), no_more))
        return Choice((item, no_more))

    def quantifier(self) -> tuple[int, int | None, bool] | None:
        if self.take("*"):
            return 0, None, False
        if self.take("+"):
            return 1, None, False
        if self.take("?"):
            return 0, 1, False
        if self.peek() != "{":
            return None
        close = self.pattern.find("}", self.at)
        low, comma, high = self.pattern[self.at + 1 : max(close, 0)].partition(",")
        numbers = (low, high) if high else (low,)
        if not all(n.isascii() and n.isdecimal() and len(n) <= 6 for n in numbers) or (high and not comma):
            raise self.unsupported("a '{' that is not a counted repeat")
        self.at = close + 1
        least = int(low)
        most = least if not comma else int(high) if high else None
        if most is not None and (most < least or most == 0):
            raise self.unsupported(f"the repeat {{{low},{high}}}")
        return least, most, True

    def atom(self, ignore_case: bool) -> Node:
        if self.take("(?:"):
            return self.group(ignore_case)
        if self.take("(?i:"):
            return self.group(ignore_case=True)
        if self.take("(?="):
            return self.lookahead(ignore_case, positive=True)
        if self.take("(?!"):
            return self.lookahead(ignore_case, positive=False)
        if self.peek(2) == "(?":
            raise self.unsupported(f"the group {self.peek(4)!r}")
        if self.take("("):
            return self.group(ignore_case)
        if self.take("["):
            return Chars(self.char_class(ignore_case))
        if self.take("."):
            return Chars(~_single("\n", ignore_case=False))
        if self.take("$"):
            return NextChar(_single("\n", ignore_case=False), at_end=True)
        if self.take("\\z"):
            return NextChar(np.zeros(NUM_CODE_POINTS, dtype=bool), at_end=True)
        if self.peek() in ("^", "*", "+", "?", "{"):
            raise self.unsupported(f"{self.peek()!r}")
        if self.peek() == "\\":
            return Chars(self.escape(ignore_case))
        char = self.peek()
        self.at += 1
        return Chars(self.single(char, ignore_case))

    def group(self, ignore_case: bool) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.unsupported(f"groups nested more than {MAX_DEPTH} deep")
        node = self.choice(ignore_case)
        if not self.take(")"):
            raise self.unsupported("an unclosed group")
        self.depth -= 1
        return node

    def lookahead(self, ignore_case: bool, positive: bool) -> Node:
        node = self.group(ignore_case)
        if isinstance(node, Chars):
            return NextChar(node.members if positive else ~node.members, at_end=not positive)
        return Lookahead(node, positive)

    def single(self, char: str, ignore_case: bool) -> CodePoints:
        if ignore_case and not char.isascii():
            raise self.unsupported(f"the non-ASCII character {char!r} inside (?i:…)", self.at - 1)
        return _single(char, ignore_case)

    def escape(self, ignore_case: bool) -> CodePoints:
        start = self.at
        self.at += 1
        letter = self.peek()
        self.at += 1
        if letter in ("p", "P"):
            close = self.pattern.find("}", self.at)
            if not self.take("{") or close < 0:
                raise self.unsupported("a property without braces", start)
            if ignore_case:
                raise self.unsupported("a property inside (?i:…)", start)
            negated = self.take("^") != (letter == "P")
            try:
                members = _property(self.pattern[self.at : close])
            except UnsupportedRegex as error:
                raise self.unsupported(str(error), start) from error
            self.at = close + 1
            return ~members if negated else members
        if letter in ("s", "S", "d", "D", "w", "W"):
            members = _shorthand(letter.lower())
            return ~members if letter.isupper() else members
        if letter in _ESCAPED_CHARS:
            return self.single(_ESCAPED_CHARS[letter], ignore_case)
        digits = {"x": 2, "u": 4}.get(letter)
        if digits and all(c in "0123456789abcdefABCDEF" for c in self.peek(digits)) and len(self.peek(digits)) == digits:
            code_point = int(self.peek(digits), 16)
            if letter == "x" and code_point > 0x7F:
                raise self.unsupported("a \\x escape beyond ASCII", start)
            self.at += digits
            return self.single(chr(code_point), ignore_case)
        if letter == "" or letter.isalnum() or not letter.isascii():
            raise self.unsupported(f"the escape \\{letter}", start)
        return self.single(letter, ignore_case)

    def char_class(self, ignore_case: bool) -> CodePoints:
        negated = self.take("^")
        members = np.zeros(NUM_CODE_POINTS, dtype=bool)
        if self.peek() == "]":
            raise self.unsupported("a class that starts with ']'")
        while not self.take("]"):
            start = self.at
            low = self.class_item(ignore_case)
            if self.peek() == "-" and self.peek(2) != "-]":
                self.at += 1
                high = self.class_item(ignore_case)
                if ignore_case or low.sum() != 1 or high.sum() != 1:
                    raise self.unsupported("a range between classes, or inside (?i:…)", start)
                members[low.argmax() : high.argmax() + 1] = True
                if low.argmax() > high.argmax():
                    raise self.unsupported("an empty range", start)
            members |= low
        return ~members if negated else members

    def class_item(self, ignore_case: bool) -> CodePoints:
        if self.peek() == "":
            raise self.unsupported("an unclosed class")
        if self.peek() == "[":
            raise self.unsupported("a class inside a class")
        if self.peek(2) == "&&":
            raise self.unsupported("an intersection of classes")
        if self.peek() == "\\":
            return self.escape(ignore_case)
        char = self.peek()
        self.at += 1
        return self.single(char, ignore_case)


def parse(pattern: str) -> Node:
    """The tree of a pattern; UnsupportedRegex if it holds what the compiler does not know."""
    if len(pattern) > MAX_CHARS:
        raise UnsupportedRegex(f"a regex of {len(pattern):,} characters, more than {MAX_CHARS:,}")
    return _Parser(pattern).parse()
