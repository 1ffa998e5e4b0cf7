"""Words as keys of hash tables, and documents as keys of permutations.

A word of up to 15 bytes *is* its key: two 64-bit lanes, with the length in the top byte of the second. A longer word is
known by its hash and its bytes. All hashes are fixed for ever: they decide partitions, held-out documents and the
order of the packed rows.
"""

from __future__ import annotations

import numpy as np

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels._llvm import prefetch, trailing_zeros

SHORT_BYTES = 15
"""The longest word that is its own key."""

PADDING = 64
"""Readable bytes a text buffer needs behind its last byte, so that lanes and blocks can be read without a length check."""

LONG = np.uint64(0xFF)
"""In place of the length in the second lane: the word is longer than ``SHORT_BYTES``."""

_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)
_LOW_MASKS = _MASKS[np.minimum(np.arange(SHORT_BYTES + 1), 8)]
_HIGH_MASKS = _MASKS[np.maximum(np.arange(SHORT_BYTES + 1) - 8, 0)]
_K1 = np.uint64(0x9E3779B97F4A7C15)
_K2 = np.uint64(0xC2B2AE3D27D4EB4F)
_K3 = np.uint64(0xBF58476D1CE4E5B9)
_K4 = np.uint64(0x94D049BB133111EB)
_BYTE = np.uint64(0xFF)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S31 = np.uint64(31)
_S32 = np.uint64(32)
_S56 = np.uint64(56)


@leaf
def load_lane(text, at):
    """Eight bytes from ``at``, little endian; LLVM makes one load of it."""
    p = np.uintp(at)
    lane = np.uint64(text[p])
    lane |= np.uint64(text[p + np.uintp(1)]) << np.uint64(8)
    lane |= np.uint64(text[p + np.uintp(2)]) << np.uint64(16)
    lane |= np.uint64(text[p + np.uintp(3)]) << np.uint64(24)
    lane |= np.uint64(text[p + np.uintp(4)]) << np.uint64(32)
    lane |= np.uint64(text[p + np.uintp(5)]) << np.uint64(40)
    lane |= np.uint64(text[p + np.uintp(6)]) << np.uint64(48)
    lane |= np.uint64(text[p + np.uintp(7)]) << np.uint64(56)
    return lane


@leaf
def store_lane(values, at, lane):
    """Write what ``load_lane`` reads; LLVM makes one store of it."""
    p = np.uintp(at)
    for i in range(8):
        values[p + np.uintp(i)] = np.uint8(lane >> np.uint64(8 * i) & _BYTE)


@leaf
def mix(value):
    """A bijection of 64 bits in which every bit of the input moves every bit of the output (splitmix64's finalizer)."""
    value = (value ^ (value >> _S30)) * _K3
    value = (value ^ (value >> _S27)) * _K4
    return value ^ (value >> _S31)


@leaf
def _hash_bytes(text, start, stop):
    value = np.uint64(stop - start) * _K1
    at = start
    while at + 8 <= stop:
        value = mix(value ^ load_lane(text, at))
        at += 8
    if at < stop:
        value = mix(value ^ (load_lane(text, at) & _MASKS[stop - at]))
    return value


@leaf
def key_lanes(text, start, stop):
    """The two lanes of a word's key. For a long word: its hash, and ``LONG`` in the top byte of the second.

    No branch on the length of a short word: it would be guessed wrong every few words.
    """
    length = stop - start
    if length > SHORT_BYTES:
        return _hash_bytes(text, start, stop), LONG << _S56
    size = np.uintp(length)
    tail = load_lane(text, start + 8) & _HIGH_MASKS[size]
    return load_lane(text, start) & _LOW_MASKS[size], tail | np.uint64(length) << _S56


@leaf
def hash_lanes(low, high):
    """The hash of a word from its key's lanes (of ``LONG`` words: with nothing but ``LONG`` in the second)."""
    value = (low ^ (high * _K2)) * _K1
    value ^= value >> _S32
    value *= _K3
    return value ^ (value >> _S31)


@leaf
def fetch_entries(text, start, stops, entries, lows, highs, slots):
    """Keys and home slots of some words, whose table entries start on their way from memory meanwhile.

    Words start where the one before stops, the first at ``start``; ``entries [shape=(capacity, 4), dtype=uint64]`` with a
    power of two as capacity; ``lows``, ``highs``, ``slots [dtype=uint64]`` are filled. A home is the upper bits of the hash.
    """
    cells = entries.reshape(entries.size)
    shift = np.uint64(64 - trailing_zeros(np.uint64(len(entries))))
    for i in range(len(stops)):
        stop = stops[i]
        lows[i], highs[i] = key_lanes(text, start, stop)
        slots[i] = hash_lanes(lows[i], highs[i]) >> shift
        prefetch(cells, np.uintp(slots[i] * np.uint64(4)))
        start = stop


@leaf
def partition_of(value, num_partitions):
    """Which of ``num_partitions`` a hash belongs to: its upper half, scaled."""
    return np.int64((value >> _S32) * np.uint64(num_partitions) >> _S32)


@njit
def hash_rows(values, offsets, seed):
    """A 64-bit hash of each row of bytes. ``values`` is padded; ``offsets [shape=(n + 1,), dtype=int64]``; uint64 out."""
    result = np.empty(len(offsets) - 1, dtype=np.uint64)
    for row in range(len(result)):
        low, high = key_lanes(values, offsets[row], offsets[row + 1])
        result[row] = mix(mix(low ^ mix(np.uint64(seed) + _K1)) ^ high)
    return result


@njit
def permute_keys(keys, seed):
    """A keyed permutation of the 64-bit numbers: four Feistel rounds. Distinct keys stay distinct. uint64 in and out."""
    result = np.empty(len(keys), dtype=np.uint64)
    lower = np.uint64(0xFFFFFFFF)
    round_key = mix(np.uint64(seed) + _K2)
    for row in range(len(keys)):
        left = keys[row] >> _S32
        right = keys[row] & lower
        key = round_key
        for _ in range(4):
            left, right = right, left ^ (mix(right ^ key) & lower)
            key = mix(key + _K1)
        result[row] = left << _S32 | right
    return result
