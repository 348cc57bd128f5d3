"""Which threads are about to reach their size limit."""

from __future__ import annotations

from ..thread.contents import Contents
from ..thread.size import known_size

# How many threads are remembered. A full memory starts again.
_MOST_REMEMBERED = 10_000


class NearlyFull:
    """Finds threads that have reached 80 % of the limit, each once in this process."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def is_news(self, contents: Contents) -> bool:
        """Return whether the thread, which was just saved, is nearly full for the first time.

        :param contents: those of the thread.
        """
        source = contents.source
        limit, entries = source.store.max_bytes, source.entries_size
        # Most threads are far from the limit, and this is all that each of their saves costs.
        if limit is None or (
            entries is not None and entries + contents.metadata.stored_size < limit // 2
        ):
            return False
        size = known_size(contents)
        if size is None or size * 5 < limit * 4:
            return False
        thread_id = contents.thread_id
        if thread_id in self._told:
            return False
        if len(self._told) >= _MOST_REMEMBERED:
            # Replaced rather than cleared, because other threads may be using it.
            self._told = set()
        self._told.add(thread_id)
        return True
