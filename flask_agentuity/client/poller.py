"""Waits for the socket, for a time, or for another thread that wakes it."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable

# Made once, because each wake-up uses it twice.
_WOULD_BLOCK = contextlib.suppress(OSError)


class Poller:
    """A selector for one socket, and a way to wake its thread.

    Only :meth:`wake` may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sleeping = False
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ)

    def wait(self, timeout: Callable[[], float]) -> bool:
        """Wait, and return whether the socket is readable.

        *timeout* returns the seconds to wait. Work that another thread adds after *timeout* has
        looked for it comes with a wake-up.
        """
        self._sleeping = True
        seconds = timeout()
        if seconds <= 0:
            self._sleeping = False
        readable = False
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._wake_in:
                with _WOULD_BLOCK:
                    self._wake_in.recv(4096)
            else:
                readable = True
        self._sleeping = False
        return readable

    def wake(self) -> None:
        """End the current :meth:`wait`."""
        if not self._sleeping:
            return
        # The lock keeps close() from releasing the file number while it is being used.
        with self._lock:
            if self._sleeping:
                self._sleeping = False
                with _WOULD_BLOCK:
                    self._wake_out.send(b"\0")

    def add(self, opened: socket.socket) -> None:
        """Watch a socket for input."""
        self._selector.register(opened, selectors.EVENT_READ)

    def watch_output(self, opened: socket.socket, wanted: bool) -> None:
        """Watch for the time when *opened* takes output again, or stop watching for that."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        self._selector.modify(opened, events)

    def remove(self, opened: socket.socket) -> None:
        """Stop watching a socket that is still open."""
        self._selector.unregister(opened)

    def close(self) -> None:
        """Close the files. Later calls of :meth:`wake` do nothing."""
        with self._lock:
            self.close_copies()

    def close_copies(self) -> None:
        """Close a forked child's copies of the files, without affecting the parent's."""
        self._sleeping = False
        for opened in (self._selector, self._wake_in, self._wake_out):
            opened.close()
