"""A heap of pairs: the next to merge on top. Beside each pair, a count that its true one does not exceed."""

from __future__ import annotations

from pipeline.kernels._jit import leaf


@leaf
def is_before(count_a, a, count_b, b, left, right):
    """Whether pair ``a`` is merged before pair ``b``."""
    if count_a != count_b:
        return count_a > count_b
    if left[a] != left[b]:
        return left[a] < left[b]
    return right[a] < right[b]


@leaf
def sift_up(heap_counts, heap_pairs, at, left, right):
    """Move the entry at ``at`` up to its place; ``left``, ``right``: the ids of each pair."""
    count = heap_counts[at]
    pair = heap_pairs[at]
    while at > 0:
        parent = (at - 1) >> 1
        if not is_before(count, pair, heap_counts[parent], heap_pairs[parent], left, right):
            break
        heap_counts[at] = heap_counts[parent]
        heap_pairs[at] = heap_pairs[parent]
        at = parent
    heap_counts[at] = count
    heap_pairs[at] = pair


@leaf
def sift_down(heap_counts, heap_pairs, at, size, left, right):
    """Move the entry at ``at`` down to its place among the first ``size``."""
    count = heap_counts[at]
    pair = heap_pairs[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and is_before(
            heap_counts[child + 1], heap_pairs[child + 1], heap_counts[child], heap_pairs[child], left, right
        ):
            child += 1
        if not is_before(heap_counts[child], heap_pairs[child], count, pair, left, right):
            break
        heap_counts[at] = heap_counts[child]
        heap_pairs[at] = heap_pairs[child]
        at = child
    heap_counts[at] = count
    heap_pairs[at] = pair
