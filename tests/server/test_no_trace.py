"""Promise 1: a request that does not touch its thread leaves no trace."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.servers import Answer, Visitor, running

from .conftest import COMMANDS


def count_threads(instance: Path) -> int:
    with closing(sqlite3.connect(instance / "agentuity_threads.db")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM threads").fetchone()
        return int(count)


def has_mark(answer: Answer) -> bool:
    marks = ("Set-Cookie", "Vary", "x-thread-id", "Cache-Control")
    return any(answer.headers[name] for name in marks if name != "Cache-Control") or (
        "private" in (answer.headers["Cache-Control"] or "")
    )


@pytest.mark.parametrize("kind", ["werkzeug", "gthread"])
@pytest.mark.parametrize("observed", [False, True], ids=["plain", "with receivers of signals"])
def test_untouched_requests_leave_no_trace(tmp_path: Path, kind: str, observed: bool) -> None:
    environment = {} if observed else {"SERVED_EVENTS": ""}
    with running(tmp_path, COMMANDS[kind], **environment) as server:
        visitor = Visitor(server)
        for path, status in {
            "/plain": 200,
            "/static/app.py": 200,
            "/static/nothing": 404,
            "/nothing": 404,
            "/file": 200,
        }.items():
            for method in ("GET", "HEAD", "OPTIONS"):
                answer = visitor.ask(method, path)
                assert answer.status in (status, 200)
                assert not has_mark(answer), (method, path, str(answer.headers))
        assert not server.instance.exists() or not list(server.instance.iterdir())

        # One who has a thread, and does not use it, gets nothing new either.
        visitor.post("/state", {"a": 1})
        assert visitor.cookies
        before = count_threads(server.instance)
        assert not has_mark(visitor.get("/plain"))
        assert not has_mark(visitor.get("/static/app.py"))

        # A visitor who only reads is sent an id, and nothing is stored.
        reader = Visitor(server)
        answer = reader.get("/state")
        assert answer.json() == {}
        assert has_mark(answer)
        assert "Cookie" in answer.headers["Vary"]
        assert answer.headers["Cache-Control"] == "private"
        assert count_threads(server.instance) == before == 1
