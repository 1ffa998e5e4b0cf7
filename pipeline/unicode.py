"""Which code points belong to which Unicode category, as the field's own splitter sees them.

The tables come from the regex engine inside ``tokenizers`` (Unicode 16 in 0.23), not from Python's ``unicodedata``:
the two differ on thousands of code points, and words must be cut as the exported tokenizer.json cuts them.
``python -m pipeline.unicode`` writes the table anew; a test probes the engine again and compares.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NUM_CODE_POINTS = 0x110000

CATEGORIES = (
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
    "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cn",
)  # fmt: skip

_TABLE = Path(__file__).parent / "data" / "unicode_categories.txt"


@functools.cache
def categories() -> NDArray[np.uint8]:
    """Index into ``CATEGORIES`` of every code point. ``[shape=(0x110000,), dtype=uint8]``; surrogates count as Cn."""
    rows = [line.split() for line in _TABLE.read_text().splitlines() if not line.startswith("#")]
    starts = np.array([int(start, 16) for start, _ in rows])
    values = np.array([CATEGORIES.index(name) for _, name in rows], dtype=np.uint8)
    return np.repeat(values, np.diff(starts, append=NUM_CODE_POINTS))


def in_categories(prefixes: tuple[str, ...]) -> NDArray[np.bool_]:
    """Membership of every code point in the categories that start with one of ``prefixes``, such as ``("L", "Nd")``."""
    wanted = np.array([name.startswith(prefixes) for name in CATEGORIES])
    return wanted[categories()]


@functools.cache
def word_chars() -> NDArray[np.bool_]:
    r"""Which code points are part of a word to the added tokens of ``tokenizers`` that are ``single_word``.

    The ``\w`` of UTS #18, Annex C: alphabetic, marks, decimal digits, connectors, and the two joiners. What is alphabetic
    without being a letter, a mark or a letter-like number are the circled and squared Latin letters.
    ``[shape=(0x110000,), dtype=bool]``
    """
    found = in_categories(("L", "M", "Nd", "Nl", "Pc"))
    for first, last in ((0x200C, 0x200D), (0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189)):
        found[first : last + 1] = True
    found.setflags(write=False)
    return found


def probe(pattern: str) -> NDArray[np.bool_]:
    """Which single characters the regex engine of ``tokenizers`` lets ``pattern`` match.

    Slow (about 0.7 s): one split of a text of all code points. For properties that have no table here.

    Raises
    ------
    Exception
        As ``tokenizers`` raises it, for a pattern it refuses.
    """
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    code_points = np.array([c for c in range(NUM_CODE_POINTS) if not 0xD800 <= c < 0xE000])
    gaps = Split(Regex(pattern), "removed").pre_tokenize_str("".join(map(chr, code_points)))
    matched = np.ones(len(code_points), dtype=bool)
    for _, (start, stop) in gaps:
        matched[start:stop] = False
    result = np.zeros(NUM_CODE_POINTS, dtype=bool)
    result[code_points[matched]] = True
    return result


def probe_categories() -> NDArray[np.uint8]:
    """``categories()`` as the installed ``tokenizers`` has it."""
    table = np.full(NUM_CODE_POINTS, CATEGORIES.index("Cn"), dtype=np.uint8)
    for index, name in enumerate(CATEGORIES):
        table[probe(rf"\p{{{name}}}")] = index
    return table


def main() -> None:
    """Write the table."""
    table = probe_categories()
    changes = np.flatnonzero(np.diff(table, prepend=255))
    rows = [f"{start:X} {CATEGORIES[table[start]]}" for start in changes]
    _TABLE.write_text("\n".join(["# first code point of a run, category", *rows]) + "\n")
    sys.stdout.write(f"{_TABLE}: {len(rows)} runs\n")


if __name__ == "__main__":
    main()
