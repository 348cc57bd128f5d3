"""A thread service that answers as a test says, and notes every frame that comes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operation_json import operation_from_json

KEY = "the key of the tests"

#: Returns the frames to send in answer to a request.
Answer = Callable[[dict[str, Any]], Iterable[str]]


class OddService:
    """Accepts every key and announces :attr:`features`; *answer* decides about everything else."""

    def __init__(self, answer: Answer, port: int = 0) -> None:
        self.answer = answer
        self.features: dict[str, int] = {}
        #: Every request as it came over the wire, in order.
        self.requests: list[dict[str, Any]] = []
        self._server = serve(self._serve, "127.0.0.1", port, max_size=2**24)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/thread/ws"
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def actions(self) -> list[str]:
        """What was asked for since this was last looked at."""
        requests, self.requests = self.requests, []
        return [request["action"] for request in requests]

    def _serve(self, socket: ServerConnection) -> None:
        try:
            socket.recv()
            socket.send(json.dumps({"success": True, **self.features}))
            for frame in socket:
                request = json.loads(frame)
                self.requests.append(request)
                for answer in self.answer(request):
                    socket.send(answer)
        except ConnectionClosed:
            pass

    def __enter__(self) -> OddService:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()


class Documents:
    """Answers as a service without edits: it stores documents just as they come.

    *known* are the actions that it has; the error for the others is *words*.
    """

    def __init__(
        self,
        *known: str,
        words: object = "Unknown action",
    ) -> None:
        self.known = known or ("restore", "save", "delete")
        self.words = words
        self.stored: dict[str, str] = {}

    def __call__(self, request: dict[str, Any]) -> Iterable[str]:
        data = request["data"]
        match request["action"]:
            case action if action not in self.known:
                yield failure(request, self.words)
            case "restore":
                yield success(request, data=self.stored.get(data["thread_id"]))
            case "save":
                self.stored[data["thread_id"]] = data["user_data"]
                yield success(request)
            case "delete":
                self.stored.pop(data["thread_id"], None)
                yield success(request)
            case "merge":
                self.stored[data["thread_id"]] = self._merged(data)
                yield success(request)

    def _merged(self, data: dict[str, Any]) -> str:
        snapshot = codec.split_document(self.stored.get(data["thread_id"]), data["thread_id"])
        snapshot = snapshot or Snapshot({})
        state = {key: value for key, value in snapshot.encoded.items() if value is not None}
        read = [operation_from_json(each) for each in data["operations"]]
        apply_operations(state, [each for each in read if each is not None])
        metadata = codec.encode(data["metadata"]) if "metadata" in data else snapshot.metadata
        return codec.join_document(state, metadata).decode()


def success(request: dict[str, Any], **more: Any) -> str:
    return json.dumps({"id": request["id"], "success": True, **more})


def failure(request: dict[str, Any], error: object) -> str:
    return json.dumps({"id": request["id"], "success": False, "error": error})
