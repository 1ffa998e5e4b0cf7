"""The one set of compiler flags.

``nogil``: kernels run in threads. ``cache``: compiled once per machine. No ``fastmath``, no ``parallel`` (the runner
gives a process per core), no ``guvectorize`` (its cache races between processes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def njit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` with the project's flags."""
    compiled: Callable[..., Any] = numba.njit(nogil=True, cache=True)(function)
    return compiled
