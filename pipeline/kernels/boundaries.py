"""Boundaries of 64 bytes at once: the rules of ``pipeline.boundaries`` as operations on bit masks.

A plane is a set of characters; bit i of its mask for a block says whether byte i belongs to a character of the plane.
ASCII bytes get their planes by vector comparisons, a few for each range of bytes; others are decoded one by one. Then a
rule is two shifts and two ANDs for 64 positions. Nothing here branches on an ASCII byte. Linear in the text; measured in
``benchmarks``, *count*, as split alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels._jit import leaf, njit
from pipeline.kernels._llvm import BLOCK, range_mask, trailing_zeros

HARD = 0
"""The plane of the characters close to which no rule holds; the others follow."""

_ONE = np.uint64(1)
_S63 = np.uint64(63)
_LEADS = np.uint8(0xC0)
_CONTINUATIONS = np.uint8(0x80)
_LAST_CONTINUATION = np.uint8(0xBF)
_LAST = np.uint8(0xFF)


class LocalRules(NamedTuple):
    """``range_low, range_last, range_plane [dtype=uint8]``: planes of the ASCII bytes, as ranges of bytes.
    ``plane_of [shape=(n_classes,), dtype=uint8]``: the plane of other characters, by class.
    ``rules [shape=(n, 4), dtype=uint64]``: 1 for a boundary or 0 to ask, then the sets of planes (bit by bit) of the
    characters before, at and after the position. ``reach``: how many characters a hard one must lie behind a window;
    -1 if the automaton never forgets, and there are no rules. ``num_planes``: HARD included.
    """

    range_low: NDArray[np.uint8]
    range_last: NDArray[np.uint8]
    range_plane: NDArray[np.uint8]
    plane_of: NDArray[np.uint8]
    rules: NDArray[np.uint64]
    reach: int
    num_planes: int


@leaf
def decode(text, at):
    """Code point and width in bytes of the character at byte ``at`` of valid UTF-8."""
    byte = np.int64(text[at])
    if byte < 0x80:
        return byte, 1
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | np.int64(text[at + 1]) & 0x3F, 2
    if byte < 0xF0:
        return (byte & 0x0F) << 12 | (np.int64(text[at + 1]) & 0x3F) << 6 | np.int64(text[at + 2]) & 0x3F, 3
    return (
        (byte & 0x07) << 18
        | (np.int64(text[at + 1]) & 0x3F) << 12
        | (np.int64(text[at + 2]) & 0x3F) << 6
        | np.int64(text[at + 3]) & 0x3F
    ), 4


@leaf
def _is_close(text, at, bit, origins, reach):
    """Whether one of the ``reach`` characters before the one at ``at`` is hard by itself; ``bit`` is its place in the masks.

    As many bytes as the rules look back over may be fewer characters. Then the character itself is made hard.
    """
    for _ in range(reach):
        while True:
            at -= 1
            bit -= 1
            if at < 0 or bit < 0:
                return False
            if text[at] & 0xC0 != 0x80:
                break
        if origins[bit // BLOCK] >> np.uint64(bit % BLOCK) & _ONE:
            return True
    return False


@leaf
def _following(row, block, leads):
    """Bit i: whether the *character* behind the one that starts at byte i of a block is in the plane ``row``.

    ``leads [shape=(3, n), dtype=uint64]``: where characters of 2, 3 and 4 bytes start.
    """
    here = row[block + 1]
    beyond = row[block + 2]
    second, third, fourth = leads[0, block], leads[1, block], leads[2, block]
    found = (here >> _ONE | beyond << _S63) & ~(second | third | fourth)
    found |= (here >> np.uint64(2) | beyond << np.uint64(62)) & second
    found |= (here >> np.uint64(3) | beyond << np.uint64(61)) & third
    return found | (here >> np.uint64(4) | beyond << np.uint64(60)) & fourth


@njit
def _fill_planes(text, start, end, first_block, last_block, class_of, local, planes):
    """Planes of some blocks, of which the one in column 1 begins at ``start``; bytes from ``end`` on are none."""
    planes[:] = 0
    last_block = min(last_block, 1 + (end - 1 - start) // BLOCK)
    for i in range(len(local.range_plane)):
        row = planes[local.range_plane[i]]
        low = local.range_low[i]
        last = local.range_last[i]
        for block in range(first_block, last_block + 1):
            row[block] |= range_mask(text, np.uintp(start + (block - 1) * BLOCK), low, last)
    origins = planes[local.num_planes]
    origins[:] = planes[HARD]
    for block in range(first_block, last_block + 1):
        first = start + (block - 1) * BLOCK
        leads = range_mask(text, np.uintp(first), _LEADS, _LAST)
        while leads != 0:
            at = trailing_zeros(leads)
            leads &= leads - _ONE
            if first + at >= end:
                break
            code_point, width = decode(text, first + at)
            plane = local.plane_of[class_of[code_point]]
            bits = (_ONE << np.uint64(width)) - _ONE
            is_origin = plane == HARD
            if is_origin:
                origins[block] |= bits << np.uint64(at)
            elif local.reach > 0:
                near = origins[block] << np.uint64(BLOCK - at) if at > 0 else np.uint64(0)
                if block > 0:
                    near |= origins[block - 1] >> np.uint64(at)
                if near != 0 and _is_close(text, first + at, at + block * BLOCK, origins, local.reach):
                    plane = np.uint8(HARD)
            planes[plane, block] |= bits << np.uint64(at)
            if at + width > BLOCK:
                planes[plane, block + 1] |= bits >> np.uint64(BLOCK - at)
                if is_origin:
                    origins[block + 1] |= bits >> np.uint64(BLOCK - at)


@njit
def _unite(planes, num_blocks, members, union):
    """``union``: the bytes in any of the planes whose bits are set in ``members``."""
    union[:] = 0
    plane = 0
    while members != 0:
        if members & _ONE:
            row = planes[plane]
            for block in range(num_blocks + 2):
                union[block] |= row[block]
        members >>= _ONE
        plane += 1


@njit
def find_boundaries(text, start, end, num_blocks, class_of, local, planes, unions, flags):
    """Where words start, as far as three neighbouring characters tell.

    Parameters
    ----------
    text
        Padded UTF-8. ``[dtype=uint8]``
    start, end, num_blocks
        Where the blocks to look at begin, how many they are, and where the text ends.
    class_of
        Character class of each code point, from ``SplitTables``.
    local
        The rules.
    planes
        Scratch. ``[shape=(n_planes + 1, n_blocks + 3 or more), dtype=uint64]``
    unions
        Scratch. ``[shape=(6, n_blocks + 2 or more), dtype=uint64]``
    flags
        Filled: ``flags[0]`` where a word starts, ``flags[1]`` where the automaton must be asked. Neither bit: the byte
        goes on with the word. Bits of the first and the last character of a document mean nothing.
        ``[shape=(2, n_blocks or more), dtype=uint64]``
    """
    # One block more on each side, for the neighbours of the first and the last byte.
    _fill_planes(text, start, end, 0 if start >= BLOCK else 1, num_blocks + 1, class_of, local, planes)
    flags[:] = 0
    before, at, after, leads = unions[0], unions[1], unions[2], unions[3:]
    for block in range(num_blocks):
        first = np.uintp(start + block * BLOCK)
        leads[0, block] = range_mask(text, first, _LEADS, np.uint8(0xDF))
        leads[1, block] = range_mask(text, first, np.uint8(0xE0), np.uint8(0xEF))
        leads[2, block] = range_mask(text, first, np.uint8(0xF0), _LAST)
    for i in range(len(local.rules)):
        _unite(planes, num_blocks, local.rules[i, 1], before)
        _unite(planes, num_blocks, local.rules[i, 2], at)
        _unite(planes, num_blocks, local.rules[i, 3], after)
        found = flags[0] if local.rules[i, 0] == 1 else flags[1]
        for block in range(num_blocks):
            found[block] |= (
                at[block + 1] & (before[block + 1] << _ONE | before[block] >> _S63) & _following(after, block, leads)
            )
    hard = planes[HARD]
    for block in range(num_blocks):
        near = hard[block + 1] | _following(hard, block, leads)
        for distance in range(1, local.reach + 2):
            near |= hard[block + 1] << np.uint64(distance) | hard[block] >> np.uint64(BLOCK - distance)
        flags[1, block] |= near
    for block in range(num_blocks):
        inside = range_mask(text, np.uintp(start + block * BLOCK), _CONTINUATIONS, _LAST_CONTINUATION)
        flags[0, block] &= ~inside
        flags[1, block] &= ~inside
