"""A proxy in front of a server that counts round trips and can lose an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress


class CountingProxy:
    """Forwards connections to a port; a round trip is a turn from sending to answering."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.round_trips = 0
        #: Set: the next answer is not passed on, and its connection ends.
        self.lose_answer = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            asking = threading.Event()
            for arguments in ((client, server, asking, True), (server, client, asking, False)):
                thread = threading.Thread(target=self._forward, args=arguments)
                self._threads.append(thread)
                thread.start()

    def _forward(
        self, source: socket.socket, sink: socket.socket, asking: threading.Event, up: bool
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if up and not asking.is_set():
                    self.round_trips += 1
                    asking.set()
                elif not up:
                    asking.clear()
                    if self.lose_answer:
                        self.lose_answer = False
                        break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()


@contextmanager
def counting(target: int) -> Iterator[CountingProxy]:
    with closing(CountingProxy(target)) as proxy:
        yield proxy
