"""Arrays that grow at their end."""

from __future__ import annotations

import numpy as np

from pipeline.kernels._jit import njit


@njit
def grown(array, used, extra):
    """The array itself, or a copy with more room, so that ``extra`` more values fit."""
    if used + extra <= len(array):
        return array
    result = np.empty(max(used + extra, len(array) * 3 // 2), dtype=array.dtype)
    result[:used] = array[:used]
    return result
