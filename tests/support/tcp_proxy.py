"""A TCP proxy on loopback that can delay, hold, cut and reset connections."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Literal

Direction = Literal["up", "down"]


class Proxy:
    """Forwards connections to a port; *up* is towards it, *down* is back to the client."""

    def __init__(self, target: int) -> None:
        self.target = target
        #: Seconds by which each piece is delayed.
        self.delay = 0.0
        #: The number of accepted connections.
        self.accepted = 0
        #: The number of forwarded bytes.
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        #: All forwarded bytes.
        self.seen: dict[Direction, bytearray] = {"up": bytearray(), "down": bytearray()}
        self._cut: dict[Direction, int | None] = {"up": None, "down": None}
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"
        self._start(self._accept)

    def cut_after(self, count: int, direction: Direction = "up") -> None:
        """Cut the connection after *count* more bytes. The rest is lost."""
        with self._lock:
            self._cut[direction] = self.passed[direction] + count

    def hold(self) -> None:
        """Forward nothing and leave the connections open, like a pulled cable."""
        self._open.clear()

    def release(self) -> None:
        """Forward again, beginning with what was held."""
        self._open.set()

    def drop(self, *, reset: bool = False) -> None:
        """Cut all connections, with a reset (RST) if *reset* is true."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self._end(pair, reset=reset)

    def close(self) -> None:
        self._closed = True
        self._open.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                service = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            pair = (client, service)
            for each in pair:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append(pair)
            left = [2]
            self._start(self._pump, pair, client, service, "up", left)
            self._start(self._pump, pair, service, client, "down", left)

    def _pump(
        self,
        pair: tuple[socket.socket, socket.socket],
        source: socket.socket,
        sink: socket.socket,
        direction: Direction,
        left: list[int],
    ) -> None:
        try:
            while data := source.recv(65536):
                if self.delay:
                    time.sleep(self.delay)
                self._open.wait()
                with self._lock:
                    cut = self._cut[direction]
                    room = None if cut is None else cut - self.passed[direction]
                    piece = data if room is None else data[:room]
                    self.passed[direction] += len(piece)
                    self.seen[direction] += piece
                    if room is not None and room <= len(data):
                        self._cut[direction] = None
                sink.sendall(piece)
                if room is not None and room <= len(data):
                    break
        except OSError:
            pass
        with self._lock:
            known = pair in self._pairs
        if known:
            self._end(pair, reset=False)
        with self._lock:
            left[0] -= 1
            last = left[0] == 0
            if last and pair in self._pairs:
                self._pairs.remove(pair)
        if last:
            for each in pair:
                each.close()

    @staticmethod
    def _end(pair: tuple[socket.socket, socket.socket], *, reset: bool) -> None:
        for each in pair:
            with contextlib.suppress(OSError):
                if reset:
                    # This wakes the pump, whose close then sends a reset.
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    each.shutdown(socket.SHUT_RD)
                else:
                    each.shutdown(socket.SHUT_RDWR)
