"""Removing expired threads in the background, so that no request has to wait for it.

If requests removed threads, some of them would take a few times as long, and others would have to
copy a long log into the file. Of the processes that have a file open, mostly one removes threads
at a time: the work per second does not grow with their number.
"""

from __future__ import annotations

import logging
import random
import threading
import time

from ...errors import StoreError
from .removal import Removal

logger = logging.getLogger("flask_agentuity.stores.sqlite")

#: The part of the file that stays free for new threads.
_KEPT_FREE = 0.1
#: The shortest pause between two transactions in seconds, and how many times as long as the
#: transaction it is at least.
_PAUSE = 0.01
_PAUSES = 9
#: Transactions after which the log is copied into the file. Otherwise, requests would copy it.
_CHECKPOINT = 5
#: Seconds for which to look whether another process is removing threads, before beginning.
_LOOK = (0.02, 0.2)
#: Seconds to leave it to another process, and seconds after which to look for one again.
_AWAY = (2.0, 6.0)
_ROUND = 5.0


class BackgroundRemoval:
    """The thread of one process that removes what has expired from one file. It ends when all is
    removed.
    """

    def __init__(self, removal: Removal) -> None:
        self._removal = removal
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._now = 0.0
        # Steps of the thread, in total and at the last look.
        self._steps = self._seen = 0

    def look(self, now: float) -> bool:
        """Remove a little, and begin to remove the rest, if there is any.

        :param now: the time of the caller's clock. What expires later is left to a later look.
        :returns: False if there is a rest, but the thread does not run, for example in uWSGI
            without ``--enable-threads``.
        """
        with self._lock:
            if self._closing.is_set():
                return True
            self._now = now
            if self._thread is None:
                is_done = not (self._remove_some() and self._removal.is_due(now, _KEPT_FREE))
                return is_done or self._begin()
            is_running = self._steps != self._seen
            self._seen = self._steps
        return is_running or not self._remove_some()

    def close(self) -> None:
        """Stop, after the current transaction."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _begin(self) -> bool:
        """Start the thread; False if there can be no more threads."""
        self._steps = self._seen = 0
        thread = threading.Thread(target=self._run, name="flask_agentuity-removal", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:
            self._thread = None
        return self._thread is not None

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                if not self._is_alone():
                    self._wait(random.uniform(*_AWAY))
                elif self._remove_for_some_time():
                    return
        except StoreError as error:
            # The next look tries again.
            logger.debug("Expired threads could not be removed now: %s", error)
        finally:
            with self._lock:
                self._thread = None

    def _is_alone(self) -> bool:
        """Return whether no other process removes threads from the file."""
        before = self._removal.mark(self._now)
        self._wait(random.uniform(*_LOOK))
        after = self._removal.mark(self._now)
        return after.first == before.first and after.pages >= before.pages

    def _remove_for_some_time(self) -> bool:
        """Remove some threads after the others; return whether nothing is left."""
        until = time.monotonic() + _ROUND
        while time.monotonic() < until and not self._closing.is_set():
            began = time.perf_counter()
            is_unfinished = self._remove_some()
            took = time.perf_counter() - began
            if self._steps % _CHECKPOINT == 0:
                self._removal.copy_log()
            if not is_unfinished:
                return True
            self._wait(max(_PAUSE, _PAUSES * took))
        return False

    def _remove_some(self) -> bool:
        """Do a little; return False if there was nothing to do."""
        removal, now = self._removal, self._now
        return bool(
            removal.remove_some(now)
            or removal.correct_some(now)
            or removal.free_some(_KEPT_FREE)
            or removal.has_remains(now)
        )

    def _wait(self, seconds: float) -> None:
        self._steps += 1
        self._closing.wait(seconds)
