r"""Compile a pretokenizer's regex to the tables of the splitting kernel.

The answer of a backtracking engine (leftmost match, alternatives in order, greedy or lazy repeats) is kept exactly:
the subset construction runs over *ordered* lists of threads and cuts every thread below one that has matched, as in
R. Cox, "Regular Expression Matching: the Virtual Machine Approach" (2009) and RE2's leftmost-first automata.

The syntax is Oniguruma's Ruby flavour, which is what ``tokenizers`` uses; so ``$`` is the end of a *line*, ``.`` stops
at ``\n`` and ``{1,3}+`` is a repeat of a repeat. Supported: alternation, groups, ``(?i:…)`` over ASCII, classes with
Unicode properties, greedy, lazy and counted repeats, possessive repeats of one class, ``$`` and lookaheads.
One-character lookaheads are answered by the next character; longer ones by a second automaton that runs over a document
once from its end. Whatever else is found raises ``UnsupportedRegex`` and names the construct: the caller then uses the
splitter of ``tokenizers`` itself.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.split import SplitTables
from pipeline.unicode import CATEGORIES, NUM_CODE_POINTS, in_categories, probe

MAX_NODES = 20_000
MAX_STATES = 5_000
MAX_CLASSES = 255
MAX_LOOKAHEADS = 4

CodePoints = NDArray[np.bool_]


class UnsupportedRegex(ValueError):
    """The regex uses something the compiler does not know; the message names it."""


# --- syntax tree ------------------------------------------------------------------------------------------------------


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


# --- parser -----------------------------------------------------------------------------------------------------------

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


def _single(char: str, ignore_case: bool) -> CodePoints:
    members = np.zeros(NUM_CODE_POINTS, dtype=bool)
    members[ord(char)] = True
    if ignore_case:
        if not char.isascii():
            raise UnsupportedRegex(f"the non-ASCII character {char!r} inside (?i:…)")
        for other in (char.lower(), char.upper(), _EXTRA_FOLDS.get(char.lower(), char)):
            members[ord(other)] = True
    return members


class _Parser:
    """Recursive descent over the pattern; ``at`` is the next character to read."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def peek(self, length: int = 1) -> str:
        return self.pattern[self.at : self.at + length]

    def take(self, expected: str) -> bool:
        if self.pattern.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False

    def unsupported(self, what: str) -> UnsupportedRegex:
        return UnsupportedRegex(f"{what} at character {self.at} of {self.pattern!r}")

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
        item = self.atom(ignore_case)
        while (bounds := self.quantifier()) is not None:
            least, most, is_braced = bounds
            if isinstance(item, NextChar | Lookahead) or _is_nullable(item):
                raise self.unsupported("a repeat of what can match the empty string")
            if ignore_case and not isinstance(item, Chars):
                raise self.unsupported("a repeated group inside (?i:…)")
            if is_braced and self.peek() in ("?", "+"):
                raise self.unsupported(f"{self.peek()!r} after a counted repeat")
            if self.take("?"):
                item = Repeat(item, least, most, greedy=False)
            elif self.take("+"):
                item = self.possessive(item, least, most)
            else:
                item = Repeat(item, least, most, greedy=True)
        return item

    def possessive(self, item: Node, least: int, most: int | None) -> Node:
        """A possessive repeat of one class: a greedy one that may not stop before another member."""
        if not isinstance(item, Chars):
            raise self.unsupported("a possessive repeat of a group")
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
        if not (low.isdecimal() and (high.isdecimal() or (comma and not high) or not comma)):
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
        return Chars(_single(char, ignore_case))

    def group(self, ignore_case: bool) -> Node:
        node = self.choice(ignore_case)
        if not self.take(")"):
            raise self.unsupported("an unclosed group")
        return node

    def lookahead(self, ignore_case: bool, positive: bool) -> Node:
        node = self.group(ignore_case)
        if isinstance(node, Chars):
            return NextChar(node.members if positive else ~node.members, at_end=not positive)
        return Lookahead(node, positive)

    def escape(self, ignore_case: bool) -> CodePoints:
        self.at += 1
        letter = self.peek()
        self.at += 1
        if letter in ("p", "P"):
            close = self.pattern.find("}", self.at)
            if not self.take("{") or close < 0:
                raise self.unsupported("a property without braces")
            negated = self.take("^") != (letter == "P")
            members = _property(self.pattern[self.at : close])
            self.at = close + 1
            if ignore_case:
                raise self.unsupported("a property inside (?i:…)")
            return ~members if negated else members
        if letter in ("s", "S", "d", "D", "w", "W"):
            members = _shorthand(letter.lower())
            return ~members if letter.isupper() else members
        if letter in _ESCAPED_CHARS:
            return _single(_ESCAPED_CHARS[letter], ignore_case)
        digits = {"x": 2, "u": 4}.get(letter)
        if digits and all(c in "0123456789abcdefABCDEF" for c in self.peek(digits)) and len(self.peek(digits)) == digits:
            code_point = int(self.peek(digits), 16)
            if letter == "x" and code_point > 0x7F:
                raise self.unsupported("a \\x escape beyond ASCII")
            self.at += digits
            return _single(chr(code_point), ignore_case)
        if letter == "" or letter.isalnum() or not letter.isascii():
            raise self.unsupported(f"the escape \\{letter}")
        return _single(letter, ignore_case)

    def char_class(self, ignore_case: bool) -> CodePoints:
        negated = self.take("^")
        members = np.zeros(NUM_CODE_POINTS, dtype=bool)
        if self.peek() == "]":
            raise self.unsupported("a class that starts with ']'")
        while not self.take("]"):
            if self.peek() in ("", "[") or self.peek(2) == "&&":
                raise self.unsupported("a nested, intersected or unclosed class")
            low = self.class_item(ignore_case)
            if self.peek() == "-" and self.peek(2) != "-]":
                self.at += 1
                if self.peek() in ("[", ""):
                    raise self.unsupported("a range that ends in a class")
                high = self.class_item(ignore_case)
                if ignore_case or low.sum() != 1 or high.sum() != 1:
                    raise self.unsupported("a range between classes, or inside (?i:…)")
                members[low.argmax() : high.argmax() + 1] = True
                if low.argmax() > high.argmax():
                    raise self.unsupported("an empty range")
            members |= low
        return ~members if negated else members

    def class_item(self, ignore_case: bool) -> CodePoints:
        if self.peek() == "\\":
            return self.escape(ignore_case)
        char = self.peek()
        self.at += 1
        return _single(char, ignore_case)


# --- threads ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Op:
    """One instruction of the thread machine; ``targets`` are tried in order."""

    kind: Literal["chars", "next", "look", "fork", "match"]
    set_index: int = -1
    at_end: bool = False
    positive: bool = True
    targets: tuple[int, ...] = ()


@dataclass
class _Program:
    """All instructions, the distinct sets they use, and the start of each long lookahead."""

    ops: list[_Op] = field(default_factory=list)
    sets: list[CodePoints] = field(default_factory=list)
    set_index: dict[bytes, int] = field(default_factory=dict)
    lookaheads: list[int] = field(default_factory=list)

    def add(self, op: _Op) -> int:
        if len(self.ops) >= MAX_NODES:
            raise UnsupportedRegex(f"a regex of more than {MAX_NODES} instructions")
        self.ops.append(op)
        return len(self.ops) - 1

    def intern(self, members: CodePoints) -> int:
        key = np.packbits(members).tobytes()
        if key not in self.set_index:
            self.set_index[key] = len(self.sets)
            self.sets.append(members)
        return self.set_index[key]

    def compile(self, node: Node, then: int, inside_lookahead: bool = False) -> int:
        """Instructions for ``node`` that go on to ``then``; returns the first of them."""
        match node:
            case Chars(members):
                return self.add(_Op("chars", self.intern(members), targets=(then,)))
            case NextChar(members, at_end):
                return self.add(_Op("next", self.intern(members), at_end=at_end, targets=(then,)))
            case Sequence(items):
                for item in reversed(items):
                    then = self.compile(item, then, inside_lookahead)
                return then
            case Choice(items):
                return self.add(_Op("fork", targets=tuple(self.compile(item, then, inside_lookahead) for item in items)))
            case Repeat(item, least, most, greedy):
                return self.compile_repeat(item, (least, most), greedy, then, inside_lookahead)
            case Lookahead(item, positive):
                if inside_lookahead:
                    raise UnsupportedRegex("a lookahead inside a lookahead")
                body = self.compile(item, self.add(_Op("match")), inside_lookahead=True)
                self.lookaheads.append(body)
                return self.add(_Op("look", len(self.lookaheads) - 1, positive=positive, targets=(then,)))

    def compile_repeat(
        self, item: Node, bounds: tuple[int, int | None], greedy: bool, then: int, inside_lookahead: bool
    ) -> int:
        least, most = bounds
        entry = then
        if most is None:
            loop = self.add(_Op("fork"))
            body = self.compile(item, loop, inside_lookahead)
            self.ops[loop] = _Op("fork", targets=(body, then) if greedy else (then, body))
            entry = loop
        else:
            for _ in range(most - least):
                body = self.compile(item, entry, inside_lookahead)
                entry = self.add(_Op("fork", targets=(body, then) if greedy else (then, body)))
        for _ in range(least):
            entry = self.compile(item, entry, inside_lookahead)
        return entry


@dataclass(frozen=True)
class _Classes:
    """Characters that no set of the regex tells apart share a class. ``member [n_sets, n_classes + 1]``; last: the end."""

    class_of: NDArray[np.uint8]
    member: NDArray[np.bool_]

    @property
    def num_classes(self) -> int:
        return int(self.member.shape[1]) - 1


def _partition(sets: list[CodePoints]) -> _Classes:
    if len(sets) > 62:
        raise UnsupportedRegex("more than 62 different character sets")
    signature = np.zeros(NUM_CODE_POINTS, dtype=np.uint64)
    for index, members in enumerate(sets):
        signature |= members.astype(np.uint64) << np.uint64(index)
    distinct, class_of = np.unique(signature, return_inverse=True)
    if len(distinct) > MAX_CLASSES:
        raise UnsupportedRegex(f"more than {MAX_CLASSES} character classes")
    member = np.zeros((len(sets), len(distinct) + 1), dtype=bool)
    for index in range(len(sets)):
        member[index, :-1] = (distinct >> np.uint64(index)) & np.uint64(1)
    return _Classes(class_of.astype(np.uint8), member)


# --- forward automaton ------------------------------------------------------------------------------------------------


def _closure(
    program: _Program, classes: _Classes, threads: tuple[int, ...], char_class: int, bits: int
) -> tuple[list[int], bool]:
    """The threads that wait for a character, in order, cut at the first that matches; and whether one did."""
    waiting: list[int] = []
    seen: set[int] = set()
    stack = list(reversed(threads))
    while stack:
        at = stack.pop()
        if at in seen:
            continue
        seen.add(at)
        op = program.ops[at]
        match op.kind:
            case "match":
                return waiting, True
            case "chars":
                waiting.append(at)
            case "fork":
                stack.extend(reversed(op.targets))
            case "next":
                is_end = char_class == classes.num_classes
                if op.at_end if is_end else classes.member[op.set_index, char_class]:
                    stack.extend(op.targets)
            case "look":
                if bool(bits >> op.set_index & 1) == op.positive:
                    stack.extend(op.targets)
    return waiting, False


def _forward(program: _Program, classes: _Classes, start: int) -> NDArray[np.int32]:
    looks = len(program.lookaheads)
    states: dict[tuple[int, ...], int] = {(): 0, (start,): 1}
    rows: list[list[int]] = []
    pending = [(), (start,)]
    while len(rows) < len(states):
        threads = pending[len(rows)]
        row = []
        for symbol in range((classes.num_classes + 1) << looks):
            char_class, bits = symbol >> looks, symbol & ((1 << looks) - 1)
            waiting, accept = _closure(program, classes, threads, char_class, bits)
            following = tuple(
                dict.fromkeys(
                    program.ops[at].targets[0] for at in waiting if classes.member[program.ops[at].set_index, char_class]
                )
            )
            if following not in states:
                if len(states) >= MAX_STATES:
                    raise UnsupportedRegex(f"a regex of more than {MAX_STATES} states")
                states[following] = len(states)
                pending.append(following)
            row.append(states[following] << 1 | accept)
        rows.append(row)
    if any(move & 1 for move in rows[1]):
        raise UnsupportedRegex("a regex that can match the empty string")
    return np.array(rows, dtype=np.int32)


# --- reverse automaton, for lookaheads longer than one character --------------------------------------------------------


def _reverse(program: _Program, classes: _Classes) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """An automaton that reads a document from its end and knows, at each position, which lookaheads hold there.

    A state is the set of instructions from which a match is still reachable with the text to the right.
    """
    body_ops = [at for at in range(len(program.ops)) if program.ops[at].kind != "look"]

    def reachable(after: frozenset[int], char_class: int) -> frozenset[int]:
        """Instructions that hold at a position whose next character is of ``char_class``, given those that hold after it."""
        is_end = char_class == classes.num_classes
        holding: set[int] = set()
        changed = True
        while changed:
            changed = False
            for at in body_ops:
                op = program.ops[at]
                match op.kind:
                    case "match":
                        holds = True
                    case "chars":
                        holds = not is_end and classes.member[op.set_index, char_class] and op.targets[0] in after
                    case "next":
                        ok = op.at_end if is_end else classes.member[op.set_index, char_class]
                        holds = ok and op.targets[0] in holding
                    case _:
                        holds = any(target in holding for target in op.targets)
                if holds and at not in holding:
                    holding.add(at)
                    changed = True
        return frozenset(holding)

    end = reachable(frozenset(), classes.num_classes)
    states = {end: 0}
    pending = [end]
    rows: list[list[int]] = []
    while len(rows) < len(states):
        after = pending[len(rows)]
        row = []
        for char_class in range(classes.num_classes):
            state = reachable(after, char_class)
            if state not in states:
                if len(states) >= MAX_STATES:
                    raise UnsupportedRegex(f"lookaheads of more than {MAX_STATES} states")
                states[state] = len(states)
                pending.append(state)
            row.append(states[state])
        rows.append(row)
    truth = [sum((start in state) << index for index, start in enumerate(program.lookaheads)) for state in pending]
    return np.array(rows, dtype=np.int32), np.array(truth, dtype=np.uint8)


@functools.lru_cache(maxsize=64)
def compile_regex(pattern: str) -> SplitTables:
    r"""The tables with which ``kernels.split`` cuts text as ``tokenizers``' ``Split(Regex(pattern), "isolated")`` does.

    Raises
    ------
    UnsupportedRegex
        The pattern is outside the subset above; the message names the construct and where it stands.

    Examples
    --------
    ``\s+(?!\S)|\s+`` on ``"a  b"`` leaves the last blank to a match of its own: pieces ``a``, `` ``, `` ``, ``b``.
    """
    program = _Program()
    match_at = program.add(_Op("match"))
    start = program.compile(_Parser(pattern).parse(), match_at)
    if len(program.lookaheads) > MAX_LOOKAHEADS:
        raise UnsupportedRegex(f"more than {MAX_LOOKAHEADS} lookaheads longer than one character")
    classes = _partition(program.sets)
    transitions = _forward(program, classes, start)
    if program.lookaheads:
        reverse, truth = _reverse(program, classes)
    else:
        reverse, truth = np.zeros((1, 1), dtype=np.int32), np.zeros(1, dtype=np.uint8)
    return SplitTables(classes.class_of, transitions, classes.num_classes, len(program.lookaheads), reverse, truth)
