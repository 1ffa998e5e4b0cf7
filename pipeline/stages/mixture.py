"""From a tokenizer's merges to the mixture of text it was trained on, by a linear program.

Each merge was the most frequent pair of the training text when it was chosen. The pairs of some text of each category can be
counted at every step; so a mixture of categories is right if, at every step, the mixed count of the merge is above that of
every other pair. Slacks make up for text that is not the training text itself.

Hayase, Liu, Choi, Oh, Smith (2024), "Data Mixture Inference: What do BPE Tokenizers Reveal about their Training Data?"
(arXiv 2407.16607). Two things differ. Counts are divided by the bytes of a category's text, not by its
pairs, so that shares are of bytes. A *level* stands between the merge of each step and its rivals, and may not rise from one
step to the next: the highest count of BPE never rises, for a new pair is no more frequent than the merge it arose from. So
one row for a pair and a step also holds at all steps before, and a small part of the rows gives the same shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.arrow import Rows
from pipeline.byte_level import ALPHABET, to_chars
from pipeline.errors import DataError
from pipeline.kernels.cells import words_to_cells
from pipeline.kernels.replay import Replay, replay_merges
from pipeline.kernels.rivals import find_rivals
from pipeline.tokenizer import Tokenizer

MAX_SYMBOLS = 2**31 - 2

MOST_ROUNDS = 50
"""Four to eight are usual."""

_UNIT = 1e5
"""The count of the most frequent merge, as the program sees it: far from what its solver takes for nothing."""

_TOLERANCE = 1e-6
"""Of the solver, and a little more."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """What the linear program gives.

    ``shares [shape=(n_categories,), dtype=float64]``: of the bytes, 1 together. ``slack``: the sum of all slacks as a share
    of the sum of the merges' mixed counts; 0 if the texts explain every merge. ``num_rounds``: programs solved.
    ``num_rows``: of rivals. ``converged``: no rival is left that the program does not know.
    """

    shares: NDArray[np.float64]
    slack: float
    num_rounds: int
    num_rows: int
    converged: bool


def replay(tokenizer: Tokenizer, num_merges: int, words: Rows, counts: NDArray[np.int64]) -> Replay:
    """Do the first merges of a tokenizer on words of several categories, one at a time.

    Merges that find nothing to do have counts of 0: those of text that is in no category, and second ways to make a token,
    as in tokenizers that were converted from SentencePiece.

    Parameters
    ----------
    tokenizer, num_merges
        Whose merges, and how many of them at most.
    words
        The distinct words of all categories.
    counts
        How often each occurs in each category. ``[shape=(n_words, n_categories), dtype=int64]``

    Raises
    ------
    DataError
        The words have more than 2**31 - 2 symbols together, ends included.
    """
    if words.num_bytes + len(counts) + 1 > MAX_SYMBOLS:
        raise DataError(
            f"the distinct words have {words.num_bytes + len(counts) + 1:,} symbols together; at most {MAX_SYMBOLS:,} are "
            "possible: give less text"
        )
    vocab = tokenizer.vocab
    byte_ids = np.full(256, -1, dtype=np.int32)
    for byte in ALPHABET:
        byte_ids[byte] = vocab.get(to_chars(bytes([byte])), -1)
    lengths = np.zeros(len(vocab), dtype=np.int64)
    for spelling, token_id in vocab.items():
        lengths[token_id] = len(spelling)
    chosen = tokenizer.merges[:num_merges]
    merges = np.array([(vocab[a], vocab[b]) for a, b in chosen], dtype=np.int32).reshape(-1, 2)
    results = np.array([vocab[a + b] for a, b in chosen], dtype=np.int32)
    cells = words_to_cells(words.values, words.offsets, np.arange(len(counts)), byte_ids)
    return Replay(*replay_merges(cells, np.ascontiguousarray(counts, dtype=np.int64), merges, results, lengths))


def infer_mixture(counts: Replay, num_bytes: NDArray[np.int64], most_rounds: int = MOST_ROUNDS) -> Mixture:
    """The shares of the categories in the text that the merges were learned from.

    The linear program has a share for each category, 1 together, for each merge ``t`` a level and a slack, and for each pair
    ``p`` a slack; no number is negative, and the sum of the slacks is least. Of ``mix(p, t)``, the sum over all categories
    of the share times the count of ``p`` before merge ``t`` for each byte of text, it asks that

    - ``level(t) <= mix(merge t, t) + slack(t)`` and ``level(t) <= level(t - 1)``;
    - ``mix(p, t) - slack(p) <= level(t)`` for every other pair.

    Of the rows of the last kind it is given few: after each solution ``find_rivals`` looks for the pairs that are above the
    levels, and the worst of them are added, until there are none. The same input gives the same mixture.

    Parameters
    ----------
    counts
        From ``replay``; at least one merge is in the text.
    num_bytes
        Of the text of each category; none is 0. ``[shape=(n_categories,), dtype=int64]``
    most_rounds
        Programs that are solved at most.

    Examples
    --------
    The words ``ab ab ef`` in one category, ``cd`` in the other, and the merges ``ab``, ``cd``, ``ef``. In a mixture with a
    share ``s`` of the first, a byte of text has ``s / 3`` of ``ab``, ``(1 - s) / 2`` of ``cd`` and ``s / 6`` of ``ef``. They
    are in that order where ``s`` is 0.6 to 0.75, so the result is one of those, without slack.
    """
    is_used: NDArray[np.bool_] = np.asarray(counts.merge_counts.any(axis=1))
    num_levels = int(is_used.sum())
    per_byte = counts.merge_counts[is_used] / num_bytes
    weights = _UNIT / per_byte.max() / num_bytes
    mixed = counts.merge_counts[is_used] * weights
    steps = np.concatenate(([0], np.cumsum(is_used))).astype(np.int32)[counts.steps]  # without the merges that are not used
    merge_steps = np.full(len(counts.left), -1, dtype=np.int64)
    merge_steps[counts.merge_pairs[is_used]] = np.arange(num_levels)

    program = _Program(mixed)
    shares = np.full(len(num_bytes), 1 / len(num_bytes))
    levels = np.minimum.accumulate(mixed @ shares)
    slacks = np.zeros(len(counts.left))
    slack = 0.0
    converged = False
    for num_rounds in range(most_rounds + 1):
        highest = counts.peaks @ (shares * weights) - slacks
        pairs = np.flatnonzero(highest > levels[-1] + _TOLERANCE)
        found = find_rivals(
            pairs, counts.offsets, steps, counts.categories, counts.counts, shares * weights, levels, merge_steps, slacks,
            _TOLERANCE,
        )  # fmt: skip
        rivals, rival_steps, excesses, rival_counts = found
        worst = np.argsort(-excesses, kind="stable")[: num_levels // 3 + 100]
        converged = not program.add(rivals[worst], rival_steps[worst], rival_counts[worst] * weights)
        if converged or num_rounds == most_rounds:
            break
        shares, slacks, levels, slack = program.solve(slacks)
    return Mixture(shares, slack / float((mixed @ shares).sum()), num_rounds, program.num_rows, converged)


class _Program:
    """The linear program, with the rivals so far. ``mixed [shape=(n_levels, n_categories)]``: the counts of the merges."""

    def __init__(self, mixed: NDArray[np.float64]) -> None:
        self._mixed = mixed
        self._rivals = np.empty(0, dtype=np.int64)
        self._steps = np.empty(0, dtype=np.int64)
        self._counts = np.empty((0, mixed.shape[1]))

    @property
    def num_rows(self) -> int:
        return len(self._rivals)

    def add(self, rivals: NDArray[np.int64], steps: NDArray[np.int64], counts: NDArray[np.float64]) -> bool:
        """Add rows; returns whether there was any that it did not have, for the solver's solution may be off a little."""
        num_levels = len(self._mixed)
        is_new = ~np.isin(rivals * num_levels + steps, self._rivals * num_levels + self._steps)
        self._rivals = np.concatenate((self._rivals, rivals[is_new]))
        self._steps = np.concatenate((self._steps, steps[is_new]))
        self._counts = np.concatenate((self._counts, counts[is_new]))
        return bool(is_new.any())

    def solve(
        self, slacks: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
        """Shares, slacks of all pairs (as many as ``slacks``), levels, and the sum of all slacks."""
        from scipy.optimize import linprog
        from scipy.sparse import block_array, csr_array, eye_array

        num_levels, num_categories = self._mixed.shape
        num_rivals = len(self._rivals)
        pairs, columns = np.unique(self._rivals, return_inverse=True)
        rows = np.arange(num_rivals)
        of_pair = csr_array((np.ones(num_rivals), (rows, columns)), shape=(num_rivals, len(pairs)))
        at_level = csr_array((np.ones(num_rivals), (rows, self._steps)), shape=(num_rivals, num_levels))
        one = eye_array(num_levels, format="csr")
        falls = one[1:] - one[:-1]
        # Columns: shares, slacks of pairs, slacks of merges, levels. Rows: each at most 0.
        constraints = block_array(
            [
                [csr_array(-self._mixed), None, -one, one],
                [csr_array((num_levels - 1, num_categories)), None, None, falls],
                [csr_array(self._counts), -of_pair, None, -at_level],
            ],
            format="csr",
        )
        costs = np.repeat([0.0, 1.0, 0.0], [num_categories, len(pairs) + num_levels, num_levels])
        is_share = csr_array(np.repeat([1.0, 0.0], [num_categories, len(costs) - num_categories])[None])
        result = linprog(
            costs, A_ub=constraints, b_ub=np.zeros(constraints.shape[0]), A_eq=is_share, b_eq=[1.0], method="highs"
        )
        if result.status != 0:
            raise DataError(f"the linear program was not solved ({result.message}); try fewer merges or other texts")
        shares, of_pairs, _, levels = np.split(result.x, np.cumsum([num_categories, len(pairs), num_levels]))
        shares = np.maximum(shares, 0)
        slacks = np.zeros_like(slacks)
        slacks[pairs] = of_pairs
        return shares / shares.sum(), slacks, np.minimum.accumulate(levels), float(result.fun)


def baseline_mixture(bytes_per_token: NDArray[np.float64]) -> NDArray[np.float64]:
    """What one might guess without the program: the shares in proportion to how well the tokenizer compresses a category.

    ``bytes_per_token [shape=(n_categories,), dtype=float64]``: of the text, after the merges.

    Examples
    --------
    4 bytes a token in one category and 1 in the other: 0.8 and 0.2.
    """
    shares: NDArray[np.float64] = bytes_per_token / bytes_per_token.sum()
    return shares
