"""A hash table from a pair of ids to a number: open addressing, key and number side by side in one cache line."""

from __future__ import annotations

import numpy as np

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels._llvm import prefetch, trailing_zeros

NO_PLACE = np.int64(-1)

_FREE = np.uint64(2**64 - 1)  # no pair: both of its ids would be negative
_K1 = np.uint64(0x9E3779B97F4A7C15)
_S32 = np.uint64(32)
_ONE = np.uint64(1)


@leaf
def pair_key(left, right):
    """A pair as 64 bits, left id in the upper half."""
    return np.uint64(left) << _S32 | np.uint64(right)


@njit
def new_index(num_keys):
    """An empty table with room for ``num_keys`` keys: ``[shape=(2 * capacity,), dtype=uint64]``, key, number, key, …."""
    capacity = 16
    while capacity < 2 * num_keys:
        capacity *= 2
    return np.full(2 * capacity, _FREE, dtype=np.uint64)


@leaf
def _home(index, key):
    # The two halves of a key are small numbers: one product moves the bits of both to the top.
    shift = np.uint64(65 - trailing_zeros(np.uint64(len(index))))
    return ((key ^ key >> _S32 << np.uint64(15)) * _K1) >> shift


@leaf
def fetch_key(index, key):
    """Start loading the place of a key."""
    prefetch(index, np.uintp(_home(index, key) << _ONE))


@leaf
def find_key(index, key):
    """Where the number of a key stands in the table, or ``NO_PLACE``."""
    mask = np.uint64(len(index) - 1)
    place = _home(index, key) << _ONE
    while index[place] != key:
        if index[place] == _FREE:
            return NO_PLACE
        place = (place + np.uint64(2)) & mask
    return np.int64(place) + 1


@leaf
def find_again(index, key, place):
    """Where the number of the same key stands once more, behind ``place``, or ``NO_PLACE``."""
    mask = np.uint64(len(index) - 1)
    at = np.uint64(place + 1) & mask
    while index[at] != key:
        if index[at] == _FREE:
            return NO_PLACE
        at = (at + np.uint64(2)) & mask
    return np.int64(at) + 1


@leaf
def put_key(index, key):
    """Put a key into the table, behind its like if there is one; returns where its number stands. There must be room."""
    mask = np.uint64(len(index) - 1)
    place = _home(index, key) << _ONE
    while index[place] != _FREE:
        place = (place + np.uint64(2)) & mask
    index[place] = key
    return np.int64(place) + 1


@leaf
def drop_key(index, place):
    """Take out the key that was put in last, whose number stands at ``place``; then the one before it, and so on."""
    index[place - 1] = _FREE


@njit
def with_room(index, used, extra):
    """The table itself, or a larger copy, so that ``extra`` more keys than the ``used`` ones fit."""
    if 4 * (used + extra) <= len(index):
        return index
    result = new_index(2 * (used + extra))
    for place in range(0, len(index), 2):
        if index[place] != _FREE:
            result[put_key(result, index[place])] = index[place + 1]
    return result
