"""The states of a client, and what a caller gets in each. Pure: it is told the time."""

from __future__ import annotations

import enum

from ..errors import AuthenticationFailed, ServiceUnavailable, StoreError
from .backoff import Backoff

#: A connection has proved healthy when it lived this many seconds, or brought an answer.
HEALTHY_AFTER = 1.0


class State(enum.Enum):
    """Where the connection stands."""

    IDLE = "idle"
    CONNECTING = "connecting"
    AUTHORIZING = "authorizing"
    READY = "ready"
    BACKOFF = "backoff"
    CLOSED = "closed"


class Lifecycle:
    """From the first use to the close: connect, be let in, be lost, wait, connect again."""

    def __init__(
        self, backoff: Backoff, *, connect_timeout: float, grace: float, stable_after: float
    ) -> None:
        """All times are in seconds."""
        self.state = State.IDLE
        #: Why there is no connection; None before the first attempt ended, and while there is one.
        self.error: StoreError | None = None
        #: When the state ends by itself: an attempt's deadline, or the next attempt.
        self.until = 0.0
        #: Until when a caller waits for a connection that was lost.
        self.grace_until = 0.0
        self.backoff = backoff
        self._connect_timeout = connect_timeout
        self._grace = grace
        self._stable_after = stable_after
        self._ready_since = 0.0

    def connect(self, now: float) -> None:
        """An attempt begins; it has until :attr:`until` for everything."""
        self.state = State.CONNECTING
        self.until = now + self._connect_timeout

    def connected(self) -> None:
        """The socket is open; the key is on its way. The deadline stays."""
        self.state = State.AUTHORIZING

    def granted(self, now: float) -> None:
        """The service let us in."""
        self.state = State.READY
        self.error = None
        self._ready_since = now

    def lost(
        self,
        now: float,
        error: StoreError,
        *,
        refused: bool = False,
        retry_after: float | None = None,
        answered: bool = False,
    ) -> None:
        """The connection, or the attempt at one, came to an end.

        *refused*: trying again soon will not mend it. *answered*: a request was answered
        over it.
        """
        if self.state is State.READY:
            lived = now - self._ready_since
            if lived >= self._stable_after:
                self.backoff.reset()
            if answered or lived >= HEALTHY_AFTER:
                self.grace_until = now + self._grace
        if refused:
            self.grace_until = now
        self.state = State.BACKOFF
        self.error = error
        # Inside the grace callers wait: a few attempts must fit into it.
        limit = self._grace / 4 if now < self.grace_until else None
        self.until = now + self.backoff.delay(refused=refused, retry_after=retry_after, limit=limit)

    def postpone(self, now: float) -> None:
        """Wait once more without an attempt."""
        self.until = now + self.backoff.delay()

    def close(self) -> None:
        """The end."""
        self.state = State.CLOSED
        self.error = ServiceUnavailable("The client of the thread service is closed.")

    def may_wait(self, now: float) -> bool:
        """Say whether a request may wait for a connection that is not there."""
        if self.state is State.CLOSED:
            return False
        return self.error is None or now < self.grace_until

    def refusal(self, now: float) -> StoreError | None:
        """Return the error that a request gets at once; None when it may go or wait."""
        if self.state is State.READY or self.may_wait(now):
            return None
        error = self.error
        if error is None:  # pragma: no cover - may_wait() says True without an error
            return None
        if self.state is State.CLOSED or isinstance(error, AuthenticationFailed):
            return type(error)(*error.args)
        seconds = max(0.0, self.until - now)
        what = (
            f"the next attempt is in {seconds:.1f} s"
            if self.state is State.BACKOFF
            else "another attempt is under way"
        )
        return ServiceUnavailable(f"{error} Nothing was sent; {what}.")
