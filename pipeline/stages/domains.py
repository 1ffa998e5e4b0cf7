"""What a domain asks of a tokenizer: its terms, its numbers, and the same text in other languages.

Pure counts: who reads the files and loads the tokenizers is the caller's affair. ``docs/metrics.md`` defines the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.kernels.keys import permute_keys
from pipeline.normalizer import normalize
from pipeline.pool import PoolTokenizer
from pipeline.stages.evaluate import token_starts
from pipeline.tokenizer import ForeignTokenizer, OwnTokenizer

AnyTokenizer = OwnTokenizer | ForeignTokenizer

WORST_TERMS = 10
MOST_DIGITS = 12
DIGIT_SEEDS = 8


def _ratio(a: int, b: int) -> float | None:
    return round(a / b, 6) if b else None


def num_tokens(tokenizer: AnyTokenizer, texts: Sequence[str]) -> NDArray[np.int64]:
    """How many tokens each text has; -1 if the text does not come back from them. ``[shape=(n_texts,), dtype=int64]``

    Of a pool without the switch token, which a document has once, however long it is.
    """
    normalizer = "none" if isinstance(tokenizer, ForeignTokenizer) else tokenizer.normalizer
    found = token_starts(tokenizer, normalize(pa.array(texts, type=pa.large_string()), normalizer))
    tokens = found.tokens - (found.tokens > 0) * isinstance(tokenizer, PoolTokenizer)
    return np.where(found.is_restored, tokens, -1)


# --- terms ------------------------------------------------------------------------------------------------------------


def measure_terms(tokenizer: AnyTokenizer, terms: Sequence[str]) -> dict[str, Any]:
    """Tokens per term: behind a blank, as in running text, where the blank is part of the text; and at the start of a text.

    ``single_fraction``: of the terms, those that are one token. ``worst``: the terms with the most tokens behind a blank,
    with their number; of several with as many, the first in the order of their characters. ``not_restored``: terms that do
    not come back from their tokens, which are in no other figure.

    Examples
    --------
    Terms ``tort`` (`` tort``) and ``estoppel`` (`` est|op|pel``): 2 tokens per term, half of them single.
    """
    behind, at_start = num_tokens(tokenizer, [" " + term for term in terms]), num_tokens(tokenizer, terms)
    is_good = (behind >= 0) & (at_start >= 0)
    behind, at_start = behind[is_good], at_start[is_good]
    num_lost = len(terms) - len(behind)
    terms = [term for term, good in zip(terms, is_good.tolist(), strict=True) if good]
    worst = sorted(zip(terms, behind.tolist(), strict=True), key=lambda row: (-row[1], row[0]))[:WORST_TERMS]
    return {
        "terms": len(terms),
        **{
            name: {
                "tokens": int(counts.sum()),
                "tokens_per_term": _ratio(int(counts.sum()), len(terms)),
                "single_fraction": _ratio(int((counts == 1).sum()), len(terms)),
            }
            for name, counts in (("behind_blank", behind), ("at_start", at_start))
        },
        "worst": [[term, count] for term, count in worst],
        "not_restored": num_lost,
    }


# --- the same text in several languages -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Premium:
    """Of a language, over the groups that it and the reference both have: tokens of the one and of the other."""

    groups: int
    tokens: int
    reference_tokens: int

    @property
    def premium(self) -> float | None:
        """Tokens for each token of the reference; None if that has none."""
        return _ratio(self.tokens, self.reference_tokens)


def premiums(tokens: Mapping[str, Mapping[str, int]], reference: str) -> dict[str, Premium]:
    """The premium of each language, the reference first, then by name; without those that share no group with it.

    ``tokens``: by language and group. Arnett et al. 2025, arXiv 2510.21909, section 3.

    Examples
    --------
    en: {1: 10, 2: 10}, tr: {2: 18, 3: 7}: of tr 18 tokens against 10 of group 2, a premium of 1.8.
    """
    found = {}
    ours = tokens[reference]
    for language in [reference, *sorted(tokens.keys() - {reference})]:
        shared = [group for group in tokens[language] if group in ours]
        if shared:
            found[language] = Premium(
                len(shared), sum(tokens[language][group] for group in shared), sum(ours[group] for group in shared)
            )
    return found


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """How far apart some numbers are; the deviation is that of all there are, not of a sample. None without numbers."""
    names = ("min", "max", "mean", "standard_deviation", "coefficient_of_variation")
    if not values:
        return dict.fromkeys(names)
    array = np.array(values, dtype=np.float64)
    mean, deviation = float(array.mean()), float(array.std())
    figures = (float(array.min()), float(array.max()), mean, deviation, deviation / mean if mean else None)
    return {name: None if figure is None else round(figure, 6) for name, figure in zip(names, figures, strict=True)}


# --- numbers ----------------------------------------------------------------------------------------------------------


class Groups(NamedTuple):
    """How a number of some digits is cut by each rule, as the lengths of its groups."""

    r2l: list[int]
    l2r: list[int]
    single: list[int]


def groups_of(digits: int) -> Groups:
    """In threes from the right, from the left, one by one.

    Examples
    --------
    7 digits: 1|3|3, 3|3|1, and seven times 1.
    """
    first, threes = digits % 3, [3] * (digits // 3)
    return Groups([first, *threes] if first else threes, [*threes, first] if first else threes, [1] * digits)


def make_number(digits: int, seed: int) -> str:
    """A number of some digits, none of them leading zero; another for another seed."""
    chance = permute_keys(np.arange(digits, dtype=np.uint64), seed) % np.uint64(10)
    chance[0] = chance[0] % np.uint64(9) + np.uint64(1)
    return "".join(map(str, chance.tolist()))


def measure_digits(tokenizer: AnyTokenizer) -> dict[str, Any]:
    """How numbers of 1 to 12 digits are cut in running text, eight of each length: ``is 1234567 the``.

    ``r2l``, ``l2r``, ``single``, ``irregular``: of the numbers whose cut tells the rules apart (4, 5, 7, 8, 10 and 11
    digits), those in threes from the right, in threes from the left, digit by digit, and any other way. ``r2l_kept``,
    ``l2r_kept``: of the same, those where a token starts at each cut of the rule, though groups may be cut further, for want
    of tokens. ``threes``: of those of 6, 9 and 12 digits, those in threes. ``short_whole``: of those up to three digits,
    those that are one piece. Where a number begins and ends does not matter: the blank before it may be part of its first
    token. ``with_letters``: of numbers between letters (``no1234567th``), those that share a token with one.
    ``not_restored``: texts that do not come back, in no other figure.
    """
    numbers = [make_number(digits, seed) for digits in range(1, MOST_DIGITS + 1) for seed in range(DIGIT_SEEDS)]
    plain, lost = _pieces_of(tokenizer, [f"is {number} the" for number in numbers], 3, numbers)
    glued, more_lost = _pieces_of(tokenizer, [f"no{number}th" for number in numbers], 2, numbers)
    telling = [row for row in plain if row.digits > 3 and row.digits % 3]
    is_rule = {rule: sum(row.groups == getattr(groups_of(row.digits), rule) for row in telling) for rule in Groups._fields}
    is_kept = {
        rule: sum(_cuts(row.groups) >= _cuts(getattr(groups_of(row.digits), rule)) for row in telling)
        for rule in ("r2l", "l2r")
    }
    threes = [row.groups == groups_of(row.digits).r2l for row in plain if row.digits > 3 and row.digits % 3 == 0]
    short = [len(row.groups) == 1 for row in plain if row.digits <= 3]
    return {
        **{rule: _ratio(count, len(telling)) for rule, count in is_rule.items()},
        "irregular": _ratio(len(telling) - sum(is_rule.values()), len(telling)),
        **{f"{rule}_kept": _ratio(count, len(telling)) for rule, count in is_kept.items()},
        "threes": _ratio(sum(threes), len(threes)),
        "short_whole": _ratio(sum(short), len(short)),
        "with_letters": _ratio(sum(not row.is_apart for row in glued), len(glued)),
        "not_restored": lost + more_lost,
    }


def _cuts(groups: list[int]) -> set[int]:
    """Where groups end, but for the last."""
    return set(accumulate(groups[:-1]))


class _Cut(NamedTuple):
    digits: int
    groups: list[int]
    is_apart: bool  # whether a token starts at the first digit, and one behind the last


def _pieces_of(tokenizer: AnyTokenizer, texts: list[str], first: int, numbers: list[str]) -> tuple[list[_Cut], int]:
    """How each number is cut, which stands in its text from ``first`` on; and how many texts do not come back."""
    found = token_starts(tokenizer, pa.array(texts, type=pa.large_string()))
    rows, at = [], 0
    for text, number, is_restored in zip(texts, numbers, found.is_restored.tolist(), strict=True):
        starts = found.starts[at + first : at + first + len(number) + 1]
        at += len(text)
        if is_restored:
            cuts = [0, *(np.flatnonzero(starts[1:-1]) + 1).tolist(), len(number)]
            rows.append(_Cut(len(number), np.diff(cuts).tolist(), bool(starts[0] and starts[-1])))
    return rows, len(texts) - len(rows)
