"""An app that streams what the tests say, and what the tests see of it."""

from __future__ import annotations

import queue
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from flask import Flask, Response, g, request
from support.visitor import visitor
from support.waiting import PATIENCE
from werkzeug.test import TestResponse

from flask_agentuity import ThreadManager
from flask_agentuity.testing import ThreadTestClient
from flask_agentuity.web.app_threads import threads_of
from flask_agentuity.web.runs.app_runs import AppRuns

_END = object()


class Answer:
    """A generator that yields what a test says, and saves it when it ends."""

    def __init__(self) -> None:
        self._items: queue.Queue[Any] = queue.Queue()
        self.said: list[Any] = []
        #: The exception that ended the generator early.
        self.ended_by: BaseException | None = None
        self.began = False
        #: How many items it has asked for.
        self.asked = 0

    def say(self, *items: Any) -> Answer:
        for item in items:
            self._items.put(item)
        return self

    def finish(self) -> Answer:
        return self.say(_END)

    def _next(self) -> Any:
        self.asked += 1
        return self._items.get(timeout=PATIENCE)

    def generate(self) -> Iterator[Any]:
        self.began = True
        state = g.thread.state
        try:
            while (item := self._next()) is not _END:
                if isinstance(item, BaseException):
                    raise item
                if callable(item):
                    item = item()
                self.said.append(item)
                yield item
        except BaseException as error:
            self.ended_by = error
            raise
        finally:
            state.push("messages", "".join(map(str, self.said)))


class Chat:
    """The app, and one visitor of it."""

    def __init__(self, **config: Any) -> None:
        app = Flask("chat")
        app.config.update({"SECRET_KEY": "x", "AGENTUITY_THREAD_STORE": "memory://", **config})
        app.test_client_class = ThreadTestClient
        self.app = app
        self.threads = threads = ThreadManager(app)
        app.register_blueprint(threads.blueprint, url_prefix="/chat")
        self.answers: dict[str, Answer | Callable[[], Any]] = {}
        self.client = visitor(app)

        @app.post("/chat")
        @threads.one_at_a_time(on_busy="reject")
        def chat() -> Response:
            g.thread.state.push("messages", request.args.get("text", "hello"))
            return self.stream()

        @app.get("/messages")
        def messages() -> list[Any]:
            return list(g.thread.state.get("messages", []))

    def stream(self) -> Response:
        answer = self.answers[request.args["answer"]]
        output = answer.generate() if isinstance(answer, Answer) else answer()
        return self.threads.stream(output, format=request.args.get("format", "text"))  # type: ignore[arg-type]

    @property
    def runs(self) -> AppRuns:
        return threads_of(self.app).runs

    def another_visitor(self) -> ThreadTestClient:
        return visitor(self.app)

    def ask(
        self,
        answer: Answer | Callable[[], Any] | None = None,
        format: str = "text",
        path: str = "/chat",
        client: ThreadTestClient | None = None,
    ) -> TestResponse:
        """Send a message, and return the response, whose body was not read."""
        name = f"answer{len(self.answers)}"
        self.answers[name] = answer or Answer().say("a", "b", "c").finish()
        query = {"answer": name, "format": format}
        return (client or self.client).post(path, query_string=query, buffered=False)

    def messages(self) -> Any:
        return self.client.get("/messages").json

    def status(self) -> str | None:
        response = self.client.get("/chat/status")
        return None if response.status_code == 204 else response.json["status"]  # type: ignore[index]


def events_of(data: bytes) -> list[dict[str, str]]:
    """Return the events of a stream, as the standard says that they are read."""
    events = []
    for block in data.decode().split("\n\n"):
        event: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name:
                value = value.removeprefix(" ")
                event[name] = f"{event[name]}\n{value}" if name in event else value
        if event:
            events.append(event)
    return events


async def spoken(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item
