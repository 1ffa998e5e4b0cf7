"""The one set of compiler flags.

``nogil``: kernels run in threads. ``cache``: compiled once per machine. No ``fastmath``, no ``parallel`` (the runner
gives a process per core), no ``guvectorize`` (its cache races between processes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def njit(function: F) -> F:
    """Compile ``function`` with the project's flags."""
    return cast(F, numba.njit(nogil=True, cache=True)(function))
