"""How many readers each thread has in one process."""

from __future__ import annotations

import threading
from collections.abc import Callable


class TooManyReaders(Exception):
    """The thread has as many readers in this process as it may have."""


class Readers:
    """Counts the readers of each thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def count(self, thread_id: str) -> Callable[[], None]:
        """Count another reader of a thread; return a function to call once when it has gone.

        :raises TooManyReaders: if the thread has too many readers.
        """
        with self._lock:
            count = self._counts.get(thread_id, 0)
            if count >= self._most:
                raise TooManyReaders
            self._counts[thread_id] = count + 1

        def leave() -> None:
            with self._lock:
                self._counts[thread_id] -= 1
                if not self._counts[thread_id]:
                    del self._counts[thread_id]

        return leave

    def __len__(self) -> int:
        """Return the number of threads that have readers."""
        return len(self._counts)
