"""Held-out documents: decided by the id and the seed alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.holdout import document_keys, is_held_out

IDS = pa.array([f"corpus/part-{n % 7}.jsonl:{n}" for n in range(20_000)], type=pa.large_string())

GOLDEN = [153, 171, 182, 289, 368, 563, 692, 730, 741, 838, 914]

id_lists = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=20)


@given(id_lists)
def test_a_key_depends_on_the_id_alone(ids: list[str]) -> None:
    keys = document_keys(pa.array(ids, type=pa.large_string())).tolist()
    assert keys == [document_keys(pa.array(["x", i], type=pa.large_string()).slice(1)).tolist()[0] for i in ids]
    assert len(set(keys)) == len(set(ids))


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_about_the_fraction_is_held_out(fraction: float, seed: int) -> None:
    held_out = is_held_out(document_keys(IDS), fraction, seed).mean()
    assert abs(held_out - fraction) < 5 * (fraction * (1 - fraction) / len(IDS)) ** 0.5


def test_the_ends_of_the_range() -> None:
    keys = document_keys(IDS)
    assert not is_held_out(keys, 0.0, 0).any()
    assert is_held_out(keys, np.nextafter(1.0, 0.0), 0).all()


def test_a_larger_fraction_holds_the_smaller_one() -> None:
    keys = document_keys(IDS)
    small, large = is_held_out(keys, 0.05, 3), is_held_out(keys, 0.2, 3)
    assert small.any()
    assert (large | ~small).all()


def test_another_seed_makes_an_independent_choice() -> None:
    keys = document_keys(IDS)
    both = is_held_out(keys, 0.5, 0) & is_held_out(keys, 0.5, 1)
    assert abs(both.mean() - 0.25) < 0.02


def test_the_choice_never_changes() -> None:
    """Runs of other versions must hold out the same documents."""
    assert np.flatnonzero(is_held_out(document_keys(IDS.slice(0, 1_000)), 0.01, 0)).tolist() == GOLDEN
