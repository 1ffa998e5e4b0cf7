"""Which vocabulary gives a language that many tokens: a curve through a few sizes, and its inverse.

After Arnett, Chang, Biderman and Bergen 2025, "Explaining and Mitigating Crosslingual Tokenizer Inequities" (arXiv
2510.21909): tokens of a fixed text fall with the size V of the vocabulary about as ``a * V**-b + c``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LEAST_B, _MOST_B = 0.01, 8.0
_GRID = 129
_ROUNDS = 8
"""Each makes the range of b 64 times smaller: after eight it is smaller than what a float tells apart."""


class SizeCurve(NamedTuple):
    """``a * V**-b + c``, none of the three below 0; ``error``: the largest miss at the points, as a share of each."""

    a: float
    b: float
    c: float
    error: float

    def tokens(self, size: float) -> float:
        """How many tokens a vocabulary of that size gives."""
        return float(self.a * size**-self.b + self.c)

    def size(self, tokens: float) -> float | None:
        """The vocabulary that gives that many tokens; None if none does, however large.

        Examples
        --------
        a = 1000, b = 0.5, c = 10: 20 tokens at a size of (1000 / 10) ** 2 = 10,000; 10 tokens at none.
        """
        if self.a == 0 or self.b == 0:
            return 1.0 if tokens >= self.a + self.c else None
        if tokens <= self.c:
            return None
        log = (np.log(self.a) - np.log(tokens - self.c)) / self.b
        return float(np.exp(log)) if log < 700 else None  # beyond what a float holds


def fit_sizes(sizes: Sequence[float], tokens: Sequence[float]) -> SizeCurve:
    """The curve of least squares of relative errors, through two sizes or more; through two with c = 0.

    For each b the best a and c are known (two unknowns, linear, none below 0). So only b is searched: on a grid, then on a
    finer one around the best, and so on. Bounded, and the same on every machine.

    Parameters
    ----------
    sizes
        Sizes of vocabularies, above 0.
    tokens
        Tokens of the same text with each, above 0.

    Raises
    ------
    ValueError
        There are fewer than two different sizes, or something is not above 0.

    Examples
    --------
    Sizes 100, 400, 1600 with 110, 60 and 35 tokens: a = 1000, b = 0.5, c = 10.
    """
    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    if len(x) != len(y) or len(np.unique(x)) < 2:
        raise ValueError(
            f"{len(np.unique(x))} different sizes and {len(y)} numbers of tokens; two or more of each are needed"
        )
    if x.min() <= 0 or y.min() <= 0:
        raise ValueError(f"sizes from {x.min()}, tokens from {y.min()}; all must be above 0")
    middle = float(np.exp(np.log(x).mean()))
    with_c = len(np.unique(x)) > 2
    low, high = np.log(_LEAST_B), np.log(_MOST_B)
    for _ in range(_ROUNDS):
        grid = np.linspace(low, high, _GRID)
        a, c, misses = _best(np.exp(grid), x / middle, y, with_c)
        best = int(np.argmin(misses))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    b = float(np.exp(grid[best]))
    found = SizeCurve(float(a[best] * middle**b), b if a[best] else 0.0, float(c[best]), 0.0)
    error = max(abs(found.tokens(size) / count - 1) for size, count in zip(x.tolist(), y.tolist(), strict=True))
    return found._replace(error=round(error, 6))


def _best(
    b: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], with_c: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """For each b the best a and c, and the sum of squares that is left."""
    powers, ones = x ** -b[:, None] / y, np.broadcast_to(1 / y, (len(b), len(y)))
    only_a = powers.sum(axis=1) / (powers**2).sum(axis=1)
    only_c = ones.sum(axis=1) / (ones**2).sum(axis=1)
    none = np.zeros(len(b))
    choices = [(only_a, none)]
    if with_c:
        # Of the powers what the ones do not hold, so that nothing large is taken from something large.
        unit = ones / np.sqrt((ones**2).sum(axis=1, keepdims=True))
        rest = powers - (powers * unit).sum(axis=1, keepdims=True) * unit
        target = 1 - unit.sum(axis=1, keepdims=True) * unit
        both_a = (rest * target).sum(axis=1) / (rest**2).sum(axis=1)
        both_c = ((1 - both_a[:, None] * powers) * ones).sum(axis=1) / (ones**2).sum(axis=1)
        choices.append((both_a, both_c))
    choices.append((none, only_c))
    misses = np.array(
        [
            np.where((a < 0) | (c < 0), np.inf, ((a[:, None] * powers + c[:, None] * ones - 1) ** 2).sum(axis=1))
            for a, c in choices
        ]
    )
    chosen = np.argmin(misses, axis=0)
    places = np.arange(len(b))
    return (
        np.array([a for a, _ in choices])[chosen, places],
        np.array([c for _, c in choices])[chosen, places],
        misses[chosen, places],
    )
