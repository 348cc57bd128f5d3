"""The reports of a process that wait to be sent: a bounded number of a bounded size."""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from typing import Literal, NamedTuple

clock = time.monotonic

# What a message takes besides its text, roughly, in bytes.
_OVERHEAD = 512


class Stage(enum.Enum):
    """How far the report of one session has come."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    LOST = "lost"


class Report:
    """The report of one session. Its end is sent only if its start was accepted."""

    __slots__ = ("stage",)

    def __init__(self) -> None:
        self.stage = Stage.WAITING


class Message(NamedTuple):
    """One of the two messages of a report, encoded: what waits is not work for the garbage
    collector then.
    """

    report: Report
    method: Literal["POST", "PUT"]
    body: bytes


class MessageQueue:
    """Passes messages from all threads of a process to one that sends them."""

    def __init__(self, max_messages: int, max_bytes: int, interval: float) -> None:
        """Begin empty.

        :param interval: seconds between two looks of the sending thread into an empty queue. A
            request does not wake it, because it would then work beside the request, unless
            the queue is half full.
        """
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._interval = interval
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # When it ends; None while it is open.
        self._ends: float | None = None

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._messages)

    def put(self, message: Message) -> bool:
        """Add a message. Return False if there is no room for it, or the queue is closed."""
        # A request does this twice: entering the condition takes two calls more than its lock.
        with self._lock:
            size = self._bytes + len(message.body) + _OVERHEAD
            waiting = len(self._messages) + 1
            if size > self._max_bytes or waiting > self._max_messages or self._ends is not None:
                return False
            self._messages.append(message)
            self._bytes = size
            if 2 * waiting == self._max_messages:
                self._changed.notify_all()
            return True

    def take(self) -> Message | None:
        """Wait for a message and return it. Return None when the queue has ended."""
        with self._changed:
            while True:
                if self._ends is not None and (not self._messages or clock() >= self._ends):
                    return None
                if self._messages:
                    message = self._messages.popleft()
                    self._bytes -= len(message.body) + _OVERHEAD
                    return message
                self._changed.wait(self._interval)

    def pause(self, seconds: float) -> bool:
        """Wait, unless the queue is closed. Return whether it is still open."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._ends is not None, seconds)

    def close(self, timeout: float) -> None:
        """Accept nothing more. What waits can be taken for at most *timeout* seconds."""
        with self._changed:
            if self._ends is None:
                self._ends = clock() + timeout
                self._changed.notify_all()
