"""The state of the connection to the service, and what callers get in each state.

Deterministic: every method is told the time.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..errors import AuthenticationFailed, ServiceUnavailable, StoreError
from .backoff import Backoff

#: A connection has proved healthy if it lasted this many seconds or a request was answered.
HEALTHY_AFTER = 1.0


class State(enum.Enum):
    """What is happening to the connection."""

    IDLE = "idle"
    CONNECTING = "connecting"
    AUTHORIZING = "authorizing"
    READY = "ready"
    BACKOFF = "backoff"


@dataclass(frozen=True, slots=True)
class Status:
    """A consistent view of the connection for all threads.

    ``error``: why there is no connection. None while there is one, and before the first
    attempt has ended. ``until``: when an attempt expires or the next one begins.
    ``grace_until``: until then, requests wait for a new connection. ``features``: what the
    service announced on the connection.
    """

    state: State = State.IDLE
    error: StoreError | None = None
    until: float = math.inf
    grace_until: float = -math.inf
    features: Mapping[str, int] = field(default_factory=dict)

    def may_wait(self, now: float) -> bool:
        """Return whether a request may wait for a connection."""
        return self.error is None or now < self.grace_until

    def refusal(self, now: float) -> StoreError | None:
        """Return the error for a new request, or None if it can be sent or may wait."""
        error = self.error
        if error is None or self.may_wait(now):
            return None
        if isinstance(error, AuthenticationFailed):
            return AuthenticationFailed(*error.args)
        if self.state is State.BACKOFF:
            attempt = f"the next attempt is in {max(0.0, self.until - now):.1f} s"
        else:
            attempt = "another attempt is in progress"
        return ServiceUnavailable(f"{error} Nothing was sent; {attempt}.")

    def due(self, *, waiting: bool) -> float:
        """Return when something is due. *waiting*: whether requests wait for a connection."""
        if waiting and self.error is not None:
            return min(self.until, self.grace_until)
        return self.until


class Connectivity:
    """Connect, be authorized, lose the connection, wait, connect again.

    Only the I/O thread calls the methods. Each replaces :attr:`status` as a whole, so other
    threads can read it without a lock.
    """

    def __init__(
        self, backoff: Backoff, *, connect_timeout: float, grace: float, stable_after: float
    ) -> None:
        """All times are in seconds."""
        self.status = Status()
        self.backoff = backoff
        self._connect_timeout = connect_timeout
        self._grace = grace
        self._stable_after = stable_after
        self._ready_since = 0.0
        self._outage_since: float | None = None

    @property
    def state(self) -> State:
        """The current state."""
        return self.status.state

    def connect(self, now: float) -> None:
        """Begin an attempt. It must be authorized before :attr:`Status.until`."""
        self.status = replace(
            self.status, state=State.CONNECTING, until=now + self._connect_timeout
        )

    def connected(self) -> None:
        """The WebSocket is open and the key is being sent. The deadline stays."""
        self.status = replace(self.status, state=State.AUTHORIZING)

    def authorized(self, now: float, features: Mapping[str, int]) -> None:
        """The service accepted the key and announced *features*."""
        self._ready_since = now
        self.status = Status(State.READY, grace_until=self.status.grace_until, features=features)

    def lost(
        self,
        now: float,
        error: StoreError,
        *,
        refused: bool = False,
        retry_after: float | None = None,
        answered: bool = False,
    ) -> None:
        """The connection or the attempt ended.

        *refused*: an immediate retry cannot help. *retry_after*: the seconds that the service
        asked to wait. *answered*: the connection had carried a reply.
        """
        grace_until = self.status.grace_until
        if self.state is State.READY:
            lasted = now - self._ready_since
            if lasted >= self._stable_after:
                self.backoff.reset()
            if answered or lasted >= HEALTHY_AFTER:
                self._outage_since = now
                grace_until = now + self._grace
        if refused:
            delay = self.backoff.refused_delay(retry_after)
            grace_until = now
        elif now < grace_until:
            # Several attempts must fit into the time for which callers wait.
            delay = self.backoff.short_delay(self._grace / 4, retry_after)
        else:
            delay = self.backoff.delay(self._outage(now), retry_after)
        self.status = Status(State.BACKOFF, error, now + delay, grace_until)

    def postpone(self, now: float) -> None:
        """Wait once more without an attempt."""
        delay = self.backoff.delay(self._outage(now))
        self.status = replace(self.status, until=now + delay)

    def _outage(self, now: float) -> float:
        if self._outage_since is None:
            self._outage_since = now
        return now - self._outage_since
