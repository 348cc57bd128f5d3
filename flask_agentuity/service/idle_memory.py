"""Returns memory that is no longer used to the operating system.

The C library keeps freed memory in pools. After a burst of large documents, that is many times
what the service uses.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from concurrent.futures import Executor

#: Seconds between the end of a burst, or of a part of it, and the return of memory.
_PAUSE = 2.0

#: It is not worth returning less, in bytes.
_ENOUGH = 1024 * 1024

#: The number of ``M_ARENA_MAX``, the option for the number of pools, in the GNU C library.
_M_ARENA_MAX = -8


def _find_function(name: str) -> Callable[..., int] | None:
    """Return a function of the GNU C library. Others do not keep much, or have other options."""
    try:
        library = ctypes.CDLL(None)
        _ = library.gnu_get_libc_version
        function: Callable[..., int] = getattr(library, name)
    except (AttributeError, OSError, TypeError):
        return None
    return function


def use_one_pool() -> None:
    """Let all threads of this process share one pool of memory.

    By default nearly every thread has its own, and free memory at the end of it is not returned.
    Several pools would not be faster: most memory is allocated and freed while Python's interpreter
    lock is held. If the environment sets their number, it stays.
    """
    set_option = _find_function("mallopt")
    is_set = "MALLOC_ARENA_MAX" in os.environ or "arena_max" in os.environ.get("GLIBC_TUNABLES", "")
    if set_option is not None and not is_set:
        set_option(_M_ARENA_MAX, 1)


class IdleMemory:
    """Returns memory a moment after enough of it was freed. For one event loop."""

    def __init__(self, executor: Executor | None = None) -> None:
        self._trim = _find_function("malloc_trim")
        self._executor = executor
        self._planned: asyncio.TimerHandle | None = None
        self._freed = 0

    def freed(self, size: int) -> None:
        """Record that *size* bytes are free, or will be in a moment."""
        self._freed += size
        if self._freed >= _ENOUGH and self._planned is None and self._trim is not None:
            self._plan()

    def close(self) -> None:
        """Plan nothing more."""
        if self._planned is not None:
            self._planned.cancel()

    def _plan(self) -> None:
        # What is freed from now on may be too late for this time.
        self._freed = 0
        self._planned = asyncio.get_running_loop().call_later(_PAUSE, self._return)

    def _return(self) -> None:
        self._planned = None
        self.freed(0)
        if self._trim is not None:
            # It releases the interpreter lock, and takes some milliseconds.
            asyncio.get_running_loop().run_in_executor(self._executor, self._trim, 0)
