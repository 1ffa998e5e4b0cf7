"""The instructions Numba has no word for: compare 64 bytes at once, count leading and trailing zeros, prefetch.

Each is plain LLVM, lowered to whatever the machine has (AVX-512, AVX2, SSE2, NEON), with a Python twin for runs without
the compiler.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pipeline.kernels._jit import WITHOUT_JIT

BLOCK = 64
"""Bytes a mask covers."""

LANES = 64
"""Numbers of 32 bits that ``least_lane`` looks at."""

PREFIXES = 8
"""Numbers of 64 bits that ``prefix_mask`` looks at."""


def _splat(builder: Any, value: Any, width: int) -> Any:
    vector = ir.VectorType(value.type, width)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), lanes)


def _address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Of element ``args[1]`` of the one-dimensional contiguous array ``args[0]``."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


@intrinsic
def _range_mask(typing_context, text, at, low, last):
    def generate(context, builder, signature, args):
        vector = ir.VectorType(ir.IntType(8), BLOCK)
        pointer = builder.bitcast(_address(context, builder, signature, args), vector.as_pointer())
        block = builder.load(pointer)
        block.align = 1
        low, last = args[2], args[3]
        distance = builder.sub(block, _splat(builder, low, BLOCK))
        inside = builder.icmp_unsigned("<=", distance, _splat(builder, builder.sub(last, low), BLOCK))
        return builder.bitcast(inside, ir.IntType(BLOCK))

    return types.uint64(text, types.uintp, types.uint8, types.uint8), generate


@intrinsic
def _trailing_zeros(typing_context, value):
    def generate(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def _leading_zeros(typing_context, value):
    def generate(context, builder, signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def _least_lane(typing_context, keys, at):
    def generate(context, builder, signature, args):
        vector = ir.VectorType(ir.IntType(32), LANES)
        lanes = builder.load(builder.bitcast(_address(context, builder, signature, args), vector.as_pointer()))
        lanes.align = 4
        function = ir.FunctionType(ir.IntType(32), [vector])
        least = cgutils.get_or_insert_function(builder.module, function, f"llvm.vector.reduce.umin.v{LANES}i32")
        return builder.call(least, [lanes])

    return types.uint32(keys, types.uintp), generate


@intrinsic
def _prefix_mask(typing_context, values, at, prefix, shift):
    def generate(context, builder, signature, args):
        vector = ir.VectorType(ir.IntType(64), PREFIXES)
        values = builder.load(builder.bitcast(_address(context, builder, signature, args), vector.as_pointer()))
        values.align = 8
        prefixes = builder.lshr(values, _splat(builder, args[3], PREFIXES))
        equal = builder.icmp_unsigned("==", prefixes, _splat(builder, args[2], PREFIXES))
        return builder.zext(builder.bitcast(equal, ir.IntType(PREFIXES)), ir.IntType(64))

    return types.uint64(values, types.uintp, types.uint64, types.uint64), generate


@intrinsic
def _prefetch(typing_context, array, at):
    def generate(context, builder, signature, args):
        byte_pointer = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte_pointer], ir.FunctionType(ir.VoidType(), [byte_pointer, number, number, number])
        )
        address = builder.bitcast(_address(context, builder, signature, args), byte_pointer)
        to_read, keep, data = ir.Constant(number, 0), ir.Constant(number, 3), ir.Constant(number, 1)
        builder.call(function, [address, to_read, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.uintp), generate


def _range_mask_twin(text, at, low, last):
    block = text[int(at) : int(at) + BLOCK]
    return np.packbits((block >= low) & (block <= last), bitorder="little").view(np.uint64)[0]


def _trailing_zeros_twin(value):
    number = int(value)
    return np.int64((number & -number).bit_length() - 1 if number else 64)


def _leading_zeros_twin(value):
    return np.int64(64 - int(value).bit_length())


def _least_lane_twin(keys, at):
    return keys[int(at) : int(at) + LANES].min()


def _prefix_mask_twin(values, at, prefix, shift):
    equal = values[int(at) : int(at) + PREFIXES] >> shift == prefix
    return np.uint64(np.packbits(equal, bitorder="little")[0])


def _prefetch_twin(array, at):
    return None


range_mask = _range_mask_twin if WITHOUT_JIT else _range_mask
"""``range_mask(text, at, low, last)``: bit i says whether ``low <= text[at + i] <= last``, for 64 bytes."""

trailing_zeros = _trailing_zeros_twin if WITHOUT_JIT else _trailing_zeros
"""``trailing_zeros(value)``: place of the lowest bit that is set; 64 if none is."""

leading_zeros = _leading_zeros_twin if WITHOUT_JIT else _leading_zeros
"""``leading_zeros(value)``: how many bits stand above the highest that is set; 64 if none is."""

least_lane = _least_lane_twin if WITHOUT_JIT else _least_lane
"""``least_lane(keys, at)``: the least of ``keys[at : at + 64]``, uint32."""

prefix_mask = _prefix_mask_twin if WITHOUT_JIT else _prefix_mask
"""``prefix_mask(values, at, prefix, shift)``: bit i says whether ``values[at + i] >> shift == prefix``, for 8 numbers."""

prefetch = _prefetch_twin if WITHOUT_JIT else _prefetch
"""``prefetch(array, at)``: start loading the cache line of ``array[at]`` (contiguous, one dimension)."""
