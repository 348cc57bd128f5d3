"""The life of a client in one process: open, closing, closed."""

from __future__ import annotations

import enum
import math
import threading

from ..errors import ServiceUnavailable, StoreError

#: Seconds to wait for the other end's reply to a close frame.
CLOSE_TIMEOUT = 0.5


class Stage(enum.Enum):
    """How far a client is from its end.

    ``CLOSING``: no new requests are accepted, accepted ones are still sent and answered.
    ``LEAVING``: the close frame was sent and the other end's is awaited.
    """

    OPEN = "open"
    CLOSING = "closing"
    LEAVING = "leaving"
    CLOSED = "closed"


class Lifecycle:
    """Moves from stage to stage, never back. Any thread may begin the closing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leave_timeout = 0.0
        self.stage = Stage.OPEN
        #: When the stage ends by itself, on the monotonic clock.
        self.deadline = math.inf

    def close(self, now: float, timeout: float, leave_timeout: float) -> None:
        """Begin to close. Accepted requests have *timeout* seconds to finish.

        The other end then has *leave_timeout* seconds to reply to the close frame.
        """
        with self._lock:
            if self.stage is Stage.OPEN:
                self.deadline = now + timeout
                self._leave_timeout = leave_timeout
                self.stage = Stage.CLOSING

    def leave(self, now: float) -> None:
        """Record that the close frame is sent."""
        with self._lock:
            self.deadline = now + self._leave_timeout
            self.stage = Stage.LEAVING

    def end(self) -> None:
        """Record that the client is closed."""
        with self._lock:
            self.deadline = math.inf
            self.stage = Stage.CLOSED

    def refusal(self) -> StoreError | None:
        """Return the error for a new request, or None if the client is open."""
        return None if self.stage is Stage.OPEN else closed_error()


def closed_error() -> StoreError:
    """Return the error for a request to a closed client."""
    return ServiceUnavailable("The thread client is closed.")
