"""Best fit: the same places as a search over all sequences."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from pipeline.kernels.pack import best_fit, fill_rows
from tests import reference, strategies


@given(strategies.piece_lengths())
def test_places_are_those_of_the_reference(case: tuple[list[int], int]) -> None:
    lengths, sequence_length = case
    sequence_of, num_sequences = best_fit(np.array(lengths, dtype=np.int64), sequence_length)
    expected = reference.best_fit(lengths, sequence_length)
    assert sequence_of.tolist() == expected
    assert num_sequences == len(set(expected))


@given(strategies.piece_lengths())
def test_no_sequence_overflows_and_no_two_could_be_one(case: tuple[list[int], int]) -> None:
    lengths, sequence_length = case
    sequence_of, num_sequences = best_fit(np.array(lengths, dtype=np.int64), sequence_length)
    used = np.bincount(sequence_of, weights=lengths, minlength=num_sequences)
    assert (used <= sequence_length).all()
    assert num_sequences < 2 or np.sort(used)[:2].sum() > sequence_length


def test_docstring_example() -> None:
    sequence_of, num_sequences = best_fit(np.array([4, 3, 2, 1]), 5)
    assert sequence_of.tolist() == [0, 1, 1, 0]
    assert num_sequences == 2


def test_of_equal_rooms_the_one_changed_last_is_taken() -> None:
    sequence_of, _ = best_fit(np.array([3, 3, 3, 1, 1]), 4)
    assert sequence_of.tolist() == [0, 1, 2, 2, 1]


@given(strategies.piece_lengths())
def test_rows_hold_every_piece_once_and_in_order(case: tuple[list[int], int]) -> None:
    lengths, sequence_length = case
    starts = np.cumsum([0, *lengths])[:-1]
    row_of = np.array(reference.best_fit(lengths, sequence_length), dtype=np.int64)
    values = np.arange(sum(lengths), dtype=np.uint32)
    rows = np.full((len(set(row_of.tolist())), sequence_length), 999_999, dtype=np.uint32)
    used = np.zeros(len(rows), dtype=np.int64)
    fill_rows(values, starts, np.array(lengths, dtype=np.int64), row_of, rows, used)
    expected = [
        [v for piece in np.flatnonzero(row_of == row) for v in range(starts[piece], starts[piece] + lengths[piece])]
        for row in range(len(rows))
    ]
    assert [row[:size].tolist() for row, size in zip(rows, used, strict=True)] == expected
    assert all((row[size:] == 999_999).all() for row, size in zip(rows, used, strict=True))
