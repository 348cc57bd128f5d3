"""Callbacks of the application, run where they can block nobody."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger("flask_agentuity.client")

#: How many may wait behind one that does not come back; more are dropped with a warning.
LONGEST_QUEUE = 100


class Notices:
    """Runs callbacks one after another in a thread of its own, which the first one starts."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def give(self, callback: Callable[[], object]) -> None:
        """Have *callback* run soon. Only the I/O thread may call this."""
        if self._waiting.qsize() >= LONGEST_QUEUE:
            logger.warning("A callback of the thread client does not come back; one was dropped.")
            return
        self._waiting.put(callback)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="flask-agentuity notices", daemon=True
            )
            self._thread.start()

    def end(self) -> None:
        """Let the thread end after what waits; it is not waited for."""
        if self._thread is not None:
            self._waiting.put(None)

    def _run(self) -> None:
        while (callback := self._waiting.get()) is not None:
            try:
                callback()
            except Exception:
                logger.exception("A callback of the thread client failed.")
