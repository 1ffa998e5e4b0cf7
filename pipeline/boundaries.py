"""Which boundaries of a compiled regex can be seen from three characters.

The automaton of ``pipeline.regex`` decides, from a word's start on, where the word stops. Most of its decisions depend on
next to nothing: for the GPT-2 regex, whether a word starts between two characters follows from them and the one after,
unless an apostrophe is near. This module finds those facts for any automaton: for the classes ``before``, ``at`` and
``after`` of three neighbours it runs the automaton from *every* state that can be active there, with everything unknown
left open. If all runs agree, the answer is a rule that ``kernels.boundaries`` applies to 64 bytes at once; if not, the
rule says *ask*, and the automaton itself decides.

Characters that would make most windows an *ask* (the apostrophe: after it, ``s`` is not like other letters) are *hard*:
positions close to one are asked, and all others need not reckon with them. An idea that holds for any splitter whose
state forgets: compare the "local testability" of McNaughton and Papert (1971), and simdjson (Langdale and Lemire, 2019)
for the bit-parallel half.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.boundaries import HARD, LocalRules

MOST_PLANES = 32
MOST_REACH = 8

Outcomes = int
_NO, _YES, _ASK = 1, 2, 3
"""Sets of outcomes: no boundary, a boundary, either."""


def _no_rules(num_classes: int) -> LocalRules:
    none = np.zeros(0, dtype=np.uint8)
    return LocalRules(none, none, none, np.zeros(num_classes, dtype=np.uint8), np.zeros((0, 4), dtype=np.uint64), -1, 1)


_GAP = -1
"""As a state: no match is active; the piece between two matches grows."""

_ANY = -1
"""As a class: not known."""


@dataclass(frozen=True)
class _Automaton:
    """``moves[state][class]``: the set of (next state, accept) a class can lead to, whatever the lookaheads say.

    The last class is the end of the document.
    """

    moves: list[list[frozenset[tuple[int, bool]]]]

    @staticmethod
    def of(
        transitions: NDArray[np.int32], num_lookaheads: int, reverse: NDArray[np.int32], truth: NDArray[np.uint8]
    ) -> _Automaton:
        """Of the lookahead bits, those that can hold before a class; see ``kernels.split.SplitTables``."""
        possible = [set(truth[column].tolist()) for column in reverse.T] if num_lookaheads else []
        possible += [{0}] * ((transitions.shape[1] >> num_lookaheads) - 1 - len(possible)) + [{int(truth[0])}]
        return _Automaton(
            [
                [
                    frozenset(
                        (int(row[c << num_lookaheads | bits]) >> 1, bool(row[c << num_lookaheads | bits] & 1))
                        for bits in found
                    )
                    for c, found in enumerate(possible)
                ]
                for row in transitions
            ]
        )

    @property
    def num_classes(self) -> int:
        return len(self.moves[0]) - 1

    def accepts(self, state: int, char_class: int) -> set[bool]:
        """Whether a match may end before a character of this class."""
        classes = range(self.num_classes + 1) if char_class == _ANY else [char_class]
        return {accept for c in classes for _, accept in self.moves[state][c]}

    def later(self, state: int, char_class: int, after: int) -> set[bool]:
        """Whether a match active in ``state`` can end further on than before ``char_class``, which ``after`` follows."""
        answers: set[bool] = set()
        for following, _ in self.moves[state][char_class]:
            if following == 0:
                answers.add(False)
                continue
            for accept in self.accepts(following, after):
                answers.add(accept or after == _ANY)
                if not accept:
                    beyond = {s for s, _ in self.moves[following][after]} if after != _ANY else {-1}
                    answers.update({False} if beyond == {0} else {False, True})
        return answers

    def fresh(self, char_class: int, after: int) -> set[int]:
        """States behind ``char_class`` if a match is sought from it on."""
        found: set[int] = set()
        for answer in self.later(1, char_class, after):
            found.update({s for s, _ in self.moves[1][char_class]} - {0} if answer else {_GAP})
        return found

    def outcomes(self, state: int, char_class: int, after: int) -> Outcomes:
        """Whether a boundary lies before ``char_class``."""
        if state == _GAP:
            matches = {empty or later for empty in self.accepts(1, char_class) for later in self.later(1, char_class, after)}
            return sum(_YES if match else _NO for match in matches)
        ends = self.accepts(state, char_class)
        later = self.later(state, char_class, after)
        return (_YES if True in ends and False in later else 0) | (_NO if True in later else 0)

    def step(self, state: int, char_class: int, after: int) -> set[int]:
        """States behind ``char_class``."""
        outcomes = self.outcomes(state, char_class, after)
        found: set[int] = set()
        if state == _GAP or outcomes & _YES:
            found |= self.fresh(char_class, after)
        if state != _GAP and outcomes & _NO:
            found |= {s for s, _ in self.moves[state][char_class]} - {0}
        return found

    def closure(self, classes: list[int]) -> set[int]:
        """All states that text of these classes can lead to."""
        found: set[int] = set()
        pending = [state for c in classes for state in self.fresh(c, _ANY)]
        while pending:
            state = pending.pop()
            if state not in found:
                found.add(state)
                pending.extend(s for c in classes for s in self.step(state, c, _ANY))
        return found

    def alike(self, classes: list[int]) -> list[list[int]]:
        """Classes grouped by what they do in the states that these classes can reach."""
        states = {1}
        pending = [1]
        while pending:
            for c in classes:
                for following, _ in self.moves[pending[-1]][c]:
                    if following not in states:
                        states.add(following)
                        pending.insert(0, following)
            pending.pop()
        groups: dict[tuple[frozenset[tuple[int, bool]], ...], list[int]] = {}
        for c in classes:
            groups.setdefault(tuple(self.moves[state][c] for state in sorted(states)), []).append(c)
        return list(groups.values())


def _choose_hard(automaton: _Automaton) -> set[int]:
    """Classes without which many others become alike: each leaves more groups together than it is itself."""
    hard: set[int] = set()
    while True:
        classes = [c for c in range(automaton.num_classes) if c not in hard]
        now = len(automaton.alike(classes))
        sizes = {c: len(automaton.alike([other for other in classes if other != c])) for c in classes}
        best = min(sizes, key=lambda c: (sizes[c], c), default=None)
        if best is None or sizes[best] >= now - 1:
            return hard
        hard.add(best)


def _reach(automaton: _Automaton, classes: list[int], steady: set[int]) -> int:
    """After how many characters of these classes every state is a steady one; -1 if that takes more than MOST_REACH."""
    states = automaton.closure(list(range(automaton.num_classes)))
    for reach in range(MOST_REACH + 1):
        if states <= steady:
            return reach
        states = {s for state in states for c in classes for s in automaton.step(state, c, _ANY)}
    return -1


def local_rules(
    class_of: NDArray[np.uint8],
    transitions: NDArray[np.int32],
    num_lookaheads: int,
    reverse: NDArray[np.int32],
    truth: NDArray[np.uint8],
) -> LocalRules:
    r"""The rules of an automaton; the arguments are fields of ``kernels.split.SplitTables``.

    Examples
    --------
    `` ?\p{L}+| ?[^\s\p{L}]+|\s+(?!\S)|\s+``: before a letter a word starts after anything but a letter or a blank, and so
    on for each class; a blank starts a word, unless a blank or a line end follows and another white space lies before.
    Nothing is hard, nothing is asked.
    """
    automaton = _Automaton.of(transitions, num_lookaheads, reverse, truth)
    num_classes = automaton.num_classes
    hard = _choose_hard(automaton)
    groups = automaton.alike([c for c in range(num_classes) if c not in hard])
    classes = [group[0] for group in groups]
    steady = automaton.closure(classes)
    # Alike in the steady states only: in others, each class counts.
    reach = _reach(automaton, [c for group in groups for c in group], steady)
    if reach < 0 or len(groups) >= MOST_PLANES:
        return _no_rules(num_classes)

    plane_of_class = np.full(num_classes, HARD, dtype=np.uint8)
    for plane, group in enumerate(groups, start=1):
        plane_of_class[group] = plane
    # A document, too, may begin with ``before``: then nothing went before it.
    behind = {
        (b, c): automaton.fresh(b, c).union(*(automaton.step(state, b, c) for state in steady))
        for b, c in product(classes, classes)
    }

    def outcome(before: int, at: int, after: int) -> Outcomes:
        found = 0
        for state in behind[before, at]:
            found |= automaton.outcomes(state, at, after)
        return found

    answers = np.array(
        [[[outcome(b, c, d) for d in classes] for b in classes] for c in classes], dtype=np.uint8
    )  # [at, before, after]
    plane_of_byte = plane_of_class[class_of[:128]]
    starts = np.flatnonzero(np.diff(plane_of_byte, prepend=np.uint8(255)))
    return LocalRules(
        starts.astype(np.uint8),
        (np.append(starts[1:], 128) - 1).astype(np.uint8),
        plane_of_byte[starts],
        plane_of_class,
        _as_rules(answers),
        reach,
        len(groups) + 1,
    )


def _as_rules(answers: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Products of sets of planes that cover the windows with a boundary, and those to ask."""
    num_classes = len(answers)
    rules = []
    for kind, wanted in ((1, _YES), (0, _ASK)):
        by_sets: dict[tuple[int, int], int] = {}
        for at in range(num_classes):
            columns: dict[bytes, int] = {}
            for after in range(num_classes):
                before = answers[at, :, after] == wanted
                if before.any():
                    columns[before.tobytes()] = columns.get(before.tobytes(), 0) | 1 << after
            for before_bytes, after_set in columns.items():
                before_set = sum(1 << int(b) for b in np.flatnonzero(np.frombuffer(before_bytes, dtype=bool)))
                by_sets[before_set, after_set] = by_sets.get((before_set, after_set), 0) | 1 << at
        rules += [(kind, before << 1, at << 1, after << 1) for (before, after), at in by_sets.items()]
    return np.array(rules, dtype=np.uint64).reshape(-1, 4)
