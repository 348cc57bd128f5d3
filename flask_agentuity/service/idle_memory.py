"""Returns memory that is no longer used to the operating system.

The C library keeps freed memory in a pool for each thread. After a burst of large documents, that
is many times what the service uses.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from concurrent.futures import Executor

#: Seconds between the end of a burst, or of a part of it, and the return of memory.
_PAUSE = 2.0

#: Smaller frames leave little freed memory.
_LARGE = 64 * 1024


def _find_trim() -> Callable[[int], int] | None:
    try:
        # Only the GNU C library has it.
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return trim


class IdleMemory:
    """Returns memory a moment after large frames were handled. For one event loop."""

    def __init__(self, executor: Executor | None = None) -> None:
        self._trim = _find_trim()
        self._executor = executor
        self._planned: asyncio.TimerHandle | None = None
        self._is_used = False

    def used(self, size: int) -> None:
        """Record that *size* bytes were used, and are or will soon be free."""
        if size < _LARGE or self._trim is None:
            return
        self._is_used = True
        if self._planned is None:
            self._plan()

    def close(self) -> None:
        """Plan nothing more."""
        if self._planned is not None:
            self._planned.cancel()

    def _plan(self) -> None:
        self._is_used = False
        self._planned = asyncio.get_running_loop().call_later(_PAUSE, self._return)

    def _return(self) -> None:
        self._planned = None
        if self._is_used:
            # More was used in the meantime, and may not be free yet.
            self._plan()
        if self._trim is not None:
            # It releases the interpreter lock, and takes some milliseconds.
            asyncio.get_running_loop().run_in_executor(self._executor, self._trim, 0)
