"""Curves through sizes: known ones are found again, and the inverse gives back what was put in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.sizes import SizeCurve, fit_sizes

SIZES = [1000.0, 4000.0, 16000.0, 64000.0]


def test_the_example() -> None:
    curve = fit_sizes([100, 400, 1600], [110, 60, 35])
    assert curve[:3] == pytest.approx((1000, 0.5, 10))
    assert curve.error == 0
    assert curve.size(20) == pytest.approx(10_000)
    assert curve.size(10) is None
    assert curve.size(9) is None


@given(st.floats(2, 8), st.floats(0.05, 2), st.floats(0, 0.9), st.integers(3, 4))
def test_known_curves_are_found_again(log_a: float, b: float, share: float, count: int) -> None:
    sizes = SIZES[:count]
    c = share / (1 - share) * 10**log_a * sizes[-1] ** -b  # of the last point's tokens, the share that never goes
    tokens = [10**log_a * size**-b + c for size in sizes]
    curve = fit_sizes(sizes, tokens)
    assert curve.b == pytest.approx(b, rel=1e-4)
    assert curve.a == pytest.approx(10**log_a, rel=1e-3)
    assert curve.c == pytest.approx(c, rel=1e-3, abs=1e-3 * tokens[-1])
    assert curve.error < 1e-6


@given(st.floats(2, 8), st.floats(0.05, 2), st.floats(0, 1e5), st.floats(300, 1e6))
def test_the_inverse_gives_the_target(log_a: float, b: float, c: float, size: float) -> None:
    curve = SizeCurve(10**log_a, b, c, 0.0)
    target = curve.tokens(size)
    found = curve.size(target)
    assert found is not None
    assert curve.tokens(found) == pytest.approx(target, rel=1e-9)


@given(st.lists(st.floats(10, 1e6), min_size=2, max_size=5))
def test_any_points_give_a_curve_that_never_rises(tokens: list[float]) -> None:
    sizes = [2.0**n * 256 for n in range(len(tokens))]
    curve = fit_sizes(sizes, tokens)
    assert min(curve.a, curve.b, curve.c) >= 0
    values = [curve.tokens(size) for size in sizes]
    assert all(first >= second * (1 - 1e-9) for first, second in pairwise(values))
    assert fit_sizes(sizes[::-1], tokens[::-1])[:3] == pytest.approx(curve[:3], rel=1e-3, abs=1e-6 * max(tokens))


def test_no_better_curve_on_a_fine_grid() -> None:
    """The naive twin: every b of a fine grid, and every c, with the a that is best for them."""
    sizes, tokens = [1000, 2000, 5000, 9000], [900.0, 700.0, 610.0, 560.0]
    curve = fit_sizes(sizes, tokens)

    def miss(a: float, b: float, c: float) -> float:
        return sum(((a * v**-b + c) / y - 1) ** 2 for v, y in zip(sizes, tokens, strict=True))

    def best_a(b: float, c: float) -> float:
        powers = [v**-b / y for v, y in zip(sizes, tokens, strict=True)]
        return sum(p * (1 - c / y) for p, y in zip(powers, tokens, strict=True)) / sum(p * p for p in powers)

    naive = min(miss(best_a(b / 100, c), b / 100, c) for b in range(2, 400) for c in range(0, 560, 2))
    assert miss(*curve[:3]) <= naive
    assert miss(*curve[:3]) == pytest.approx(naive, rel=0.02)


def test_two_sizes_leave_no_room_for_a_rest() -> None:
    curve = fit_sizes([100, 400, 100], [110, 55, 110])
    assert curve[:3] == pytest.approx((1100, 0.5, 0))


def test_tokens_that_do_not_fall() -> None:
    curve = fit_sizes([100, 200, 400], [50, 50, 50])
    assert curve[:3] == pytest.approx((0, 0, 50))
    assert curve.size(50) == 1  # any will do
    assert curve.size(49) is None
    assert fit_sizes([100, 200], [50, 60]).size(40) is None


def test_what_no_float_holds() -> None:
    assert SizeCurve(1.0, 0.01, 0.0, 0.0).size(1e-5) is None


@pytest.mark.parametrize(
    ("sizes", "tokens", "message"),
    [
        ([100], [5], "1 different sizes and 1 numbers of tokens; two or more"),
        ([100, 100], [5, 6], "1 different sizes"),
        ([100, 200], [5], "2 different sizes and 1 numbers"),
        ([0, 200], [5, 4], r"sizes from 0\.0, tokens from 4\.0; all must be above 0"),
        ([100, 200], [5, 0], "all must be above 0"),
    ],
)
def test_points_that_say_nothing(sizes: list[float], tokens: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_sizes(sizes, tokens)
