r"""Compile a pretokenizer's regex to the tables of the splitting kernel.

The answer of a backtracking engine (leftmost match, alternatives in order, greedy or lazy repeats) is kept exactly:
the subset construction runs over *ordered* lists of threads and cuts every thread below one that has matched, as in
R. Cox, "Regular Expression Matching: the Virtual Machine Approach" (2009) and RE2's leftmost-first automata.

One-character lookaheads are answered by the next character; longer ones by a second automaton that runs from right to
left. The syntax is in ``regex_syntax``; what it does not know, the caller leaves to ``tokenizers`` itself.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.boundaries import local_rules
from pipeline.kernels.split import SplitTables
from pipeline.regex_syntax import (
    Chars,
    Choice,
    CodePoints,
    Lookahead,
    NextChar,
    Node,
    Repeat,
    Sequence,
    UnsupportedRegex,
    parse,
)
from pipeline.unicode import NUM_CODE_POINTS

MAX_NODES = 20_000
MAX_STATES = 5_000
MAX_CLASSES = 255
MAX_LOOKAHEADS = 4


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
    starts = np.flatnonzero(np.diff(signature, prepend=~signature[:1]))  # runs of alike: few, so that little is sorted
    distinct, class_of = np.unique(signature[starts], return_inverse=True)
    if len(distinct) > MAX_CLASSES:
        raise UnsupportedRegex(f"more than {MAX_CLASSES} character classes")
    member = np.zeros((len(sets), len(distinct) + 1), dtype=bool)
    for index in range(len(sets)):
        member[index, :-1] = (distinct >> np.uint64(index)) & np.uint64(1)
    return _Classes(np.repeat(class_of.astype(np.uint8), np.diff(starts, append=NUM_CODE_POINTS)), member)


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
    start = program.compile(parse(pattern), match_at)
    if len(program.lookaheads) > MAX_LOOKAHEADS:
        raise UnsupportedRegex(f"more than {MAX_LOOKAHEADS} lookaheads longer than one character")
    classes = _partition(program.sets)
    transitions = _forward(program, classes, start)
    if program.lookaheads:
        reverse, truth = _reverse(program, classes)
    else:
        reverse, truth = np.zeros((1, 1), dtype=np.int32), np.zeros(1, dtype=np.uint8)
    looks = len(program.lookaheads)
    resets = np.where((reverse == reverse[0]).all(axis=0), reverse[0], -1).astype(np.int32)
    local = local_rules(classes.class_of, transitions, looks, reverse, truth)
    return SplitTables(classes.class_of, transitions, classes.num_classes, looks, reverse, truth, resets, local)
