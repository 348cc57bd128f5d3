"""A thread service on plain sockets. Each connection follows a script of the test."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

KEY = "key-of-the-tests"
THREAD = "thrd_" + "0" * 32


class Gone(Exception):
    """The client has left."""


class Peer:
    """One accepted connection."""

    def __init__(self, service: Service, accepted: socket.socket) -> None:
        self.service = service
        self.socket = accepted
        self.protocol = ServerProtocol(max_size=64 * 1024 * 1024)
        self._sending = threading.Lock()
        self._waiting: list[Any] = []

    def upgrade(self) -> None:
        while True:
            for event in self._events():
                self.protocol.send_response(self.protocol.accept(event))
                self._flush()
                return

    def frame(self) -> Frame:
        """Return the next frame that holds a message or a part of it."""
        while True:
            for event in self._events():
                assert isinstance(event, Frame)
                if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    return event
                if event.opcode is Opcode.CLOSE:
                    self.service.closes.append(bytes(event.data))
                    self._flush()
                    raise Gone
                self.service.controls.append(event.opcode)
                self._flush()

    def _events(self) -> Iterator[Any]:
        waiting = self._waiting
        while not waiting:
            data = self.socket.recv(262144)
            if not data:
                raise Gone
            self.protocol.receive_data(data)
            waiting.extend(self.protocol.events_received())
            if self.protocol.parser_exc or self.protocol.handshake_exc:
                raise Gone
        while waiting:
            yield waiting.pop(0)

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(bytes(self.frame().data))
        self.service.received.append(message)
        return message

    def send(self, message: Any) -> None:
        self.send_text(json.dumps(message, ensure_ascii=False).encode())

    def send_text(self, data: bytes) -> None:
        with self._sending:
            self.protocol.send_text(data)
            self._write(self.protocol.data_to_send())

    def raw(self, data: bytes) -> None:
        with self._sending:
            self.socket.sendall(data)

    def close(self, code: int, reason: str = "") -> None:
        self.protocol.send_close(code, reason)
        self._flush()

    def _flush(self) -> None:
        with self._sending:
            self._write(self.protocol.data_to_send())

    def _write(self, pieces: list[bytes]) -> None:
        for data in pieces:
            if data:
                self.socket.sendall(data)

    def authorize(self, **features: Any) -> None:
        """Upgrade, and accept the key; announce *features*."""
        self.upgrade()
        if self.receive().get("authorization") != self.service.key:
            self.send({"success": False, "error": "unknown key"})
            self.close(1008)
            raise Gone
        self.send({"success": True, **features})

    def answer(self, request: dict[str, Any], **more: Any) -> None:
        self.send({"id": request["id"], "success": True, **more})

    def serve(self) -> None:
        """Answer every request until the client leaves."""
        self.authorize()
        while True:
            self.handle(self.receive())

    def handle(self, request: dict[str, Any]) -> None:
        documents, data = self.service.documents, request["data"]
        thread_id = data["thread_id"]
        match request["action"]:
            case "restore":
                self.answer(request, data=documents.get(thread_id, ""))
            case "save":
                documents[thread_id] = data["user_data"]
                self.answer(request)
            case "delete":
                documents.pop(thread_id, None)
                self.answer(request)
            case "merge":
                self.service.merges.append(data)
                self.answer(request)

    def drain(self) -> None:
        """Read and ignore everything until the client leaves."""
        while self.socket.recv(262144):
            pass


Script = Callable[[Peer], object]


class Service:
    """Listens on loopback; connection number n follows script n, later ones the last."""

    def __init__(
        self,
        *scripts: Script,
        port: int = 0,
        context: ssl.SSLContext | None = None,
        key: str = KEY,
    ) -> None:
        self.scripts = scripts or (Peer.serve,)
        self.key = key
        self.documents: dict[str, str] = {}
        self.merges: list[dict[str, Any]] = []
        self.received: list[dict[str, Any]] = []
        self.closes: list[bytes] = []
        self.controls: list[Opcode] = []
        self.accepted = 0
        #: Unexpected exceptions of scripts.
        self.failures: list[BaseException] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        scheme = "wss" if context else "ws"
        host = "localhost" if context else "127.0.0.1"
        self.url = f"{scheme}://{host}:{self.port}"
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    accepted.close()
                    return
                script = self.scripts[min(self.accepted, len(self.scripts) - 1)]
                self.accepted += 1
                self._open.add(accepted)
            self._start(self._follow, script, accepted)

    def _follow(self, script: Script, accepted: socket.socket) -> None:
        plain = accepted
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                accepted = self._context.wrap_socket(accepted, server_side=True)
                with self._lock:
                    self._open.discard(plain)
                    self._open.add(accepted)
            script(Peer(self, accepted))
        except (Gone, OSError, EOFError, ValueError):
            pass
        except BaseException as error:
            self.failures.append(error)
        finally:
            with contextlib.suppress(OSError):
                accepted.shutdown(socket.SHUT_RDWR)
            accepted.close()
            with self._lock:
                self._open.discard(plain)
                self._open.discard(accepted)

    def drop(self) -> None:
        """Cut every open connection."""
        with self._lock:
            for opened in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(opened, socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(5)
        if self.failures:
            raise self.failures[0]


__all__ = ["KEY", "THREAD", "Gone", "Opcode", "Peer", "Script", "Service"]
