"""Measure how tokens relate to morphemes: sums that add up, and the ratios made of them.

Words, their pieces and their gold morphemes are plain values; who cuts the words and where the gold comes from is the
caller's affair. Every figure is there twice: by type (each word counts once) and by occurrence (each counts as often as it
stands in a text). ``docs/metrics.md`` defines them all, with the papers they are from. Print ``WARNING`` beside them.

Examples
--------
``evlerde`` cut as ``ev lerde``, gold ``ev ler de``: one boundary predicted, two in the gold, one hit. Precision 1, recall
0.5, F1 2/3. Two tokens and three morphemes with ``ev`` in common: two edits lead from one to the other.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from itertools import accumulate, pairwise
from typing import Generic, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

WARNING = (
    "A good score here is no proof of a better language model: biomedical models whose tokenizer cut words much closer to "
    "their morphemes were not better at predicting words, at finding names or at linking them (arXiv 2306.17649). "
    "Compare trained models before you choose a tokenizer by its morphology."
)
"""To be shown beside each figure of this module."""

Predicate = AbstractSet[str] | Callable[[str], bool]
"""Which texts are in: a set of them, or a function that says so."""

PARTS = 720_720
"""Into how many parts a word's precision and recall are cut, so that sums of them are integers, the same in any order.

All numbers to 16 divide it. Only words with more boundaries than that are rounded, by less than a millionth each.
"""


class Segmented(NamedTuple):
    """A word, its pieces as a tokenizer cuts it, its gold morphs, and how often it occurs (1, if only types matter).

    Pieces and morphs each join to the word. Pieces may be empty. A token that starts inside of a character leaves no
    boundary between characters: give its text to the piece before it, and let it be empty.
    """

    word: str
    pieces: Sequence[str]
    morphs: Sequence[str]
    weight: int = 1


class Analyzed(NamedTuple):
    """A word, its tokens, its gold morphemes, which need not join to it, and how often it occurs.

    Tokens and morphemes are compared by ``==``. So give strings, or ids where the tokenizer has one id for several
    strings; the morphemes must then be such ids too. All that is given counts: single letters, bytes, markers, blanks and
    empty strings. Leave out beforehand what shall not count.
    """

    word: str
    tokens: Sequence[Hashable]
    morphemes: Sequence[Hashable]
    weight: int = 1


def pieces_of(parts: Iterable[bytes], word: str) -> list[str] | None:
    """What tokens stand for, as pieces of a word; None if together they are not the word.

    A token that starts inside a character gives its bytes to the piece before it.

    Examples
    --------
    ``ş`` is two bytes: ``"a" + its first``, ``its second + "b"`` are the pieces ``aş`` and ``b``.
    """
    parts = list(parts)
    content = word.encode()
    if b"".join(parts) != content:
        return None
    stops = list(accumulate(map(len, parts)))
    ends = [_character_end(content, stop) for stop in stops]
    return [content[start:stop].decode() for start, stop in pairwise([0, *ends])]


def _character_end(content: bytes, at: int) -> int:
    """``at``, or where the character that it is inside of ends."""
    while at < len(content) and content[at] & 0xC0 == 0x80:
        at += 1
    return at


# --- sums and ratios --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sums:
    """Counts over words, which add up over parts of the words."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


_Kind = TypeVar("_Kind")
_Addable = TypeVar("_Addable", bound=Sums)


@dataclass(frozen=True, slots=True)
class Both(Generic[_Kind]):
    """The same figures by type, each word once, and by occurrence. By type they add up if no word is in two parts."""

    by_type: _Kind
    by_occurrence: _Kind

    def __add__(self: Both[_Addable], other: Both[_Addable]) -> Both[_Addable]:
        return Both(self.by_type + other.by_type, self.by_occurrence + other.by_occurrence)


def _ratio(a: int, b: int) -> float | None:
    return round(a / b, 6) if b else None


def _scores(hits: int, predicted: int, gold: int) -> dict[str, float | None]:
    """Precision, recall, F1; None where there is nothing to divide by."""
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, gold),
        "f1": _ratio(2 * hits, predicted + gold),
    }


def _both(kind: type[_Addable], rows: Sequence[tuple[int, ...]], weights: Sequence[int]) -> Both[_Addable]:
    """Rows of a word's numbers added up, plain and times the word's weight."""
    columns = list(zip(*rows, strict=True))
    weighted = (sum(a * weight for a, weight in zip(column, weights, strict=True)) for column in columns)
    return Both(kind(*map(sum, columns)), kind(*weighted))


def _checked_weight(word: str, weight: int) -> int:
    if weight < 1:
        raise ValueError(f"word {word!r}: its weight is {weight}; a word that is measured occurs at least once")
    return weight


# --- tokens that are words or affixes ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Validity:
    """How many tokens are words or affixes (``valid``), how many roots or affixes (``pure``).

    ``total``: ids that occur, or occurrences. ``left_out``: of these, the ones without a letter. ``counted``: distinct
    texts of the rest, or their occurrences. There is no ``+``: a text that occurs in two parts is one type. Add up how
    often each id occurs instead.
    """

    total: int = 0
    left_out: int = 0
    counted: int = 0
    valid: int = 0
    pure: int = 0

    def ratios(self) -> dict[str, float | None]:
        """What the counts mean: None where there is nothing to divide by."""
        return {
            "valid_fraction": _ratio(self.valid, self.counted),
            "pure_fraction": _ratio(self.pure, self.counted),
            "left_out_fraction": _ratio(self.left_out, self.total),
        }


def count_validity(
    texts: Sequence[str],
    id_counts: NDArray[np.int64],
    *,
    is_valid: Predicate,
    is_pure: Predicate,
    lower: Callable[[str], str] = str.lower,
    special_ids: Collection[int] = (),
) -> Both[Validity]:
    """Which of the tokens that occur are words, roots and affixes.

    Parameters
    ----------
    texts
        For each id what it decodes to when it stands alone. White space around it does not count.
    id_counts
        How often each id occurs. ``[shape=(vocab_size,), dtype=int64]``
    is_valid, is_pure
        Asked for the text as it is and, if the answer is no, for the text in lower case.
    lower
        The lower case of the language: ``str.lower`` does not know that Turkish ``I`` is ``ı``.
    special_ids
        Left out whatever their text: ``<pad>`` has letters and is no attempt at a word.

    Raises
    ------
    ValueError
        Texts and counts are not equally many, or a count is negative.

    Examples
    --------
    `` evler`` twice, ``ev`` once, ``.`` three times, with ``ev`` in the list alone: by type 1 of 2 is valid, by
    occurrence 1 of 3. One of three ids is left out, and three of six occurrences.
    """
    if len(texts) != len(id_counts):
        raise ValueError(f"{len(texts)} texts and {len(id_counts)} counts; there must be one of each for each id")
    if len(id_counts) and id_counts.min() < 0:
        raise ValueError(f"id {int(id_counts.argmin())} occurs {id_counts.min()} times; counts start at 0")
    asked = [test if callable(test) else test.__contains__ for test in (is_valid, is_pure)]
    occurring, left_out = 0, 0
    counts: Counter[str] = Counter()
    special = frozenset(special_ids)
    for token_id in map(int, np.flatnonzero(id_counts)):
        text = texts[token_id].strip()
        occurring += 1
        if token_id not in special and any(map(str.isalpha, text)):
            counts[text] += int(id_counts[token_id])
        else:
            left_out += 1
    valid, pure = ([text for text in counts if test(text) or test(lower(text))] for test in asked)
    total, known = int(id_counts.sum()), counts.total()
    return Both(
        Validity(occurring, left_out, len(counts), len(valid), len(pure)),
        Validity(total, total - known, known, sum(map(counts.__getitem__, valid)), sum(map(counts.__getitem__, pure))),
    )


# --- boundaries inside of words ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Boundaries(Sums):
    """Sums over words of two letters or more; ``too_short`` are the others, where there is nothing to cut.

    ``hits``: predicted boundaries that are in the gold. ``all_right``: words whose boundaries are those of the gold, also
    if there are none. ``precision_parts``, ``recall_parts``: sums of the words' own, a whole one is ``PARTS``.
    """

    words: int = 0
    too_short: int = 0
    hits: int = 0
    predicted: int = 0
    gold: int = 0
    all_right: int = 0
    precision_parts: int = 0
    recall_parts: int = 0

    def ratios(self) -> dict[str, float | None]:
        """What the counts mean: None where there is nothing to divide by.

        Without a prefix: over all boundaries. ``macro_``: means over words; ``macro_f1`` is made of these means.
        """
        whole = self.words * PARTS
        both = self.precision_parts + self.recall_parts
        macro_f1 = _ratio(2 * self.precision_parts * self.recall_parts, both * whole) if both else _ratio(0, whole)
        return {
            **_scores(self.hits, self.predicted, self.gold),
            "macro_precision": _ratio(self.precision_parts, whole),
            "macro_recall": _ratio(self.recall_parts, whole),
            "macro_f1": macro_f1,
            "all_right_fraction": _ratio(self.all_right, self.words),
            "over_segmentation": _ratio(self.predicted - self.hits, self.predicted),
            "under_segmentation": _ratio(self.gold - self.hits, self.gold),
        }


def _cuts(word: str, pieces: Sequence[str], what: str) -> frozenset[int]:
    """Where a word is cut, in characters from its start; not before the first and not after the last."""
    if "".join(pieces) != word:
        raise ValueError(f"word {word!r}: its {what} are {list(pieces)!r}; joined, they must give the word")
    return frozenset(accumulate(map(len, pieces))) - {0, len(word)}


def _parts(hits: int, count: int) -> int:
    """A share in parts, rounded; whole if nothing was asked."""
    return (2 * PARTS * hits + count) // (2 * count) if count else PARTS


def count_boundaries(words: Iterable[Segmented]) -> Both[Boundaries]:
    """The boundaries that a tokenizer puts into words, beside those of the gold.

    A word's own precision is 1 if nothing was predicted, and its recall is 1 if the gold has no boundary. So a word
    without boundaries on both sides has 1 and 1; cut where the gold is whole, 0 and 1; left whole where the gold is cut,
    1 and 0.

    Raises
    ------
    ValueError
        Pieces or morphs do not join to their word, or a weight is below 1.

    Examples
    --------
    ``evlerde`` as ``ev lerde`` (gold ``ev ler de``) once and ``ev`` as ``e v`` (gold ``ev``) three times. By type 1 hit
    of 2 predicted and of 2 in the gold; the words' own precisions are 1 and 0, their recalls 0.5 and 1. By occurrence
    1 hit of 4 predicted and of 2 in the gold.
    """
    rows, weights = [], []
    for word, pieces, morphs, weight in words:
        found, wanted = _cuts(word, pieces, "pieces"), _cuts(word, morphs, "morphs")
        weights.append(_checked_weight(word, weight))
        if len(word) < 2:
            rows.append((0, 1, 0, 0, 0, 0, 0, 0))
            continue
        hits, predicted, gold = len(found & wanted), len(found), len(wanted)
        right = int(found == wanted)
        rows.append((1, 0, hits, predicted, gold, right, _parts(hits, predicted), _parts(hits, gold)))
    return _both(Boundaries, rows, weights)


# --- one boundary a word: MorphScore ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MorphScore(Sums):
    """Sums over words. ``no_gold``: those without a gold boundary. ``whole``: of the rest, those without any cut."""

    words: int = 0
    no_gold: int = 0
    whole: int = 0
    hits: int = 0

    @property
    def scored(self) -> int:
        """Words that are neither excluded nor without a gold boundary."""
        return self.words - self.no_gold - self.whole

    def ratios(self) -> dict[str, float | None]:
        """What the counts mean: None where there is nothing to divide by."""
        return {
            "morph_score": _ratio(self.hits, self.scored),
            "whole_fraction": _ratio(self.whole, self.words - self.no_gold),
        }


def first_boundary(segmented: Segmented) -> int | None:
    """Where the gold cuts a word first; None if it does not."""
    return min(_cuts(segmented.word, segmented.morphs, "morphs"), default=None)


def count_morph_score(
    words: Iterable[Segmented], boundary_of: Callable[[Segmented], int | None] = first_boundary
) -> Both[MorphScore]:
    """How often a tokenizer cuts at the one gold boundary of a word, among the words that it cuts at all.

    ``boundary_of`` gives the boundary that counts, in characters from the start of the word; None if it has none.

    Raises
    ------
    ValueError
        Pieces or morphs do not join to their word, a weight is below 1, or a boundary lies outside of its word.

    Examples
    --------
    Gold ``ev lerde``: ``ev ler de`` is 1, ``evl erde`` is 0, ``evlerde`` is excluded. The score of the three is 0.5.
    """
    rows, weights = [], []
    for segmented in words:
        word, pieces, _, weight = segmented
        found, boundary = _cuts(word, pieces, "pieces"), boundary_of(segmented)
        if boundary is not None and not 0 < boundary < len(word):
            raise ValueError(f"word {word!r}: its gold boundary is {boundary}; allowed is 1 to {len(word) - 1}, or None")
        weights.append(_checked_weight(word, weight))
        asked = boundary is not None
        rows.append((1, int(not asked), int(asked and not found), int(boundary in found)))
    return _both(MorphScore, rows, weights)


# --- tokens and morphemes as such -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Morphemes(Sums):
    """Sums over words. ``hits``: tokens that are morphemes of their word. ``edits``: what leads from one to the other."""

    words: int = 0
    hits: int = 0
    tokens: int = 0
    morphemes: int = 0
    edits: int = 0

    def ratios(self) -> dict[str, float | None]:
        """What the counts mean: None where there is nothing to divide by."""
        return {**_scores(self.hits, self.tokens, self.morphemes), "mean_edit_distance": _ratio(self.edits, self.words)}


def count_morphemes(words: Iterable[Analyzed]) -> Both[Morphemes]:
    """The tokens that are morphemes of their word, and how far apart the two sequences are.

    A morpheme that stands twice in a word is hit twice if it is twice among the tokens; the order is not asked for. An
    edit inserts, deletes or replaces a whole token.

    Raises
    ------
    ValueError
        A weight is below 1.

    Examples
    --------
    ``térségen`` as ``tér sége n``, gold ``tér ség en``: one hit of three tokens and of three morphemes; two edits.
    """
    rows, weights = [], []
    for word, tokens, morphemes, weight in words:
        hits = (Counter(tokens) & Counter(morphemes)).total()
        rows.append((1, hits, len(tokens), len(morphemes), edit_distance(tokens, morphemes)))
        weights.append(_checked_weight(word, weight))
    return _both(Morphemes, rows, weights)


def edit_distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """How many insertions, deletions and replacements of whole items lead from one sequence to the other (Levenshtein).

    Examples
    --------
    ``ev lerde`` and ``ev ler de``: 2, one replacement and one insertion.
    """
    above = list(range(len(other) + 1))
    for row, item in enumerate(one, start=1):
        here = [row]
        for column, wanted in enumerate(other, start=1):
            here.append(min(above[column] + 1, here[-1] + 1, above[column - 1] + (item != wanted)))
        above = here
    return above[-1]


def canonical_morphemes(field: str) -> tuple[str, ...]:
    """The morphemes of a field as SIGMORPHON 2022 writes them: ``tér @@ség @@en`` is ``tér``, ``ség``, ``en``."""
    return tuple(part.removeprefix("@@") for part in field.split(" ") if part)


class Aligned(NamedTuple):
    """Words whose morphemes are surface morphs too, and how many others were skipped: types, occurrences."""

    words: list[Segmented]
    skipped: int
    skipped_occurrences: int


def align_canonical(words: Iterable[Segmented]) -> Aligned:
    """Keep the words whose canonical morphemes, given as ``morphs``, join to the word; skip the others, and count them.

    Nothing is guessed: where a sound changed between morpheme and word, it is open which side of a boundary it is on.

    Examples
    --------
    ``térségen`` is ``tér ség en``: kept, with boundaries after 3 and 6. ``félnek``, gold ``fél nak``: skipped.
    """
    kept, skipped, occurrences = [], 0, 0
    for segmented in words:
        weight = _checked_weight(segmented.word, segmented.weight)
        if "".join(segmented.morphs) == segmented.word:
            kept.append(segmented)
        else:
            skipped += 1
            occurrences += weight
    return Aligned(kept, skipped, occurrences)


# --- pairs of words: consistency --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Consistency:
    """Pairs of distinct words that share a token, a morpheme, or both.

    ``words`` were paired, ``left_out`` were not, because there were too many. There is no ``+``: pairs across two parts
    would be missing.
    """

    words: int = 0
    left_out: int = 0
    share_token: int = 0
    share_morpheme: int = 0
    share_both: int = 0

    def ratios(self) -> dict[str, float | None]:
        """What the counts mean: None where there is nothing to divide by."""
        return _scores(self.share_both, self.share_token, self.share_morpheme)


def count_consistency(words: Iterable[Analyzed], *, most_words: int = 50_000, seed: int = 0) -> Consistency:
    """Do words that share a token share a morpheme, and the other way round? Exact, over all pairs of the words.

    Sharing is having at least one in common, in any place. Weights do not count. Of more than ``most_words`` words, those
    with the smallest hashes are taken, all pairs of them: a sample that depends on the words and the seed, not on their
    order. Time grows with the square of the words, divided by 64; memory with the words times the distinct tokens.

    Raises
    ------
    ValueError
        A word is given twice, or ``most_words`` is below 0.

    Examples
    --------
    ``evler`` as ``ev ler``, ``evde`` as ``ev de``, ``kediler`` as ``kedi ler`` and ``deniz`` as ``de niz``, with gold
    ``ev ler``, ``ev de``, ``kedi ler`` and ``deniz``. Three pairs share a token (``ev``, ``ler``, ``de``), two of them a
    morpheme. Precision 2/3, recall 1.
    """
    if most_words < 0:
        raise ValueError(f"most_words is {most_words}; it must be at least 0")
    given = {}
    for analyzed in words:
        if analyzed.word in given:
            raise ValueError(f"word {analyzed.word!r} is given twice; only pairs of distinct words count, so give each once")
        given[analyzed.word] = (frozenset(analyzed.tokens), frozenset(analyzed.morphemes))
    chosen = given if len(given) <= most_words else sorted(given, key=lambda word: _sample_key(word, seed))[:most_words]
    tokens, morphemes = _Sharing(given[word][0] for word in chosen), _Sharing(given[word][1] for word in chosen)
    share_token = share_morpheme = share_both = 0
    for word in chosen:
        with_token, with_morpheme = tokens.before(given[word][0]), morphemes.before(given[word][1])
        share_token += with_token.bit_count()
        share_morpheme += with_morpheme.bit_count()
        share_both += (with_token & with_morpheme).bit_count()
    return Consistency(len(chosen), len(given) - len(chosen), share_token, share_morpheme, share_both)


def _sample_key(word: str, seed: int) -> tuple[bytes, str]:
    text = f"{seed}\n{word}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest(), word


class _Sharing:
    """Which of the words so far had an item: a bit for each word, an integer for each item that several words have."""

    def __init__(self, sets: Iterable[frozenset[Hashable]]) -> None:
        words_with = Counter(item for items in sets for item in items)
        self._bits = {item: 0 for item, words in words_with.items() if words > 1}
        self._seen = 0

    def before(self, items: frozenset[Hashable]) -> int:
        """The words before this one that share an item with it; this one is remembered."""
        shared, bit = 0, 1 << self._seen
        for item in items:
            if item in self._bits:
                shared |= self._bits[item]
                self._bits[item] |= bit
        self._seen += 1
        return shared
