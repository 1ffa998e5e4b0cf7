"""Samples and random cuts: decided by ids and seeds alone."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrow import Rows, rows_of
from pipeline.stages.holdout import document_keys, is_held_out
from pipeline.stages.units import RandomCut, cut_at_random, is_in_sample
from tests import strategies

cuts = st.builds(RandomCut, seed=st.integers(0, 9), chars=st.tuples(st.integers(1, 4), st.integers(4, 9))) | st.builds(
    RandomCut, seed=st.integers(0, 9), probability=st.floats(0.01, 1.0)
)


def keys_of(count: int, first: int = 0) -> np.ndarray:
    return document_keys(pa.array([f"doc-{number}" for number in range(first, first + count)], pa.large_string()))


def pieces(rows: Rows) -> list[str]:
    values = rows.values.tobytes()
    return [values[a:b].decode() for a, b in zip(rows.offsets, rows.offsets[1:], strict=False)]


@given(strategies.texts, cuts)
def test_pieces_join_to_the_documents_and_each_is_within_its_own(texts: list[str], cut: RandomCut) -> None:
    rows = rows_of(pa.array(texts, pa.large_string()))
    found = cut_at_random(rows, keys_of(len(texts)), cut)
    assert "".join(pieces(found)) == "".join(texts)  # which decode: no character is cut
    assert "" not in pieces(found)
    assert set(rows.offsets.tolist()) <= set(found.offsets.tolist())


@given(strategies.texts, cuts, st.integers(0, 5))
def test_a_document_is_cut_the_same_wherever_it_stands(texts: list[str], cut: RandomCut, at: int) -> None:
    together = pieces(cut_at_random(rows_of(pa.array(texts, pa.large_string())), keys_of(len(texts)), cut))
    apart = []
    for number, text in enumerate(texts):
        apart += pieces(cut_at_random(rows_of(pa.array([text], pa.large_string())), keys_of(1, number), cut))
    assert apart == together


@given(st.text("ab ü\n", min_size=1, max_size=200), st.integers(1, 5), st.integers(0, 5), st.integers(0, 9))
def test_chunks_are_as_long_as_they_may_be(text: str, least: int, more: int, seed: int) -> None:
    cut = RandomCut(seed=seed, chars=(least, least + more))
    lengths = [len(piece) for piece in pieces(cut_at_random(rows_of(pa.array([text], pa.large_string())), keys_of(1), cut))]
    assert all(least <= length <= least + more for length in lengths[:-1])
    assert lengths[-1] <= least + more


def test_cuts_stand_before_white_space_as_often_as_they_should() -> None:
    text = "wort und " * 5000
    rows = rows_of(pa.array([text], pa.large_string()))
    found = pieces(cut_at_random(rows, keys_of(1), RandomCut(seed=0, probability=0.3)))
    assert all(piece.startswith(" ") for piece in found[1:])
    assert len(found) / 10_000 == pytest.approx(0.3, abs=0.02)
    assert len(pieces(cut_at_random(rows, keys_of(1), RandomCut(seed=0, probability=1.0)))) == 10_001
    others = pieces(cut_at_random(rows, keys_of(1), RandomCut(seed=1, probability=0.3)))
    assert others != found


def test_a_cut_goes_through_json() -> None:
    for cut in (RandomCut(seed=3, chars=(1, 2)), RandomCut(seed=4, probability=0.5)):
        assert RandomCut.from_dict(json.loads(json.dumps(dataclasses.asdict(cut)))) == cut


def test_a_sample_is_a_share_of_the_documents_whatever_else_there_is() -> None:
    keys = keys_of(20_000)
    chosen = is_in_sample(keys, 250, 1000)
    assert chosen.mean() == pytest.approx(0.25, abs=0.01)
    assert (is_in_sample(keys[5000:], 250, 1000) == chosen[5000:]).all()
    assert (chosen <= is_in_sample(keys, 500, 1000)).all()  # a larger sample holds the smaller one
    assert is_in_sample(keys, 1000, 1000).all()
    assert is_in_sample(keys, None, 1000).all()
    held_out = is_held_out(keys, 0.25, 0)
    assert (chosen & held_out).mean() == pytest.approx(0.0625, abs=0.01)  # another choice
