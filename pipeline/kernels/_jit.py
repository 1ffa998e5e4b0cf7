"""The one set of compiler flags, and where machine code is kept.

``nogil``: kernels run in threads. No ``fastmath``, no ``parallel`` (the runner gives a process or a thread per core), no
``guvectorize`` (its cache races between processes).

A kernel is compiled once per machine. Numba's own cache knows a kernel by its file alone, but its machine code contains
that of the kernels it calls: after a change in one file, others would go on with the old code. So the code lies in a
folder named after all the sources, and is saved under a lock: two workers that compile the same do it one after the other.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from filelock import FileLock
from numba.core.caching import FunctionCache, IndexDataCacheFile

_WITHOUT_JIT: bool = vars(numba.config)["DISABLE_JIT"]


@functools.cache
def _sources_digest() -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


class _KernelCache(FunctionCache):
    """Numba's cache of one function, in a folder of its own for each state of the sources."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        folder = Path(self._impl.locator.get_cache_path(), f"kernels-{_sources_digest()}")
        folder.mkdir(exist_ok=True)
        self._cache_path = str(folder)
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, _sources_digest())

    def save_overload(self, sig: Any, data: Any) -> None:
        with FileLock(Path(self._cache_path, "lock")):
            super().save_overload(sig, data)


def _compile(function: Callable[..., Any], **flags: Any) -> Callable[..., Any]:
    dispatcher: Any = numba.njit(nogil=True, **flags)(function)
    if not _WITHOUT_JIT:
        dispatcher._cache = _KernelCache(function)
    return dispatcher  # type: ignore[no-any-return]


def njit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` with the project's flags."""
    return _compile(function)


def leaf(function: Callable[..., Any]) -> Callable[..., Any]:
    """As ``njit``, for small functions inside hot loops, which allocate no array.

    Without reference counts (an atomic operation for each array at each call) LLVM can inline them.
    """
    return _compile(function, _nrt=False)
