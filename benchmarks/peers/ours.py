"""flask_agentuity, on SQLite and on Redis."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from flask import Flask, g

from flask_agentuity import ThreadManager

from ..messages import Message
from .base import Peer, Place, nothing


class _Ours(Peer):
    durability = "end of the process"
    options: ClassVar[str] = ""

    def __init__(self, app: Flask, place: Place, **options: Any) -> None:
        # Older versions, which are compared with this one, do not know all options.
        ThreadManager(app, store=self.url(place), **options)

    def url(self, place: Place) -> str:
        return f"sqlite:///{place.folder / 'threads.db'}{self.options}"

    def start(self, messages: list[Message], title: str) -> str | None:
        g.thread.state["title"] = title
        g.thread.state["messages"] = messages
        return None

    def read(self) -> list[Message]:
        messages: list[Message] = g.thread.state["messages"]
        return messages

    def title(self) -> str:
        return str(g.thread.state["title"])

    def turn(self, added: list[Message], between: Callable[[], None] = nothing) -> int:
        messages = self.read()
        between()
        messages.extend(added)
        return len(messages)

    def push(self, message: Message) -> None:
        g.thread.state.push("messages", message)

    def grow(self, token: str) -> str:
        messages = self.read()
        messages[-1]["content"] += token
        return messages[-1]["content"]

    def edit(self, message: Message) -> str:
        messages = self.read()
        messages[len(messages) // 2] = message
        return message["content"]

    def stream(self, added: list[Message]) -> Iterator[str]:
        state = g.thread.state
        state["messages"].append(added[0])

        def generate() -> Iterator[str]:
            for start in range(0, len(added[1]["content"]), 20):
                yield added[1]["content"][start : start + 20]
            state.push("messages", added[1])

        return generate()


class OnSQLite(_Ours):
    """SQLite, the default store."""

    name = "flask_agentuity, SQLite"


class OnSQLiteFull(_Ours):
    """SQLite, where every commit is on the disk before it is acknowledged."""

    name = "flask_agentuity, SQLite full"
    durability = "power failure"
    options = "?synchronous=full"


class OnSQLiteReported(OnSQLite):
    """SQLite, and each session is reported to a server that the environment names."""

    name = "flask_agentuity, SQLite, sessions reported"

    def __init__(self, app: Flask, place: Place) -> None:
        from flask_agentuity.client.http import HTTPEndpoint
        from flask_agentuity.client.sessions import SessionReports
        from flask_agentuity.web.report_settings import ReportSettings
        from flask_agentuity.web.reporting import HTTPSessionReporter

        key, url = "only for the benchmark", os.environ["BENCHMARK_REPORTS"]
        settings = ReportSettings(url, key, "org", "proj", None, "production", dev_mode=False)
        # The same as with AGENTUITY_SESSION_REPORTS, and settle() can reach it.
        self._reports = SessionReports(HTTPEndpoint(url, key))
        reporter = HTTPSessionReporter(settings, self._reports)
        super().__init__(app, place, session_reporter=reporter)

    def settle(self) -> None:
        if not self._reports.flush(30.0) or self._reports.stats()["dropped"]:
            raise RuntimeError(f"Reports were not sent: {self._reports.stats()}")


class OnSQLiteInstrumented(OnSQLite):
    """SQLite, with OpenTelemetry's API and without an SDK."""

    name = "flask_agentuity, SQLite, instrumented"

    def __init__(self, app: Flask, place: Place) -> None:
        from flask_agentuity.integrations.otel import instrument

        super().__init__(app, place)
        instrument(app)


class OnRedis(_Ours):
    """Redis, on the same server as the peers."""

    name = "flask_agentuity, Redis"
    durability = "Redis's; here memory only"
    needs_redis = True

    def url(self, place: Place) -> str:
        assert place.redis_url is not None
        return place.redis_url
