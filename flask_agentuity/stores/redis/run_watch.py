"""Waiting for changes of runs: one connection subscribes to the channels of all watched runs."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from ..runs import RunKey, RunWatch
from ..subjects import ALL_THREADS
from .calls import Caller
from .client import exceptions
from .failures import ERRORS

#: Seconds after which a caller looks even without a notification. Notifications are lost during a
#: failover, and a Redis user may not have the permission to send them.
_LONGEST_WAIT = 2.0
# Channels that are subscribed to with one command.
_MOST_AT_ONCE = 500


class RedisRunWatch(RunWatch):
    """Waits for notifications, on one connection.

    :param name_of: returns the key of a thread.
    """

    def __init__(self, caller: Caller, name_of: Callable[[str], bytes]) -> None:
        self._caller = caller
        self._name_of = name_of
        self._subscription: Any = None
        self._watched: set[RunKey] = set()
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)

    def wait(self, runs: Collection[RunKey], seconds: float) -> None:
        try:
            self._wait(set(runs), min(seconds, _LONGEST_WAIT))
        except (*ERRORS, OSError) as error:
            # The next call subscribes again, and returns at once.
            self._unsubscribe_all()
            thread_id = next((key.thread_id for key in runs), ALL_THREADS)
            raise self._caller.failure(b"", thread_id, error) from error

    def wake(self) -> None:
        # If the buffer is full, it was woken already.
        with suppress(BlockingIOError):
            self._wake.send(b"\0")

    def close(self) -> None:
        self._unsubscribe_all()
        self._woken.close()
        self._wake.close()

    def _wait(self, runs: set[RunKey], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        if not runs:
            # Without subscriptions redis-py would not notice that the connection is closed.
            self._unsubscribe_all()
        if gone := self._watched - runs:
            self._subscription.unsubscribe(*map(self._channel, gone))
            self._watched -= gone
        if added := runs - self._watched:
            self._subscribe(added)
            return
        while not (self._take_wakes() or self._take_messages()):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._poll(left)

    def _subscribe(self, runs: set[RunKey]) -> None:
        if self._subscription is None:
            self._subscription = self._caller.subscription()
        channels = list(map(self._channel, runs))
        for first in range(0, len(channels), _MOST_AT_ONCE):
            self._subscription.subscribe(*channels[first : first + _MOST_AT_ONCE])
        missing = len(channels)
        while missing:
            # Changes after the confirmation are notified.
            message = self._subscription.get_message(timeout=_LONGEST_WAIT)
            if message is None:
                raise TimeoutError("Redis did not confirm a subscription in time")
            missing -= message["type"] == "subscribe"
        self._watched |= runs

    def _take_wakes(self) -> bool:
        with suppress(BlockingIOError):
            return bool(self._woken.recv(4_096))
        return False

    def _take_messages(self) -> bool:
        """Read what was received; return whether it has a notification."""
        found = False
        while self._subscription is not None and (
            message := self._subscription.get_message(timeout=0)
        ):
            found = found or message["type"] == "message"
        return found

    def _poll(self, seconds: float) -> None:
        """Wait until there is something to read, or for *seconds*."""
        sockets = [self._woken]
        if self._subscription is not None:
            sockets.append(self._subscription.connection._sock)
            if sockets[-1] is None:
                raise exceptions.ConnectionError("the connection was closed")
        if hasattr(select, "poll"):
            poll = select.poll()
            for each in sockets:
                poll.register(each, select.POLLIN)
            poll.poll(math.ceil(seconds * 1000))
        else:
            # It cannot wait for a file descriptor above 1,023.
            select.select(sockets, (), (), seconds)

    def _unsubscribe_all(self) -> None:
        subscription, self._subscription = self._subscription, None
        self._watched.clear()
        if subscription is not None:
            with suppress(*ERRORS, OSError):
                subscription.close()

    def _channel(self, key: RunKey) -> bytes:
        return b"%b:run:%b" % (self._name_of(key.thread_id), key.run_id.encode())
