r"""Terms a domain tokenizer should know, whatever its training finds: packs of our own, and a user's list.

``docs/domains.md`` explains both. A pack is a small table (``data/terms``), tab-separated:

``match``
    ``whole``: never inside a longer word or number. ``anywhere``: also there.
``form``
    Where a term goes: ``({})`` makes ``(a)`` of ``a``; ``{upper}`` is the term in capitals; several forms stand behind each
    other; ``-`` is the term itself.
``terms``
    With blanks between them: ``1776..2050``, ``a..z`` and ``i..xx`` count on; ``-*2..8`` is two to eight hyphens.
    ``\s`` is a blank, ``\t`` a tab, ``\n`` and ``\r`` a line break, and two backslashes are one.
"""

from __future__ import annotations

import importlib.util
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.arrow import Rows, binary_array, rows_of
from pipeline.errors import SpecError
from pipeline.normalizer import normalize, normalize_text
from pipeline.pretokenizer import Pretokenizer
from pipeline.tsv import Line, read_lines, read_table
from pipeline.unicode import CATEGORIES, categories

LEGAL = "legal"
"""The pack that is made of a package's data, reporters-db."""

PACKS = ("citations", "enumerations", "html", "json", LEGAL, "markdown", "uri", "whitespace", "xml", "years")
"""The packs, by name."""

MAX_TERM_CHARS = 1000

_COLUMNS = ("match", "form", "terms")
_TIMES = re.compile(r"(.+)\*([0-9]+)\.\.([0-9]+)")
_RANGE = re.compile(r"([0-9A-Za-z]+)\.\.([0-9A-Za-z]+)")
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_ESCAPES = {"s": " ", "t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
_ROMAN = {"x": 10, "ix": 9, "v": 5, "iv": 4, "i": 1}
_BREAKS = ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True, slots=True)
class Term:
    """``whole``: never inside a longer word or number. ``where`` it was given, in errors; empty: in a pack of ours."""

    text: str
    match: Literal["whole", "anywhere"]
    where: str = field(default="", compare=False)


# --- packs ------------------------------------------------------------------------------------------------------------


def read_pack(name: str) -> tuple[Term, ...]:
    """The terms of a pack, sorted, each once.

    Raises
    ------
    SpecError
        There is no such pack, or the package it is made of is not installed.
    """
    if name == LEGAL:
        return legal_terms()
    if name not in PACKS:
        raise SpecError(f"there is no term pack {name!r}; allowed: {', '.join(PACKS)}")
    return parse_pack((resources.files("pipeline") / "data" / "terms" / f"{name}.tsv").read_bytes(), f"{name}.tsv")


def parse_pack(content: bytes, place: str) -> tuple[Term, ...]:
    r"""The terms of a table, sorted, each once: as the first row that has it says.

    >>> parse_pack(b"match\tform\tterms\nanywhere\t({})\tix..x\n", "x.tsv")
    (Term(text='(ix)', match='anywhere', where=''), Term(text='(x)', match='anywhere', where=''))

    Raises
    ------
    SpecError
        The table is not as it should be; names file and line.
    """
    found: dict[str, Term] = {}
    for line in read_table(content, place, _COLUMNS):
        match, form, terms = line.cells
        if match not in ("whole", "anywhere"):
            raise line.error(f"match is {match!r}; whole or anywhere is allowed")
        forms = ["{}"] if form == "-" else [_unescape(line, part) for part in form.split()]
        for item in terms.split():
            for text in _expand(line, item):
                for pattern in forms:
                    whole = pattern.replace("{upper}", text.upper()).replace("{}", text, 1)
                    found.setdefault(whole, Term(whole, "whole" if match == "whole" else "anywhere"))
    return tuple(found[text] for text in sorted(found))


def legal_terms() -> tuple[Term, ...]:
    """How courts, laws and journals are cited, from the package reporters-db; sorted, each once.

    They are the parts between blanks of its abbreviations and of their variations. Parts of one character are left out, and
    those of letters only (``the``, ``Law``, ``Kansas``): training finds these by itself, and reserved they would cut longer
    words.

    Raises
    ------
    SpecError
        The package is not installed.
    """
    found = importlib.util.find_spec("reporters_db")
    if found is None or not found.submodule_search_locations:
        raise SpecError(
            f"the term pack {LEGAL!r} is made of the package 'reporters-db', which is not installed: "
            f"pip install 'tokenmill[legal]'"
        )
    folder = Path(found.submodule_search_locations[0]) / "data"  # read as data: none of its code runs
    parts: set[str] = set()
    for name in ("laws", "reporters", "journals", "case_name_abbreviations"):
        entries: dict[str, list[Any]] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for key, items in entries.items():
            parts.update(key.split())
            for item in items:
                if isinstance(item, dict):
                    for written in (*item.get("variations", ()), *item.get("editions", ())):
                        parts.update(written.split())
    return tuple(Term(part, "whole") for part in sorted(parts) if len(part) > 1 and not _is_plain(part))


def _expand(line: Line, item: str) -> Iterator[str]:
    """What an item of a table stands for.

    >>> list(_expand(Line("", ()), "viii..x")), list(_expand(Line("", ()), "ab*1..2"))
    (['viii', 'ix', 'x'], ['ab', 'abab'])
    """
    times, range_ = _TIMES.fullmatch(item), _RANGE.fullmatch(item)
    if times:
        text = _unescape(line, times[1])
        yield from (text * number for number in range(int(times[2]), int(times[3]) + 1))
    elif range_:
        yield from _count(line, *range_.groups())
    else:
        yield _unescape(line, item)


def _count(line: Line, first: str, last: str) -> Iterator[str]:
    if first.isdecimal() and last.isdecimal():
        yield from map(str, range(int(first), int(last) + 1))
    elif len(first) == len(last) == 1 and first.islower() == last.islower() and (first + last).isalpha():
        yield from map(chr, range(ord(first), ord(last) + 1))
    elif (first + last).isalpha() and first.islower() == last.islower():
        numbers = [_roman(number) for number in range(1, 40)]
        numbers = numbers if first.islower() else [number.upper() for number in numbers]
        if first not in numbers or last not in numbers:
            raise line.error(f"{first}..{last}: Roman numbers up to xxxix are expected")
        yield from numbers[numbers.index(first) : numbers.index(last) + 1]
    else:
        raise line.error(f"{first}..{last}: two numbers, two letters or two Roman numbers of one case are expected")


def _roman(number: int) -> str:
    """A number below 40 in small letters."""
    text = ""
    for letters, value in _ROMAN.items():
        while number >= value:
            text, number = text + letters, number - value
    return text


def _unescape(line: Line, text: str) -> str:
    def char(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise line.error(f"{text!r} has {match[0]}; \\s, \\t, \\n, \\r and \\\\ are allowed")
        return _ESCAPES[match[1]]

    return _ESCAPE.sub(char, text)


# --- a user's terms ---------------------------------------------------------------------------------------------------


def parse_terms(content: bytes, where: str) -> tuple[Term, ...]:
    r"""A user's terms from a file, one a line, in its order, each once; ``where`` names the file in errors.

    Empty lines are skipped, and those that begin with ``#``. A term that begins with one is written ``\#``, one that begins
    with ``\#`` is written ``\\#``, and so on.

    Raises
    ------
    SpecError
        It is not UTF-8, has no term, or one that ``check_term`` refuses; names file and line.
    """
    lines = read_lines(content, where, "file")
    terms = [
        Term(text[1:] if re.match(r"\\+#", text) else text, "whole", place)
        for place, text in lines
        if text.strip() and not text.startswith("#")
    ]
    return _checked(terms, where, "a file with a term on each line is expected")


def list_terms(texts: Sequence[str], where: str) -> tuple[Term, ...]:
    """A user's terms from a list of the spec, in its order, each once; ``where`` names the field in errors.

    Raises
    ------
    SpecError
        The list is empty, or has a term that ``check_term`` refuses; names which.
    """
    terms = [Term(text, "whole", f"{where}[{index}]") for index, text in enumerate(texts)]
    return _checked(terms, where, "a list of terms is expected")


def _checked(terms: list[Term], where: str, expected: str) -> tuple[Term, ...]:
    found: dict[str, Term] = {}
    for term in terms:
        check_term(term.text, term.where)
        found.setdefault(term.text, term)
    if not found:
        raise SpecError(f"{where}: there are no terms; {expected}")
    return tuple(found.values())


def check_term(text: str, where: str) -> None:
    """SpecError if a term is empty, too long, holds a control character, or has white space at an end.

    >>> check_term("habeas corpus", "terms.txt, line 1")
    """
    if not text:
        raise SpecError(f"{where}: the term is empty; 1 to {MAX_TERM_CHARS:,} characters are allowed")
    shown = repr(text) if len(text) <= 60 else f"{text[:60]!r}…"
    if len(text) > MAX_TERM_CHARS:
        raise SpecError(f"{where}: the term {shown} has {len(text):,} characters; up to {MAX_TERM_CHARS:,} are allowed")
    for char in text:
        if unicodedata.category(char) in _BREAKS:
            raise SpecError(
                f"{where}: the term {shown} holds U+{ord(char):04X}; tabs, line breaks, other control characters and halves "
                "of surrogate pairs are not allowed. The pack 'whitespace' has runs of tabs and line breaks"
            )
    if text != text.strip():
        raise SpecError(
            f"{where}: the term {shown} begins or ends with white space; take it away: a term is also found behind a blank"
        )


def normalized(terms: Iterable[Term], normalizer: str) -> tuple[Term, ...]:
    """The terms as they stand in normalized text, each once, in their order.

    Those of our packs are normalized. A user's is not: it would be another than the one that was asked for.

    Raises
    ------
    SpecError
        A user's term would never be met, for the normalizer changes it; names it and what becomes of it.
    """
    found: dict[str, Term] = {}
    for term in terms:
        text = normalize_text(term.text, normalizer)
        if text != term.text and term.where:
            raise SpecError(
                f"{term.where}: the term {term.text!r} never stands in normalized text, for the normalizer {normalizer!r} "
                f"makes it {text!r}{_code_points(term.text, text)}; write it so, or choose another normalizer"
            )
        found.setdefault(text, replace(term, text=text))
    return tuple(found.values())


def _code_points(text: str, other: str) -> str:
    """What differs, where it may not be seen: in é and é."""
    if unicodedata.normalize("NFC", text) != unicodedata.normalize("NFC", other):
        return ""
    shown = (" ".join(f"U+{ord(char):04X}" for char in word if not char.isascii()) for word in (text, other))
    return " ({} becomes {})".format(*shown)


# --- what becomes of them ---------------------------------------------------------------------------------------------


def reserved(terms: Iterable[Term]) -> tuple[tuple[str, bool], ...]:
    """Contents of added tokens, and for each whether it must stand alone (``single_word`` of ``tokenizers``).

    A token that stands alone is met only where neither the character before it nor the one behind it is part of a word
    (letters, marks, digits, ``_``). So a number is never cut out of a longer one: with 123 reserved, 12345 stays as it was.
    But a token that begins with a blank could then never follow a word. So there are two for a term:

    =============================== ===================================================================================
    a number, first to last: 10-99  the number, alone
    begins with part of a word: U.S. `` U.S.`` behind a blank; ``U.S.``, alone
    only ends with one: (2d         the term, alone
    neither, or ``anywhere``: §     the term
    =============================== ===================================================================================

    What begins with a blank is not alone, so if its end is part of a word, it is also the beginning of longer ones
    behind a blank: `` art`` of `` article``. Terms are in their order, the one with a blank first; each content once, as it
    came first.

    >>> reserved([Term("F.3d", "whole"), Term("12", "whole"), Term("(a)", "anywhere")])
    ((' F.3d', False), ('F.3d', True), ('12', True), ('(a)', False))
    """
    found: dict[str, bool] = {}
    for term in terms:
        first, last = term.text[0], term.text[-1]
        if term.match == "anywhere" or not (_is_word(first) or _is_word(last)):
            found.setdefault(term.text, False)
            continue
        if _is_word(first) and not (_is_digit(first) and _is_digit(last)):
            found.setdefault(f" {term.text}", False)
        found.setdefault(term.text, True)
    return tuple(found.items())


def term_words(
    terms: Iterable[Term], pretokenizer: Pretokenizer, normalizer: str = "none"
) -> tuple[Rows, NDArray[np.int64]]:
    """The words that terms are cut into, each term once by itself and once behind a blank: to be added to training counts.

    Returns
    -------
    words, counts
        Distinct words, sorted by their bytes, and how often each occurs ``[shape=(n_words,), dtype=int64]``.
    """
    texts = [text for term in terms for text in (term.text, f" {term.text}")]
    rows = rows_of(normalize(pa.array(texts, type=pa.large_string()), normalizer).unique())
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), *(stops.copy() for _, stops in pretokenizer.iter_words(rows))])
    counted = binary_array(rows.values, offsets).value_counts()
    words, counts = counted.field(0), counted.field(1)
    order = pc.sort_indices(words)
    return rows_of(words.take(order)), counts.take(order).to_numpy()


def _category(char: str) -> str:
    return CATEGORIES[categories()[ord(char)]]


def _is_word(char: str) -> bool:
    return _category(char)[0] in "LM" or _category(char) in ("Nd", "Nl", "Pc")


def _is_digit(char: str) -> bool:
    return _category(char) == "Nd"


def _is_plain(text: str) -> bool:
    """Letters only."""
    return all(_category(char)[0] in "LM" for char in text)
