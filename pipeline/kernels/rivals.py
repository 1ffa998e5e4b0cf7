"""Find the pairs that would have been merged instead, if the text were a given mixture."""

from __future__ import annotations

import numpy as np

from pipeline.kernels._jit import njit


@njit
def find_rivals(pairs, offsets, steps, categories, counts, weights, levels, merge_steps, slacks, tolerance):
    """Of each pair that is ever above the level by more than its slack and the tolerance: where it is most.

    Levels never rise, so that a count is furthest above them right before it changes: no other steps are looked at.

    Parameters
    ----------
    pairs
        The pairs to look at. ``[shape=(n,), dtype=int64]``
    offsets, steps, categories, counts
        Their changes; see ``replay.Replay``. Steps beyond the levels are not looked at.
    weights
        What one occurrence counts, by category. ``[shape=(n_categories,), dtype=float64]``
    levels
        What no other pair than the one merged may be above at each step. ``[shape=(n_steps,), dtype=float64]``, never rising
    merge_steps
        The step at which a pair is merged itself, or -1. ``[shape=(n_pairs,), dtype=int64]``
    slacks
        How far each pair may be above. ``[shape=(n_pairs,), dtype=float64]``

    Returns
    -------
    (rivals, rival_steps, excesses, rival_counts)
        ``rivals, rival_steps [shape=(m,), dtype=int64]``: the pair, once, and its step, the earliest if several are the
        same; ``excesses [dtype=float64]``: by how much; ``rival_counts [shape=(m, n_categories), dtype=int64]``.

    Examples
    --------
    Levels 5, 3, 2; a pair that occurs 4 times at first and 3 times from step 1 on, with no slack: it is above them at step 1
    by 0 and at step 2 by 1. So it is a rival at step 2, unless that is where it is merged.
    """
    num_categories = len(weights)
    num_levels = len(levels)
    rivals = np.empty(len(pairs), dtype=np.int64)
    rival_steps = np.empty(len(pairs), dtype=np.int64)
    excesses = np.empty(len(pairs), dtype=np.float64)
    rival_counts = np.empty((len(pairs), num_categories), dtype=np.int64)
    now = np.empty(num_categories, dtype=np.int64)
    num_rivals = 0
    for pair in pairs:
        now[:] = 0
        most = tolerance
        is_rival = False
        i = offsets[pair]
        stop = offsets[pair + 1]
        while i < stop:
            start = steps[i]
            while i < stop and steps[i] == start:
                now[categories[i]] = counts[i]
                i += 1
            end = min(np.int64(steps[i]), num_levels) if i < stop else num_levels
            if end - 1 == merge_steps[pair]:
                end -= 1
            if end <= start:
                continue
            excess = -levels[end - 1] - slacks[pair]
            for category in range(num_categories):
                excess += now[category] * weights[category]
            if excess > most:
                most = excess
                is_rival = True
                rival_steps[num_rivals] = end - 1
                rival_counts[num_rivals] = now
        if is_rival:
            rivals[num_rivals] = pair
            excesses[num_rivals] = most
            num_rivals += 1
    return rivals[:num_rivals], rival_steps[:num_rivals], excesses[:num_rivals], rival_counts[:num_rivals]
