"""The one set of compiler flags, and where machine code is kept.

``nogil``: kernels run in threads. No ``fastmath``, no ``parallel`` (the runner gives a process or a thread per core), no
``guvectorize`` (its cache races between processes).

A kernel is compiled once per machine. Numba's own cache knows a kernel by its file alone, but its machine code contains
that of the kernels it calls: after a change in one file, others would go on with the old code. So the code lies in a
folder named after all the sources. Who finds a kernel missing there compiles it under a lock; who waited for the lock finds
it there.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from filelock import FileLock
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.compiler_lock import global_compiler_lock

WITHOUT_JIT: bool = vars(numba.config)["DISABLE_JIT"]


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
        # Where NUMBA_CACHE_DIR is set, Numba makes a folder for each path that the sources are imported from. Ours needs
        # none: a copy of the package, such as a job on a cluster brings along, finds what was compiled for the original.
        root = vars(numba.config)["CACHE_DIR"] or self._impl.locator.get_cache_path()
        folder = Path(root, f"kernels-{_sources_digest()}")
        folder.mkdir(parents=True, exist_ok=True)
        self._cache_path = str(folder)
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, _sources_digest())
        # One object for all kernels: whoever holds it compiles callees too. Always taken within Numba's own lock.
        self.lock = FileLock(folder / "lock", is_singleton=True, thread_local=False)

    def holds(self, signature: Any, target_context: Any) -> bool:
        """Whether the code for a signature is there."""
        target_context.refresh()
        return self._index_key(signature, target_context.codegen()) in self._cache_file._load_index()


def _keep(dispatcher: Any, cache: _KernelCache) -> None:
    """Have a kernel's machine code loaded from the cache, and compiled by one process only."""
    dispatcher._cache = cache
    compile_now = dispatcher.compile

    def compile_once(signature: Any) -> Any:
        with global_compiler_lock:
            if cache.holds(signature, dispatcher.targetctx):
                return compile_now(signature)
            with cache.lock:
                return compile_now(signature)

    dispatcher.compile = compile_once


@functools.cache
def _warn_of_no_cache() -> None:
    warnings.warn(
        f"every process compiles the kernels anew, half a minute each time: no folder beside {__file__} or in the home "
        "folder can be written. Set NUMBA_CACHE_DIR to a folder that can be written",
        stacklevel=2,
    )


def _compile(function: Callable[..., Any], **flags: Any) -> Callable[..., Any]:
    dispatcher: Any = numba.njit(nogil=True, **flags)(function)
    if not WITHOUT_JIT:
        try:
            _keep(dispatcher, _KernelCache(function))
        except (OSError, RuntimeError):  # Numba raises RuntimeError where it finds no folder
            _warn_of_no_cache()
    return dispatcher  # type: ignore[no-any-return]


def njit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` with the project's flags."""
    return _compile(function)


def leaf(function: Callable[..., Any]) -> Callable[..., Any]:
    """As ``njit``, for small functions inside hot loops, which allocate no array.

    Without reference counts (an atomic operation for each array at each call) LLVM can inline them.
    """
    return _compile(function, _nrt=False)
