"""The log of a run in the process that runs it, and the base class of all logs."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

from ...stores.runs import Addition, NewRun, RunKey, RunStatus, RunStore, StoredRun

logger = logging.getLogger("flask_agentuity.runs")

#: How many bytes a reader is given at a time.
READ_BYTES = 65_536
#: How many bytes of a log stay in memory after they were stored; earlier ones are in the store.
_KEPT_BYTES = 262_144

#: Why a run has to end before its generator does. ``lost``: nothing of it may be saved.
Reason = Literal["stopped", "interrupted", "lost"]


class Log(ABC):
    """A run's log, as readers in this process see it."""

    key: RunKey
    format: str
    #: Whether readers who would come again are to go, because this process is about to end.
    is_cut = False

    @property
    @abstractmethod
    def length(self) -> int:
        """How many bytes can be read."""

    @property
    @abstractmethod
    def status(self) -> RunStatus | None:
        """The status of the run; None if it was deleted."""

    @abstractmethod
    def wait(self, after: int, seconds: float) -> None:
        """Wait until there are more than *after* bytes, the run has ended, or the time is over."""

    @abstractmethod
    def read(self, after: int) -> bytes:
        """Return bytes from this offset on, as many as are sent at a time.

        :raises StoreError: if they have to be fetched from the store, and that fails.
        """

    def close(self) -> None:  # noqa: B027 - the log of a run of this process needs nothing
        """End the reading."""


class LiveLog(Log):
    """The log of a run of this process.

    The generator's thread appends, readers read at once, and the writer of the process stores
    what was appended. The end is stored first, and then shown by :meth:`show_end`.
    """

    def __init__(
        self, new: NewRun, store: RunStore, max_bytes: int, end_turn: Callable[[], object]
    ) -> None:
        """Begin an empty log.

        :param end_turn: gives back the turn of the run, before its generator has ended.
        """
        self.end_turn = end_turn
        self.key, self.format = new.key, new.format
        self.new = new
        self.truncated = False
        #: Set when the end is stored, or cannot be.
        self.ended = threading.Event()
        self._store = store
        self._max_bytes = max_bytes
        self._changed = threading.Condition(threading.Lock())
        # The bytes from the offset `_base` on.
        self._data = bytearray()
        self._base = 0
        self._stored = 0
        self._closing: RunStatus | None = None
        self._status: RunStatus | None = "running"
        self._reason: Reason | None = None
        self._waiting = 0
        #: Called when the run is asked to end early.
        self.asked: Callable[[], object] | None = None

    @property
    def length(self) -> int:
        return self._base + len(self._data)

    @property
    def status(self) -> RunStatus | None:
        return self._status

    @property
    def reason(self) -> Reason | None:
        """Why the run has to end early; None while it may continue."""
        return self._reason

    def wait(self, after: int, seconds: float) -> None:
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(
                    lambda: self.length > after or self._status != "running", seconds
                )
            finally:
                self._waiting -= 1

    def read(self, after: int) -> bytes:
        with self._changed:
            base = self._base
            if after >= base:
                begin = after - base
                return bytes(memoryview(self._data)[begin : begin + READ_BYTES])
        return self._store.read(self.key, after, min(base - after, READ_BYTES))

    def ask(self, reason: Reason) -> bool:
        """Ask the run to end early; return whether that is the first time.

        ``lost`` replaces any other reason.
        """
        first = self._reason is None or (reason == "lost" and self._reason != "lost")
        if first:
            self._reason = reason
            if self.asked is not None:
                self.asked()
        return first

    def append(self, data: bytes, truncation: Callable[[int], bytes]) -> None:
        """Add what the generator has yielded.

        :param truncation: returns, for an offset, what is added instead if it is too much.
        """
        if self.truncated or self._closing is not None:
            return
        with self._changed:
            if self.length + len(data) > self._max_bytes:
                self.truncated = True
                data = truncation(self.length)
            self._data += data
            if self._waiting:
                self._changed.notify_all()

    def finish(self, data: bytes, status: RunStatus) -> None:
        """Add the last bytes. They and the status are stored together, then visible."""
        with self._changed:
            if self._closing is None:
                self._data += data
                self._closing = status

    @property
    def is_closing(self) -> bool:
        """Whether the run has ended here, and its end is being stored."""
        return self._closing is not None

    def addition(self) -> Addition | None:
        """Return the bytes to store; None if there are none."""
        with self._changed:
            if self._status != "running" or self.ended.is_set():
                return None
            data = bytes(memoryview(self._data)[self._stored - self._base :])
            if not data and self._closing is None:
                return None
            return Addition(self.key, self._stored, data, self._closing, self.truncated)

    def was_stored(self, addition: Addition) -> None:
        """Record that *addition* is stored."""
        with self._changed:
            self._stored = addition.at + len(addition.data)
            if addition.status is not None:
                self.ended.set()
            elif self._stored - self._base > 2 * _KEPT_BYTES:
                gone = self._stored - self._base - _KEPT_BYTES
                del self._data[:gone]
                self._base += gone

    def was_refused(self, status: RunStatus | None) -> None:
        """Record that the run was ended by another process, or deleted (None)."""
        self.ask("lost")
        # Nothing of it is saved, so the next message need not wait for the generator.
        self.end_turn()
        self._end(status)
        self.ended.set()

    def compare(self, stored: StoredRun | None) -> None:
        """Compare with what the store has: another process may have ended or stopped the run."""
        if self.is_closing:
            return
        if stored is None or not stored.is_running:
            self.was_refused(stored.status if stored else None)
        elif stored.stopping:
            self.ask("stopped")

    def cut_off(self, seconds: float) -> None:
        """End the run although its generator has not ended in the *seconds* that it had."""
        if not self.is_closing:
            logger.error(
                "Run %s of thread %s was cut off: its generator did not yield for %g s after the"
                " grace period. What it has changed is not saved.",
                self.key.run_id,
                self.key.thread_id,
                seconds,
                extra={"thread_id": self.key.thread_id},
            )
        self.ask("lost")
        self.finish(b"", "interrupted")

    def show_end(self) -> None:
        """Show readers that the run has ended."""
        self._end(self._closing)

    def _end(self, status: RunStatus | None) -> None:
        with self._changed:
            if self._status == "running":
                self._status = status
                self._changed.notify_all()
