"""Place pieces of documents into sequences: best-fit decreasing.

Pieces go longest first into the fullest sequence that still has room. Sequences with the same room form a stack; the
smallest sufficient room is found by a tree over the rooms, so a piece costs O(log length). Coffman, Garey, Johnson
(1984), "Approximation algorithms for bin packing"; for documents: Ding et al. (2024), arXiv 2404.10830, section 3.
"""

from __future__ import annotations

import numpy as np

from pipeline.kernels._jit import njit


@njit
def best_fit(lengths, sequence_length):
    """The sequence each piece goes to.

    Parameters
    ----------
    lengths
        Of the pieces, each from 1 to ``sequence_length``. ``[shape=(n,), dtype=int64]``
    sequence_length
        Room in an empty sequence.

    Returns
    -------
    (sequence_of, num_sequences)
        ``sequence_of [shape=(n,), dtype=int64]``. Ties: equal lengths in order; of sequences with equal room the one
        that got it last.

    Examples
    --------
    Lengths 4, 3, 2, 1 into sequences of 5: 4 and 1 share one, 3 and 2 another.
    """
    num_pieces = len(lengths)
    starts = np.zeros(sequence_length + 2, dtype=np.int64)
    for length in lengths:
        starts[sequence_length - length + 1] += 1
    for i in range(1, sequence_length + 2):
        starts[i] += starts[i - 1]
    order = np.empty(num_pieces, dtype=np.int64)
    for piece in range(num_pieces):
        slot = sequence_length - lengths[piece]
        order[starts[slot]] = piece
        starts[slot] += 1

    leaves = 1
    while leaves < sequence_length + 1:
        leaves *= 2
    tree = np.zeros(2 * leaves, dtype=np.int64)  # how many sequences have this room
    top = np.full(sequence_length + 1, -1, dtype=np.int64)  # the last sequence with this room
    below = np.empty(num_pieces, dtype=np.int64)  # the one under it on the stack
    sequence_of = np.empty(num_pieces, dtype=np.int64)
    num_sequences = 0
    for piece in order:
        length = lengths[piece]
        # The smallest room of at least `length`: up until a right neighbour is not empty, then down its left side.
        node = leaves + length
        if tree[node] == 0:
            while node > 1 and (node & 1 == 1 or tree[node + 1] == 0):
                node >>= 1
            if node > 1:
                node += 1
                while node < leaves:
                    node = 2 * node if tree[2 * node] > 0 else 2 * node + 1
        if node > 1:
            room = node - leaves
            sequence = top[room]
            top[room] = below[sequence]
            while node >= 1:
                tree[node] -= 1
                node >>= 1
        else:
            room = sequence_length
            sequence = num_sequences
            num_sequences += 1
        sequence_of[piece] = sequence
        room -= length
        if room > 0:
            below[sequence] = top[room]
            top[room] = sequence
            node = leaves + room
            while node >= 1:
                tree[node] += 1
                node >>= 1
    return sequence_of, num_sequences


@njit
def fill_rows(values, starts, lengths, row_of, rows, used):
    """Copy pieces into their rows, one behind the other.

    ``values``: ids of all documents; ``starts``, ``lengths``: of the pieces; ``row_of``: their row. ``rows
    [shape=(n_rows, sequence_length)]`` is filled; ``used [shape=(n_rows,), dtype=int64]`` starts at 0.
    """
    for piece in range(len(starts)):
        row = row_of[piece]
        at = used[row]
        for i in range(lengths[piece]):
            rows[row, at + i] = values[starts[piece] + i]
        used[row] = at + lengths[piece]
