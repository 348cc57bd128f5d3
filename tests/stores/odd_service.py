"""A thread service that answers as a test says, and notes every frame that comes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

KEY = "the key of the tests"

#: What to send in answer to a request: frames, or none.
Answer = Callable[[dict[str, Any]], Iterable[str]]


class OddService:
    """Lets everybody in; what comes after that is *answer*'s to say."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        #: Every request as it came over the wire, in order.
        self.requests: list[dict[str, Any]] = []
        self._server = serve(self._serve, "127.0.0.1", 0, max_size=2**24)
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
            socket.send('{"success":true}')
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
    """Answers as a service does that stores documents just as they come.

    *known* are the actions it has heard of; about the others it says *words*.
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
                yield success(request)


def success(request: dict[str, Any], **more: Any) -> str:
    return json.dumps({"id": request["id"], "success": True, **more})


def failure(request: dict[str, Any], error: object) -> str:
    return json.dumps({"id": request["id"], "success": False, "error": error})
