"""The published hybrid tokenizer for Turkish, exactly as it is: roots, suffixes and pieces from dictionaries.

The method is that of "Tokens with Meaning" (arXiv 2508.14292), the rules are those of the package ``turkish-tokenizer``
0.2.26, mistakes included. It is kept to compare ours with, and as proof that its rules are understood.

An id stands for all forms of a root or of a suffix; decoding picks one by its neighbours. "Kitaplardan kitabı" becomes

=====  ================  =====  ==========================================================
id     in the files      gives  because
=====  ================  =====  ==========================================================
0      <uppercase>              it capitalizes what follows, and takes its first form
227    kitap kitab       Kitap
20000  lar ler           lar    the last vowel before it is a
20025  dan den tan ten   dan    it is still a, and the last letter is r, a voiced one
2      " "               " "
227    kitap kitab       kitab  a vowel follows
20034  ı                 ı
=====  ================  =====  ==========================================================

It is lossy. Encoding gives every unknown character the same id, and drops line breaks and tabs that stand alone between
two blanks. Decoding goes by sound alone: it takes a free word spelled like a suffix ("en") for that suffix, and gives it
the vowel of the word before. ``tests/test_turkish_tokenizer.py`` lists what else.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline import __version__
from pipeline.encoding import Texts, TokenizerBase, as_array
from pipeline.errors import ArtifactError

ROOTS, SUFFIXES, PIECES = DICTIONARIES = "kokler.json", "ekler.json", "bpe_tokenler.json"

FORMAT = "turkish-tokenizer-0.2"

UPPERCASE, UNKNOWN, BLANK = 0, 1, 2
_MARKERS = {"<uppercase>": UPPERCASE, "<unknown>": UNKNOWN, " ": BLANK}

UNKNOWN_TEXT = "▁u▁"
"""What the id of unknown characters prints."""

NO_ID_TEXT = "▁"
"""What a number prints that is no id."""

CACHE_WORDS, CACHED_LENGTH = 1 << 17, 64
"""So many words are kept with their ids, none of them longer; about 30 MB when full."""

# --- which form: the questions, and the rules made of them ---

_VOWEL_CLASS = {"a": 0, "ı": 0, "â": 0, "e": 1, "i": 1, "o": 2, "u": 2, "ö": 3, "ü": 3}
_FRONT_VOWELS = frozenset("eiöü")
_HARD_CONSONANTS = frozenset("fstkçşhp")
_BLANKS = frozenset(" \n\t")
_FRONT_IN_SPITE_OF_VOWELS = frozenset(["saat", "kilovatsaat", "ziraat", "itaat", "istikbal"])


@functools.lru_cache(1 << 16)
def _last_vowel(before: str) -> str:
    return next((char for char in reversed(before) if char in _VOWEL_CLASS), "")


def _vowel_class(before: str, _: str | None) -> int:
    """0 after a or ı, 1 after e or i, 2 after o or u, 3 after ö or ü, and where there is no vowel."""
    return _VOWEL_CLASS.get(_last_vowel(before), 3)


def _is_front(before: str, _: str | None) -> bool:
    return before in _FRONT_IN_SPITE_OF_VOWELS or _last_vowel(before) in _FRONT_VOWELS


def _is_hard(before: str, _: str | None) -> bool:
    return before[-1:] in _HARD_CONSONANTS


def _after_vowel(before: str, _: str | None) -> bool:
    return before[-1:] in _VOWEL_CLASS


def _before_vowel(_: str, after: str | None) -> bool:
    return after is not None and after[:1] in _VOWEL_CLASS


def _before_yor(_: str, after: str | None) -> bool:
    return after == "yor"


def _last_after_vowel(before: str, after: str | None) -> bool:
    """Whether it ends a word, and follows a vowel."""
    return _after_vowel(before, after) and (after is None or after in _BLANKS)


class _Question(NamedTuple):
    """Asked about the last alphabetic text before, and about the first form of the next id, None at the end."""

    num_answers: int
    looks_ahead: bool
    answer: Callable[[str, str | None], int]


_QUESTIONS = {
    "vowel class": _Question(4, False, _vowel_class),
    "front": _Question(2, False, _is_front),
    "hard": _Question(2, False, _is_hard),
    "after vowel": _Question(2, False, _after_vowel),
    "before vowel": _Question(2, True, _before_vowel),
    "before yor": _Question(2, True, _before_yor),
    "last, after vowel": _Question(2, True, _last_after_vowel),
    "none": _Question(1, True, lambda before, after: 0),
}


class _Rule:
    """Which of the forms: the answers are the digits of its number, the first one the lowest digit."""

    def __init__(self, *names: str, first_at_end: bool = False) -> None:
        self._questions = [_QUESTIONS[name] for name in names]
        self._first_at_end = first_at_end
        self.looks_ahead = any(question.looks_ahead for question in self._questions)
        self.num_forms = math.prod(question.num_answers for question in self._questions)

    def form(self, before: str, after: str | None) -> int:
        """The number of the form."""
        if after is None and self._first_at_end:
            return 0
        number, place = 0, 1
        for question in self._questions:
            number += place * question.answer(before, after)
            place *= question.num_answers
        return number


_RULES = {
    "softening": _Rule("before vowel"),  # a third form, of ten roots, never comes up
    "narrowing": _Rule("before yor"),
    "first": _Rule("none"),
    "two": _Rule("front"),
    "four": _Rule("vowel class"),
    "la": _Rule("front", "last, after vowel"),
    "da": _Rule("front", "hard"),
    "dı": _Rule("vowel class", "hard"),
    "lık": _Rule("vowel class", "before vowel", first_at_end=True),
    "cık": _Rule("vowel class", "hard", "before vowel", first_at_end=True),
    "mak": _Rule("front", "before vowel", first_at_end=True),
    "acak": _Rule("front", "before vowel", "after vowel"),
}

_RULE_OF_IDS = {
    range(100, 2080): "softening",
    range(2080, 2315): "narrowing",
    range(2315, 20000): "first",
    range(20000, 20013): "two",
    range(20013, 20023): "four",
    range(20023, 20024): "la",
    range(20024, 20026): "da",
    range(20026, 20029): "dı",
    range(20029, 20030): "lık",
    range(20030, 20031): "cık",
    range(20031, 20032): "mak",
    range(20032, 20033): "acak",
}
"""For ids with several forms; any other id prints its first."""

_FIRST_SUFFIX = 20000


def _rule_of(token_id: int) -> _Rule | None:
    return next((_RULES[name] for ids, name in _RULE_OF_IDS.items() if token_id in ids), None)


# --- the tokenizer ---


@dataclass(frozen=True, eq=False)
class TurkishTokenizer02(TokenizerBase):
    """The tokenizer of ``turkish-tokenizer`` 0.2.26; threads may share it.

    Parameters
    ----------
    roots, suffixes, pieces
        Text to id. Texts with the same id are its forms; which rule picks among them goes by the id, and which one it
        picks by their order.

    Raises
    ------
    ArtifactError
        A marker has another id than the rules expect, or an id has fewer forms than its rule picks from.
    """

    roots: dict[str, int] = dataclasses.field(repr=False)
    suffixes: dict[str, int] = dataclasses.field(repr=False)
    pieces: dict[str, int] = dataclasses.field(repr=False)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], folder: str) -> TurkishTokenizer02:
        """From the content of kokler.json, ekler.json and bpe_tokenler.json; ``folder`` is for messages.

        Raises
        ------
        ArtifactError
            One of them is cut off, or not what it should be; the message names it.
        """
        tables = [_parse_table(files[name], f"{folder}/{name}") for name in DICTIONARIES]
        try:
            return cls(*tables)
        except ArtifactError as error:
            raise ArtifactError(f"{folder}: {error}") from error

    @classmethod
    def from_folder(cls, path: str | Path) -> TurkishTokenizer02:
        """Read the dictionaries; raises as ``from_files``, and if one of them is missing."""
        try:
            return cls.from_files({name: (Path(path) / name).read_bytes() for name in DICTIONARIES}, str(path))
        except OSError as error:
            raise ArtifactError(
                f"{error.filename}: cannot be read ({error.strerror}); {', '.join(DICTIONARIES)} "
                "of turkish-tokenizer 0.2.26 are needed"
            ) from error

    def __post_init__(self) -> None:
        for text, token_id in _MARKERS.items():
            if self.roots.get(text) != token_id:
                raise ArtifactError(f"{ROOTS}: {text!r} has the id {self.roots.get(text)}, the rules need {token_id}")
        for token_id, (rule, forms) in self._choices.items():
            if len(forms) < rule.num_forms:
                name = ROOTS if token_id < _FIRST_SUFFIX else SUFFIXES
                shown = ", ".join(forms)
                raise ArtifactError(f"{name}: {token_id} has the forms {shown}, its rule picks one of {rule.num_forms}")

    # --- as other tokenizers of this package ---

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Those that mark the end of a document, and what is no text."""
        return tuple(token for token in ("<pad>", "<eos>") if token in self.roots)

    def id_of(self, token: str) -> int:
        """The id of a text of the dictionaries; KeyError if there is none."""
        return (self.pieces | self.suffixes | self.roots)[token]

    def encode_batch(self, texts: Texts) -> pa.LargeListArray:
        """As ``Tokenizer.encode_batch``."""
        rows = [self.encode(text) for text in as_array(texts).to_pylist()]
        return pa.array(rows, type=pa.large_list(pa.from_numpy_dtype(self.dtype)))

    def num_unknown_bytes(self, texts: Texts) -> int:
        """How many bytes of the texts have no id of their own."""
        known = {char for text in self._forms.values() for form in text for char in form}
        return sum(len(char.encode()) for text in as_array(texts).to_pylist() for char in _lower(text) if char not in known)

    def decode_parts(self, ids: Iterable[int]) -> list[bytes]:
        """As ``texts_of``, as bytes."""
        return [text.encode() for text in self.texts_of(ids)]

    def files(self, options: dict[str, Any] | None = None) -> dict[str, bytes]:
        """Name and content of every file of the tokenizer's directory; ``options``: what it was made with."""
        about = {
            "format_version": 1,
            "tokenmill_version": __version__,
            "kind": "morph",
            "compat": FORMAT,
            "vocab_size": self.vocab_size,
            "tokenizer_sha256": self.sha256,
            "options": options or {},
        }
        description = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        return {"morph.json": self.to_json().encode(), "tokenmill.json": description.encode()}

    def to_json(self) -> str:
        """All three dictionaries in one file."""
        tables = {"format": FORMAT, "roots": self.roots, "suffixes": self.suffixes, "pieces": self.pieces}
        return json.dumps(tables, ensure_ascii=False, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TurkishTokenizer02:
        """From what ``to_json`` gave; ArtifactError if it is damaged."""
        try:
            root = json.loads(text)
            return cls(root["roots"], root["suffixes"], root["pieces"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"not the dictionaries of {FORMAT}: {type(error).__name__}: {error}") from error

    @functools.cached_property
    def sha256(self) -> str:
        """Of all dictionaries."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        """Number of ids; that of texts is larger."""
        return len(self._forms)

    @functools.cached_property
    def _forms(self) -> dict[int, list[str]]:
        forms: dict[int, list[str]] = {}
        for text, token_id in (self.roots | self.suffixes | self.pieces).items():
            forms.setdefault(token_id, []).append(text)
        return forms

    @functools.cached_property
    def _choices(self) -> dict[int, tuple[_Rule, list[str]]]:
        """The ids that print one thing or another."""
        rules = {token_id: _rule_of(token_id) for token_id, forms in self._forms.items() if len(forms) > 1}
        return {token_id: (rule, self._forms[token_id]) for token_id, rule in rules.items() if rule is not None}

    @functools.cached_property
    def _fixed(self) -> dict[int, str]:
        """The ids that always print the same."""
        texts = {token_id: forms[0] for token_id, forms in self._forms.items() if token_id not in self._choices}
        return texts | {UNKNOWN: UNKNOWN_TEXT}

    # --- encode ---

    def encode(self, text: str) -> list[int]:
        """The ids of a text. Special tokens have no protection: "<uppercase>" in a text becomes that id."""
        ids: list[int] = []
        cache = self._cache
        for word in text.split(" "):
            known = cache.get(word)
            ids += self._encode_word(word) if known is None else known
            ids.append(BLANK)
        ids.pop()
        return ids

    @functools.cached_property
    def _cache(self) -> dict[str, list[int]]:
        return {}

    def _encode_word(self, word: str) -> list[int]:
        """What stands between two blanks: cut before each capital, then longest match after longest match."""
        ids: list[int] = []
        if word.strip():
            starts = [0, *(i for i in range(1, len(word)) if word[i].isupper())]
            for start, stop in zip(starts, [*starts[1:], len(word)], strict=True):
                if word[start].isupper():
                    ids.append(UPPERCASE)
                self._encode_segment(_lower(word[start:stop]), ids)
        if len(word) <= CACHED_LENGTH:
            if len(self._cache) >= CACHE_WORDS:
                self._cache.clear()
            self._cache[word] = ids
        return ids

    @functools.cached_property
    def _tables(self) -> list[tuple[dict[str, int], dict[str, int]]]:
        """What is looked up, in this order; each with the length of its longest text by first character."""
        tables = []
        for table in (self.roots, self.suffixes, self.pieces):
            longest: dict[str, int] = {}
            for text in table:
                longest[text[:1]] = max(len(text), longest.get(text[:1], 0))
            tables.append((table, longest))
        return tables

    def _encode_segment(self, segment: str, ids: list[int]) -> None:
        """Roots are looked up first everywhere, so that they eat the beginning of suffixes."""
        at = 0
        while at < len(segment):
            token_id, length = self._longest_at(segment, at)
            ids.append(token_id)
            at += length

    def _longest_at(self, segment: str, at: int) -> tuple[int, int]:
        for table, longest in self._tables:
            for length in range(min(longest.get(segment[at], 0), len(segment) - at), 0, -1):
                token_id = table.get(segment[at : at + length])
                if token_id is not None:
                    return token_id, length
        return UNKNOWN, 1

    # --- decode ---

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, as far as the rules bring it back; see ``texts_of``."""
        return "".join(self.texts_of(ids))

    def texts_of(self, ids: Iterable[int]) -> list[str]:
        """What each id contributes where it stands; "" for a case marker. A number that is no id prints "▁".

        Raises
        ------
        KeyError
            A number that is no id follows a case marker, or an id whose form depends on what follows.
        """
        ids = list(ids)
        texts: list[str] = []
        is_capital = False
        for i, token_id in enumerate(ids):
            text: str | None
            if is_capital:
                text = self._forms[token_id][0].capitalize()
                is_capital = False
            elif token_id == UPPERCASE and i + 1 < len(ids):
                text = ""
                is_capital = True
            else:
                text = self._fixed.get(token_id)
                if text is None:
                    text = self._chosen(ids, i, texts)
            texts.append(text)
        return texts

    def _chosen(self, ids: list[int], i: int, texts: list[str]) -> str:
        choice = self._choices.get(ids[i])
        if choice is None:
            return NO_ID_TEXT
        rule, forms = choice
        after = self._forms[ids[i + 1]][0] if rule.looks_ahead and i + 1 < len(ids) else None
        return forms[rule.form(_last_letters(texts), after)]


def _lower(text: str) -> str:
    """In lowercase as Turkish has it: I is the capital of ı, İ that of i."""
    return text.replace("İ", "i").replace("I", "ı").lower()


def _last_letters(texts: list[str]) -> str:
    """The last text of letters alone: suffixes look past blanks and marks at it, however far away it is."""
    for text in reversed(texts):
        if text.isalpha():
            return text
    return ""


def _parse_table(content: bytes, place: str) -> dict[str, int]:
    try:
        table = json.loads(content)
    except ValueError as error:
        raise ArtifactError(f"{place}: is no JSON ({error}); copy it anew from turkish-tokenizer 0.2.26") from error
    if not isinstance(table, dict) or not all(type(token_id) is int and token_id >= 0 for token_id in table.values()):
        raise ArtifactError(f"{place}: must hold one object that gives each text an id, 0 or above")
    return table
