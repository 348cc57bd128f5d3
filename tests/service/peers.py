"""A client that does what a test says, also what no good client does; and a store that waits."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from flask_agentuity.document.operations import Operation
from flask_agentuity.stores.memory import MemoryStore

KEY = "the key of the tests"
THREAD = "thrd_" + "0" * 32

#: The answer to a good key.
AUTHORIZED = {"success": True, "edits": 1}

#: Seconds after which a test gives up, not what anything takes.
PATIENCE = 20.0


class Peer:
    """One connection to a service."""

    def __init__(self, url: str, **options: Any) -> None:
        self._open = ExitStack()
        self.socket = self._open.enter_context(
            connect(url, compression=None, max_size=2**26, **options)
        )

    def authorize(self, key: str) -> Any:
        self.send({"authorization": key})
        return self.receive()

    def send(self, message: Any) -> None:
        self.socket.send(json.dumps(message))

    def raw(self, frame: str | bytes) -> None:
        self.socket.send(frame)

    def receive(self) -> Any:
        frame = self.socket.recv(timeout=PATIENCE)
        assert isinstance(frame, str), "a service sends text frames only"
        return json.loads(frame)

    def ask(self, action: str, thread_id: str = THREAD, **data: Any) -> str:
        """Send a request and return its id."""
        id = str(uuid.uuid4())
        self.send({"id": id, "action": action, "data": {"thread_id": thread_id, **data}})
        return id

    def call(self, action: str, thread_id: str = THREAD, **data: Any) -> Any:
        """Send a request and return its reply, without the id."""
        id = self.ask(action, thread_id, **data)
        reply = self.receive()
        assert reply.pop("id") == id
        return reply

    def restore(self, thread_id: str = THREAD) -> str:
        reply = self.call("restore", thread_id)
        assert reply.pop("success") is True, reply
        data = reply.pop("data")
        assert isinstance(data, str)
        assert not reply.keys() - {"version"}
        return data

    def closed_with(self) -> tuple[int | None, str]:
        """Wait for the service to close the connection, and return how it did."""
        try:
            while True:
                self.socket.recv(timeout=PATIENCE)
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "")

    def close(self) -> None:
        self._open.close()


class HeldStore(MemoryStore):
    """A store whose calls for threads with "held" in their id wait until :attr:`go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.held = threading.Semaphore(0)

    def _hold(self, thread_id: str) -> None:
        if "held" in thread_id:
            self.held.release()
            assert self.go.wait(PATIENCE)

    def restore(self, thread_id: str) -> bytes | None:
        self._hold(thread_id)
        return super().restore(thread_id)

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._hold(thread_id)
        super().merge(thread_id, operations, metadata)
