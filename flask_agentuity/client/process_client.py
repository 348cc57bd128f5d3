"""The part of a client in one process: its queue, its I/O thread and its counts."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

from ..errors import ServiceUnavailable, StoreError
from .backoff import Backoff
from .connectivity import Connectivity, State
from .lifecycle import CLOSE_TIMEOUT, Lifecycle, Stage, closed_error
from .loop import Loop
from .outbox import Outbox
from .report import Count, Report
from .request import PendingRequest, Progress
from .settings import ClientSettings

clock = time.monotonic


class ProcessClient:
    """Takes requests from all threads of the process and passes them to the I/O thread.

    The first request starts the thread. Nothing here is shared with another process.
    """

    def __init__(self, settings: ClientSettings, owner: weakref.ref[Any]) -> None:
        """Close by itself when *owner* is no longer referenced."""
        self._settings = settings
        self._owner = owner
        self._lifecycle = Lifecycle()
        self._connectivity = Connectivity(
            Backoff(
                settings.reconnect_base,
                settings.reconnect_max,
                settings.refused_base,
                settings.refused_max,
            ),
            connect_timeout=settings.connect_timeout,
            grace=settings.grace,
            stable_after=settings.stable_after,
        )
        self._report = Report()
        self._outbox = Outbox(settings, self._report)
        self._starting = threading.Lock()
        self._loop: Loop | None = None
        self._thread: threading.Thread | None = None

    @property
    def connections(self) -> int:
        """How often the service accepted the key."""
        return self._report.connections

    @property
    def features(self) -> Mapping[str, int] | None:
        """What the service announced on the current connection. None without a connection."""
        status = self._connectivity.status
        is_ready = status.state is State.READY and self._lifecycle.stage is Stage.OPEN
        return status.features if is_ready else None

    @property
    def is_io_thread(self) -> bool:
        """Whether the caller runs in the I/O thread."""
        return self._thread is not None and self._thread.ident == threading.get_ident()

    def refusal(self) -> StoreError | None:
        """Return the error that a new request would get at once, and count it."""
        status = self._connectivity.status
        if status.error is None and self._lifecycle.stage is Stage.OPEN:
            return None
        error = self._lifecycle.refusal() or status.refusal(clock())
        if error is not None:
            self._report.count(Count.FAIL_FAST)
        return error

    def submit(self, request: PendingRequest) -> None:
        """Accept *request*, or set the reason for its refusal on its future."""
        error = self.refusal() or self._ensure_running()
        if error is None:
            error = self._outbox.accept(request, self._connectivity.status, clock())
        if error is not None:
            request.future.set_exception(error)
        elif self._loop is not None:
            self._loop.wake()

    def close(self, timeout: float) -> None:
        """Finish the accepted requests for at most *timeout* seconds, and disconnect."""
        self._lifecycle.close(clock(), timeout, min(timeout, CLOSE_TIMEOUT))
        with self._starting:
            loop = self._loop
            if loop is None:
                self._lifecycle.end()
                return
            if not self._is_running and self._lifecycle.stage is not Stage.CLOSED:
                loop.end()
        loop.wake()
        if not self.is_io_thread:
            loop.ended.wait(max(timeout, 0.0) + CLOSE_TIMEOUT + 1.0)

    def abandon(self) -> None:
        """Close the copies of the parent's files, in a process that was forked.

        Takes no lock, and does nothing that would reach the parent's connection.
        """
        if self._loop is not None:
            self._loop.abandon_copies()

    def stats(self) -> dict[str, Any]:
        """Return the current state, and counts since the first use in this process."""
        status, stage = self._connectivity.status, self._lifecycle.stage
        in_backoff = status.state is State.BACKOFF
        return {
            "state": status.state.value if stage is Stage.OPEN else _closing_state(stage),
            "error": type(status.error).__name__ if status.error is not None else None,
            "failures": self._connectivity.backoff.failures,
            "next_attempt_in": max(0.0, status.until - clock()) if in_backoff else None,
            "circuit_open": self._outbox.circuit_is_open,
            "pending": self._outbox.pending,
            "queued_bytes": self._outbox.waiting_bytes,
            **self._report.snapshot(),
        }

    @property
    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _ensure_running(self) -> StoreError | None:
        if self._is_running:
            return None
        with self._starting:
            if self._is_running:
                return None
            if self._lifecycle.stage is Stage.CLOSED:
                return closed_error()
            try:
                self._start()
            except (OSError, RuntimeError) as error:
                return ServiceUnavailable(f"The thread client cannot start its thread: {error}")
        return None

    def _start(self) -> None:
        if self._loop is None:
            self._loop = Loop(
                self._settings,
                self._owner,
                self._lifecycle,
                self._connectivity,
                self._outbox,
                self._report,
            )
        thread = threading.Thread(target=self._loop.run, name="flask-agentuity I/O", daemon=True)
        thread.start()
        self._thread = thread


def _closing_state(stage: Stage) -> str:
    return "closed" if stage is Stage.CLOSED else "closing"


def wait(request: PendingRequest) -> Any:
    """Return the result of *request*, waiting a little longer than its timeout.

    :raises StoreError: if there is none.
    """
    try:
        return request.future.result(max(0.0, request.deadline - clock()) + 1.0)
    except TimeoutError:
        raise _stuck(request) from None


def _stuck(request: PendingRequest) -> StoreError:
    if request.progress is Progress.QUEUED:
        return ServiceUnavailable(
            "The I/O thread of the thread client does not run (uWSGI needs enable-threads)."
        )
    return request.unanswered("the I/O thread of the thread client is stuck.")
