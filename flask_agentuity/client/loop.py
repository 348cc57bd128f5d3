"""The I/O thread: it owns the connection and sends what callers submit.

A loop belongs to one process. After a fork the child abandons it and makes a new one.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import weakref
from typing import Any, assert_never

from ..errors import ServiceUnavailable
from .address import connection_warnings
from .connection_manager import ConnectionManager
from .connectivity import Connectivity, State
from .lifecycle import CLOSE_TIMEOUT, Lifecycle, Stage
from .link import ConnectionLost
from .outbox import Outbox
from .poller import Poller
from .report import Count, LossReason, Report
from .settings import ClientSettings

logger = logging.getLogger("flask_agentuity.client")

#: Seconds after which the timers are checked, however busy the connection is.
TIMER_INTERVAL = 0.05

clock = time.monotonic


class Loop:
    """Connects, sends and receives in one thread, until the client is closed.

    Only :meth:`wake` may be called from other threads, except where a method says otherwise.
    """

    def __init__(
        self,
        settings: ClientSettings,
        owner: weakref.ref[Any],
        lifecycle: Lifecycle,
        connectivity: Connectivity,
        outbox: Outbox,
        report: Report,
    ) -> None:
        """Close by itself when *owner* is no longer referenced.

        :raises OSError: if the process has too many open files.
        """
        #: Set at the very end.
        self.ended = threading.Event()
        self._settings = settings
        self._owner = owner
        self._lifecycle = lifecycle
        self._connectivity = connectivity
        self._outbox = outbox
        self._report = report
        self._poller = Poller()
        self._manager = ConnectionManager(
            settings, lifecycle, connectivity, outbox, report, self._poller
        )
        self._timers_due = 0.0

    def wake(self) -> None:
        """Make the loop look for new work. Any thread may call this."""
        self._poller.wake()

    def run(self) -> None:
        """Run until the client is closed."""
        for warning in connection_warnings(os.environ, self._settings.address):
            logger.warning("The connection to the thread service: %s", warning)
        while True:
            try:
                if not self.run_once():
                    break
            except Exception:
                logger.exception("The I/O thread of the thread client failed; reconnecting.")
                self._report.count(Count.IO_CRASHES)
                error = ServiceUnavailable("Internal error in the thread client.")
                self._manager.lose(ConnectionLost(error, LossReason.CRASH), clock())
                # An exception in every iteration must not occupy a core.
                time.sleep(TIMER_INTERVAL)
        self.end()

    def run_once(self) -> bool:
        """Wait for work and do it. Return False when the client is to be closed."""
        readable = self._poller.wait(self._timeout)
        now = clock()
        try:
            self._manager.receive(readable, now)
            self._check_timers(now)
            self._manager.send(now)
        except ConnectionLost as lost:
            self._manager.lose(lost, now)
        return self._lifecycle.stage is Stage.OPEN or not self._is_over(now)

    def end(self) -> None:
        """Close everything and finish all requests.

        The client calls this if the thread does not run.
        """
        self._lifecycle.end()
        self._manager.end(clock())
        self._poller.close()
        self.ended.set()

    def abandon_copies(self) -> None:
        """Close a forked child's copies of the files, without affecting the parent's.

        Takes no lock: a thread of the parent may have held it during the fork.
        """
        self._manager.abandon_copies()
        self._poller.close_copies()

    def _timeout(self) -> float:
        if self._manager.has_work():
            return 0.0
        if self._lifecycle.stage is not Stage.OPEN and self._is_closing_due():
            return 0.0
        due, now = min(self._manager.due(), self._lifecycle.deadline), clock()
        if due == math.inf:
            due = now + self._settings.ping_interval
        if due < self._timers_due:
            self._timers_due = due
        return max(0.0, due - now)

    def _is_closing_due(self) -> bool:
        stage = self._lifecycle.stage
        match stage:
            case Stage.OPEN:
                return False
            case Stage.CLOSING:
                return not self._outbox.pending and self._manager.can_leave()
            case Stage.LEAVING:
                return not self._manager.is_connected
            case Stage.CLOSED:
                return True
            case _:
                assert_never(stage)

    def _check_timers(self, now: float) -> None:
        if now < self._timers_due and self._connectivity.status.state is State.READY:
            return
        self._timers_due = now + TIMER_INTERVAL
        if self._owner() is None:
            self._lifecycle.close(now, 0.0, CLOSE_TIMEOUT)
        self._manager.check_timers(now)

    def _is_over(self, now: float) -> bool:
        lifecycle = self._lifecycle
        stage = lifecycle.stage
        match stage:
            case Stage.OPEN:
                return False
            case Stage.CLOSING:
                if self._outbox.pending and now < lifecycle.deadline:
                    return False
                return not self._leave(now)
            case Stage.LEAVING:
                return not self._manager.is_connected or now >= lifecycle.deadline
            case Stage.CLOSED:
                return True
            case _:
                assert_never(stage)

    def _leave(self, now: float) -> bool:
        """Send a close frame. Return whether the other end's is awaited."""
        try:
            self._manager.leave(now)
        except ConnectionLost as lost:
            self._manager.lose(lost, now)
        return self._lifecycle.stage is Stage.LEAVING and self._manager.is_connected
