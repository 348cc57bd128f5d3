"""A client that behaves as the JavaScript runtime does: it restores, changes and saves all.

Several of its requests share one connection, as in a JavaScript server.
"""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from .peers import KEY, PATIENCE, THREAD


class Runtime:
    """One process of the runtime, with its one connection."""

    def __init__(self, url: str, key: str = KEY) -> None:
        self._open = ExitStack()
        self._socket = self._open.enter_context(connect(url, compression=None, max_size=2**26))
        self._socket.send(json.dumps({"authorization": key}))
        assert json.loads(self._socket.recv(timeout=PATIENCE))["success"] is True
        self._waiting: dict[str, Future[dict[str, Any]]] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            for frame in self._socket:
                reply = json.loads(frame)
                self._waiting.pop(reply["id"]).set_result(reply)
        except ConnectionClosed:
            pass

    def call(self, action: str, thread_id: str = THREAD, **data: Any) -> dict[str, Any]:
        """Send a request, and return its reply."""
        id, future = str(uuid.uuid4()), Future[dict[str, Any]]()
        self._waiting[id] = future
        self._socket.send(
            json.dumps({"id": id, "action": action, "data": {"thread_id": thread_id, **data}})
        )
        return future.result(PATIENCE)

    def begin(self, thread_id: str = THREAD) -> Request:
        """Return a request that has restored its thread."""
        return Request(self, thread_id)

    def close(self) -> None:
        self._open.close()
        self._reader.join()


class Request:
    """What one request of an agent has in memory."""

    def __init__(self, runtime: Runtime, thread_id: str) -> None:
        self._runtime, self._thread_id = runtime, thread_id
        reply = runtime.call("restore", thread_id)
        assert reply["success"] is True, reply
        document = json.loads(reply["data"] or "{}")
        self.state: dict[str, Any] = document.get("state", {})
        self.metadata: dict[str, Any] = document.get("metadata", {})

    def try_save(self, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
        """Save all of the state, as JSON.stringify spells it, and return the reply."""
        document: dict[str, Any] = {"state": self.state} if self.state else {}
        text = json.dumps(spelled(document), separators=(",", ":")) if document else ""
        more = {} if metadata is None else {"metadata": metadata}
        return self._runtime.call("save", self._thread_id, user_data=text, **more)

    def save(self, metadata: dict[str, Any] | None = None) -> None:
        reply = self.try_save(metadata)
        assert reply["success"] is True, reply


def spelled(value: Any) -> Any:
    """Return *value* as JavaScript has it: numbers without a fraction are integers."""
    if isinstance(value, dict):
        keys = sorted((key for key in value if key.isdecimal()), key=int)
        keys += [key for key in value if not key.isdecimal()]
        return {key: spelled(value[key]) for key in keys}
    if isinstance(value, list):
        return [spelled(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
