"""Checks that several fields of a spec have in common. They raise ValueError with what was found and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint for a misspelt name, or the list of what is allowed."""
    options = sorted(allowed)
    close = difflib.get_close_matches(name, options, n=1)
    return f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(options)}"


def check_name(what: str, name: str) -> None:
    """A name of the spec must do as one of files."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} is {name!r}; up to 100 letters, digits, '.', '_' and '-' are allowed, for it names files")


def check_distinct(what: str, names: list[str]) -> None:
    """No name may be there twice."""
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{what} {name!r} is used {count} times; names must differ")


def check_weight(what: str, weight: float, least: str) -> None:
    """``least``: ``above 0`` or ``from 0 on``."""
    is_right = weight > 0 if least == "above 0" else weight >= 0
    if not (is_right and weight <= 1_000_000) or Fraction(str(weight)).denominator > 1_000_000:
        raise ValueError(f"{what} is {weight}; a number {least} with at most 6 decimals, up to 1000000, is allowed")


def check_seed(seed: int) -> None:
    """Seeds are whole numbers of 63 bits."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed}; 0 to {2**63 - 1} is allowed")
