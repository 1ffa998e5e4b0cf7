"""The text that merges are learned from: words of ids between ends, a symbol and the count of its word in 8 bytes."""

from __future__ import annotations

import numpy as np

from pipeline.kernels._jit import leaf, njit

END = np.int32(-1)
"""Stands before the first and after each word: pairs do not cross it."""

DEAD = np.int32(-2)
"""Stands in the places of a token between its first and its last."""

LOWER = 0xFFFFFFFF
"""The bits of a cell that hold the id."""

_MOST_INT32 = 2**31 - 1


@leaf
def token_of(cell):
    """The id in a cell, or ``END``, or ``DEAD``."""
    return np.int32(cell << 32 >> 32)  # with its sign


@leaf
def cell_of(token, weight):
    """A cell of an id and what stands for the count of its word; see ``words_to_cells``."""
    return np.int64(weight) << 32 | (np.int64(token) & LOWER)


@leaf
def weight_of(cell, counts):
    """The count of the word that a token's first cell belongs to."""
    weight = cell >> 32
    return weight if weight >= 0 else counts[~weight]


@njit
def seen_bytes(values):
    """Which bytes occur at all. ``values [dtype=uint8]``; ``[shape=(256,), dtype=bool]`` out."""
    seen = np.zeros(256, dtype=np.bool_)
    for byte in values:
        seen[byte] = True
    return seen


@njit
def words_to_cells(values, offsets, counts, byte_ids):
    """Words as ids with ``END`` around each; beside each id, in the same 8 bytes, how often its word occurs.

    Bytes whose id is negative are left out; their neighbours become adjacent, as in ``tokenizers``.

    Returns
    -------
    cells
        In the lower half the id, or ``END``. In the upper half the word's count, or, if that has more than 31 bits, the
        complement of the word's index in ``counts``. ``[shape=(n,), dtype=int64]``
    """
    num_words = len(offsets) - 1
    cells = np.empty(offsets[num_words] - offsets[0] + num_words + 1, dtype=np.int64)
    cells[0] = cell_of(END, 0)
    at = 1
    for word in range(num_words):
        weight = counts[word] if counts[word] <= _MOST_INT32 else np.int64(~word)
        for i in range(offsets[word], offsets[word + 1]):
            token = byte_ids[values[i]]
            if token >= 0:
                cells[at] = cell_of(token, weight)
                at += 1
        cells[at] = cell_of(END, weight)
        at += 1
    return cells[:at]
