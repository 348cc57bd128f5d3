"""Which threads are about to reach their size limit."""

from __future__ import annotations

from ..thread.size import known_size
from ..thread.thread import Thread, contents_of

# How many threads are remembered. A full memory starts again.
_MOST_REMEMBERED = 10_000


class NearlyFull:
    """Finds threads that have reached 80 % of the limit, each once in this process."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def is_news(self, thread: Thread) -> bool:
        """Return whether *thread*, which was just saved, is nearly full for the first time."""
        contents = contents_of(thread)
        limit, size = contents.source.store.max_bytes, known_size(contents)
        if limit is None or size is None or size * 5 < limit * 4 or thread.id in self._told:
            return False
        if len(self._told) >= _MOST_REMEMBERED:
            # Replaced rather than cleared, because other threads may be using it.
            self._told = set()
        self._told.add(thread.id)
        return True
