"""Runs the application's callbacks outside the I/O thread."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger("flask_agentuity.client")

#: How many callbacks may wait behind one that blocks. More are dropped with a warning.
MAX_WAITING = 100


class CallbackRunner:
    """Runs callbacks one after another in a thread that the first callback starts."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def submit(self, callback: Callable[[], object]) -> None:
        """Run *callback* soon. Only the I/O thread may call this."""
        if self._waiting.qsize() >= MAX_WAITING:
            logger.warning("A callback of the thread client blocks; a later one was dropped.")
            return
        self._waiting.put(callback)
        if self._thread is None:
            thread = threading.Thread(
                target=self._run, name="flask-agentuity callbacks", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                logger.warning("A callback of the thread client cannot run: %s", error)
                return
            self._thread = thread

    def close(self) -> None:
        """End the thread after the waiting callbacks, without waiting for it."""
        if self._thread is not None:
            self._waiting.put(None)

    def _run(self) -> None:
        while (callback := self._waiting.get()) is not None:
            try:
                callback()
            except Exception:
                logger.exception("A callback of the thread client raised an exception.")
