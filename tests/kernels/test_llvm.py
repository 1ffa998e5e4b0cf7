"""The hand-written LLVM is vector code, and does what its Python twins do."""

from __future__ import annotations

import re

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels import _llvm
from pipeline.kernels._llvm import (
    BLOCK,
    LANES,
    PREFIXES,
    leading_zeros,
    least_lane,
    prefetch,
    prefix_mask,
    range_mask,
    trailing_zeros,
)

WITHOUT_JIT = bool(numba.config.DISABLE_JIT)


@numba.njit
def _mask_of(text, at, low, last):
    return range_mask(text, np.uintp(at), low, last)


@numba.njit
def _zeros_of(value):
    return trailing_zeros(value)


@numba.njit
def _leading_zeros_of(value):
    return leading_zeros(value)


@numba.njit
def _least_of(keys, at):
    return least_lane(keys, np.uintp(at))


@numba.njit
def _prefix_mask_of(values, at, prefix, shift):
    return prefix_mask(values, np.uintp(at), prefix, shift)


@numba.njit
def _prefetch_all(text):
    for at in range(len(text)):
        prefetch(text, np.uintp(at))


bounds = st.tuples(st.integers(0, 255), st.integers(0, 255)).map(sorted)


@given(st.binary(min_size=BLOCK, max_size=2 * BLOCK), bounds, st.data())
def test_range_masks(text, bounds, data):
    at = data.draw(st.integers(0, len(text) - BLOCK))
    low, last = map(np.uint8, bounds)
    values = np.frombuffer(text, dtype=np.uint8)
    naive = sum((bounds[0] <= byte <= bounds[1]) << i for i, byte in enumerate(text[at : at + BLOCK]))
    assert int(_mask_of(values, at, low, last)) == naive
    assert int(_llvm._range_mask_twin(values, at, low, last)) == naive


@given(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 64).map(lambda n: 2**64 - 2**n if n < 64 else 0)))
def test_trailing_zeros(value):
    naive = next((n for n in range(64) if value >> n & 1), 64)
    assert _zeros_of(np.uint64(value)) == naive
    assert _llvm._trailing_zeros_twin(np.uint64(value)) == naive


@given(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 63).map(lambda n: 2**n), st.just(0)))
def test_leading_zeros(value):
    naive = 64 - value.bit_length()
    assert _leading_zeros_of(np.uint64(value)) == naive
    assert _llvm._leading_zeros_twin(np.uint64(value)) == naive


@given(st.lists(st.integers(0, 2**32 - 1), min_size=LANES, max_size=LANES + 9), st.data())
def test_the_least_lane(numbers, data):
    at = data.draw(st.integers(0, len(numbers) - LANES))
    keys = np.array(numbers, dtype=np.uint32)
    assert _least_of(keys, at) == _llvm._least_lane_twin(keys, at) == min(numbers[at : at + LANES])


prefixes = st.integers(0, 3)


@given(st.lists(st.tuples(prefixes, st.integers(0, 3)), min_size=PREFIXES, max_size=20), prefixes, st.data())
def test_prefix_masks(parts, prefix, data):
    shift = data.draw(st.sampled_from([0, 22, 42]))
    at = data.draw(st.integers(0, len(parts) - PREFIXES))
    numbers = [upper << shift | (lower if shift else 0) for upper, lower in parts]
    naive = sum((number >> shift == prefix) << i for i, number in enumerate(numbers[at : at + PREFIXES]))
    values = np.array(numbers, dtype=np.uint64)
    assert int(_prefix_mask_of(values, at, np.uint64(prefix), np.uint64(shift))) == naive
    assert int(_llvm._prefix_mask_twin(values, at, np.uint64(prefix), np.uint64(shift))) == naive


def test_prefetching_changes_nothing():
    text = np.arange(100, dtype=np.uint8)
    _prefetch_all(text)
    assert _llvm._prefetch_twin(text, np.uintp(3)) is None
    assert np.array_equal(text, np.arange(100))


@pytest.mark.skipif(WITHOUT_JIT, reason="without the compiler there is no LLVM to look at")
def test_the_instructions_are_the_ones_meant():
    """Optimized, the mask is one comparison of 64 bytes and no loop; Numba would have said nothing had it become one."""
    text = np.zeros(BLOCK, dtype=np.uint8)
    _mask_of(text, 0, np.uint8(1), np.uint8(2))
    _zeros_of(np.uint64(1))
    _leading_zeros_of(np.uint64(1))
    _least_of(np.zeros(LANES, dtype=np.uint32), 0)
    _prefix_mask_of(np.zeros(PREFIXES, dtype=np.uint64), 0, np.uint64(1), np.uint64(1))
    _prefetch_all(text)
    for kernel, instruction in (
        (_mask_of, r"icmp u\w+ <64 x i8>"),
        (_zeros_of, r"call .*i64 @llvm\.cttz\.i64"),
        (_leading_zeros_of, r"call .*i64 @llvm\.ctlz\.i64"),
        (_least_of, r"@llvm\.umin\.v64i32"),
        (_prefix_mask_of, r"icmp eq <8 x i64>"),
        (_prefetch_all, r"call void @llvm\.prefetch"),
    ):
        assert all(re.search(instruction, code) for code in kernel.inspect_llvm().values())
