"""One entry of ``tokenizers:`` that stands for several: ``matrix``, ``ladder`` and ``transitions``.

Pure functions over the mapping that a spec is before it is checked. What is wrong with a single tokenizer is none of their
business: the spec tells that of each that was made.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from pipeline.errors import SpecError

MOST_CELLS = 256
"""Tokenizers that the sweeps of a spec may make in all without being asked again."""

SWEEPS = ("matrix", "ladder", "transitions")
"""Fields of an entry that stands for several tokenizers, in the order they are expanded."""

Entry = dict[str, Any]


def expand_sweeps(root: dict[str, Any], *, allow_many: bool = False) -> tuple[dict[str, Any], list[int]]:
    """A spec with a tokenizer for each that an entry stands for, and by tokenizer the number of its entry.

    ``pack.tokenizers`` may name such an entry, and then has all that were made of it, in order; what is the name of a
    tokenizer too means that one alone.

    Examples
    --------
    ``{name: a, vocab_size: 300, matrix: {digits: [r2l, l2r], min_count: [1, 2]}}`` makes a-r2l-1, a-r2l-2, a-l2r-1 and
    a-l2r-2; ``{name: a, ladder: [300, 400]}`` a-300 and a-400; ``{name: a, kind: superbpe, transitions: [0.8]}`` a-t80.

    Raises
    ------
    SpecError
        A ladder or a matrix is none, or they make more than ``MOST_CELLS`` tokenizers, unless ``allow_many``: told
        before the first is made.
    """
    entries = root.get("tokenizers")
    if not isinstance(entries, list):
        return root, []
    numbers = [_how_many(entry, f"tokenizers[{place}]") for place, entry in enumerate(entries)]
    _check_number({f"tokenizers[{place}]": number for place, number in enumerate(numbers) if number > 1}, allow_many)
    expanded: list[Any] = []
    places: list[int] = []
    made: dict[str, list[str]] = {}
    for place, entry in enumerate(entries):
        found = list(_made_of(entry, f"tokenizers[{place}]"))
        if _is_sweep(entry):
            made.setdefault(entry["name"], []).extend(one["name"] for one in found)
        expanded += found
        places += [place] * len(found)
    for one in expanded:
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            made.pop(one["name"], None)
    return _with_packs(root, made) | {"tokenizers": expanded}, places


def _with_packs(root: dict[str, Any], made: dict[str, list[str]]) -> dict[str, Any]:
    pack = root.get("pack")
    names = pack.get("tokenizers") if isinstance(pack, dict) else None
    if not isinstance(pack, dict) or not isinstance(names, list):
        return root
    meant = [made.get(name, [name]) if isinstance(name, str) else [name] for name in names]
    return root | {"pack": pack | {"tokenizers": list(itertools.chain.from_iterable(meant))}}


def _is_sweep(entry: Any) -> bool:
    return isinstance(entry, dict) and ("matrix" in entry or "ladder" in entry or _has_transitions(entry))


def _has_transitions(entry: Entry) -> bool:
    """Whether they can be expanded: if not, the spec tells what is wrong with them."""
    transitions = entry.get("transitions")
    if entry.get("kind") != "superbpe" or "transition" in entry:
        return False
    return isinstance(transitions, list) and bool(transitions) and all(isinstance(t, int | float) for t in transitions)


# --- how many ---------------------------------------------------------------------------------------------------------


def _how_many(entry: Any, where: str) -> int:
    """How many tokenizers an entry stands for, from the lengths of its lists alone."""
    if not isinstance(entry, dict):
        return 1
    matrix = _matrix(entry, where)
    number = math.prod(len(values) for field, values in matrix.items() if field not in SWEEPS)
    for field in ("ladder", "transitions"):
        lists = matrix.get(field, [entry.get(field)])
        number *= sum(len(one) if isinstance(one, list) and one else 1 for one in lists)
    return number


def _check_number(numbers: dict[str, int], allow_many: bool) -> None:
    if (total := sum(numbers.values())) > MOST_CELLS and not allow_many:
        each = ", ".join(f"{where}: {number:,}" for where, number in numbers.items())
        raise SpecError(
            f"matrix, ladder and transitions make {total:,} tokenizers ({each}); more than {MOST_CELLS} are made only with "
            "--yes: give it, or fewer values"
        )


# --- expansion --------------------------------------------------------------------------------------------------------


def _made_of(entry: Any, where: str) -> Iterator[Any]:
    """The tokenizers of an entry, one after another: by the matrix, then by the ladder, then by transitions."""
    if not _is_sweep(entry):
        yield entry
        return
    if not isinstance(entry.get("name"), str):
        raise SpecError(f"{where}.name is " + (f"{entry['name']!r}; a string is expected" if "name" in entry else "missing"))
    for cell in _cells(entry, where):
        for rung in _rungs(cell, where):
            yield from _transitions(rung)


def _matrix(entry: Entry, where: str) -> dict[str, list[Any]]:
    """The matrix of an entry; empty if it has none."""
    if "matrix" not in entry:
        return {}
    matrix = entry["matrix"]
    if not isinstance(matrix, dict) or not matrix:
        raise SpecError(
            f"{where}.matrix is {matrix!r}; fields with lists of their values, such as {{min_count: [1, 2]}}, are expected"
        )
    for field, values in matrix.items():
        if field in ("name", "matrix"):
            raise SpecError(f"{where}.matrix.{field} is given; a matrix is of other fields, and makes the names itself")
        if field in entry:
            raise SpecError(f"{where}.{field} is given beside matrix.{field}; one of the two is allowed")
        if not isinstance(values, list) or not values:
            raise SpecError(f"{where}.matrix.{field} is {values!r}; a list of at least one value is expected")
        _check_distinct(f"{where}.matrix.{field}", values)
    return matrix


def _cells(entry: Entry, where: str) -> Iterator[Entry]:
    """A tokenizer for each cell, the last field fastest. A null in a list is a field that is left out."""
    matrix = _matrix(entry, where)
    rest = {field: value for field, value in entry.items() if field != "matrix"}
    for picked in itertools.product(*(enumerate(values, start=1) for values in matrix.values())):
        values = {field: value for field, (_, value) in zip(matrix, picked, strict=True) if value is not None}
        texts = (_short(field, *one) for field, one in zip(matrix, picked, strict=True))
        yield rest | values | {"name": "-".join([entry["name"], *texts])}


def _short(field: str, number: int, value: Any) -> str:
    """What a value is called in a name: itself, or its number in the list if it is a mapping, a list or a path."""
    text = ""
    if isinstance(value, str) and "/" not in value:
        text = re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("-")
    elif value is None or isinstance(value, bool | int | float):
        text = json.dumps(value).replace("+", "")
    return text or f"{field}{number}"


def _rungs(entry: Entry, where: str) -> Iterator[Entry]:
    """A tokenizer for each size of the ladder."""
    if "ladder" not in entry:
        yield entry
        return
    ladder = entry["ladder"]
    if not isinstance(ladder, list) or not ladder:
        raise SpecError(f"{where}.ladder is {ladder!r}; a list of vocabulary sizes, such as [8192, 16384], is expected")
    for index, size in enumerate(ladder):
        if not isinstance(size, int) or isinstance(size, bool):
            raise SpecError(f"{where}.ladder[{index}] is {size!r}; a whole number is expected")
    _check_distinct(f"{where}.ladder", ladder)
    if "vocab_size" in entry:
        raise SpecError(f"{where}.ladder is given beside vocab_size; one of the two is allowed")
    rest = {field: value for field, value in entry.items() if field != "ladder"}
    for size in ladder:
        yield rest | {"name": f"{entry['name']}-{size}", "vocab_size": size}


def _transitions(entry: Entry) -> Iterator[Entry]:
    """A tokenizer for each transition: NAME-t80 for 0.8, NAME-t800 for 800."""
    if not _has_transitions(entry):
        yield entry
        return
    rest = {field: value for field, value in entry.items() if field != "transitions"}
    for transition in entry["transitions"]:
        suffix = f"{100 * transition:.10g}" if isinstance(transition, float) else transition
        yield rest | {"name": f"{entry['name']}-t{suffix}", "transition": transition}


def _check_distinct(what: str, values: list[Any]) -> None:
    seen = set()
    for value in values:
        key = json.dumps(value, sort_keys=True)
        if key in seen:
            raise SpecError(f"{what} holds {value!r} twice; values must differ")
        seen.add(key)
