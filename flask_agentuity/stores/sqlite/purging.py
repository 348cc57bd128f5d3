"""When expired threads are removed: all of them by a command, or in the background."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ...errors import StoreError
from ...per_process import PerProcess
from ..listing import AHEAD
from ..pacing import PAUSE, leaving_pauses
from .background_removal import BackgroundRemoval
from .connections import Connections
from .removal import Removal

logger = logging.getLogger("flask_agentuity.stores.sqlite")

#: Seconds between two looks for expired threads.
_INTERVAL = 60.0
#: Transactions after which the log is copied into the file.
_CHECKPOINT = 6
#: Transactions with which a listing corrects times.
_MOST_CORRECTIONS = 20


class Purging:
    """Removes the expired threads of one file.

    :param ttl: seconds without use after which a thread expires; None: never.
    """

    def __init__(self, connections: Connections, ttl: float | None) -> None:
        self._connections = connections
        self._removal = Removal(connections, ttl)
        self._background = PerProcess(lambda: BackgroundRemoval(self._removal))
        #: A write before the first or after the second of these times has to call :meth:`look`.
        self.since = self.due = 0.0

    def look(self, now: float) -> None:
        """Look for expired threads, and begin to remove them in the background if there are any.

        :param now: when the write began that calls it.
        """
        # A write before that means that the clock was set back.
        self.since, self.due = now - AHEAD, now + _INTERVAL
        try:
            if not self._background.get().look(now):
                # Threads do not run in this process, so each write removes some.
                self.due = 0.0
        except StoreError as error:
            logger.debug("Expired threads could not be removed now: %s", error)

    def do_all(self, progress: Callable[[int], None] | None) -> int:
        """Remove all expired threads, with pauses in which others can write; return how many."""
        removal = self._removal
        total = steps = 0
        while True:
            now = time.time()
            with leaving_pauses():
                removed = removal.remove_some(now, frees_later=True)
                others = not removed and (removal.correct_some(now) or removal.free_some(0.0))
            if not removed and not others and not removal.has_remains(now):
                break
            total += removed
            steps += 1
            if removed and progress:
                progress(removed)
            if steps % _CHECKPOINT == 0:
                # Otherwise one of the requests would have to do it.
                removal.copy_log()
                time.sleep(PAUSE)
        self._empty_log()
        return total

    def correct(self, now: float) -> bool:
        """Correct times that are in the future, of many threads; return whether there were any."""
        corrected = False
        try:
            for _ in range(_MOST_CORRECTIONS):
                if not self._removal.correct_some(now):
                    break
                corrected = True
        except StoreError as error:
            logger.debug("Times in the future could not be corrected now: %s", error)
        return corrected

    def wipe(self) -> None:
        """Remove all remains of deleted data from the file and its log."""
        freed = True
        while freed:
            with leaving_pauses():
                freed = self._removal.free_some(0.0)
        self._empty_log()

    def count(self) -> int:
        """Return how many threads have expired."""
        return self._removal.count(time.time())

    def close(self) -> None:
        """Stop removing in the background."""
        if (background := self._background.made()) is not None:
            background.close()

    def _empty_log(self) -> None:
        with self._connections.read() as connection:
            is_empty = self._connections.empty_log(connection)
        if not is_empty:
            logger.warning(
                "The write-ahead log of the SQLite file is in use, for example by a backup, and may"
                " still contain deleted text. Run flask threads purge when the backup has ended."
            )
