"""``threads.export()``: the conversations of one user, for the user."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response

from flask_agentuity import ServiceUnavailable, ThreadManager
from flask_agentuity.stores import Page, Query, ThreadStore, open_store
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.web.export_format import from_line


def make_app(store: ThreadStore) -> tuple[Flask, ThreadManager]:
    app = Flask("exporting")
    app.config.update(SECRET_KEY="tested", AGENTUITY_SESSION_REPORTS="off")
    threads = ThreadManager(app, store=store)

    @app.get("/export/<owner>")
    def export(owner: str) -> Response:
        return Response(threads.export(owner), mimetype="application/jsonl")

    return app, threads


def fill(threads: ThreadManager, owner: str | int | None, **state: Any) -> str:
    with threads.open(create=True, owner=owner) as thread:
        thread.state.update(state)
        thread.metadata["title"] = "Holidays"
        return thread.id


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ThreadStore:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'threads.db'}"
    return open_store(url)


def test_it_has_the_conversations_of_one_user(store: ThreadStore) -> None:
    app, threads = make_app(store)
    ids = {fill(threads, 5, n=1), fill(threads, "5", n=2)}
    fill(threads, "ada", n=3)
    fill(threads, None, n=4)
    response = app.test_client().get("/export/5")
    lines = response.data.splitlines(keepends=True)
    assert {json.loads(line)["id"] for line in lines} == ids
    assert sorted(json.loads(line)["state"]["n"] for line in lines) == [1, 2]
    for line in lines:
        thread, _ = from_line(line)
        assert (thread.owner, thread.metadata) == ("5", {"title": "Holidays"})
    assert list(threads.export(5)) == lines
    assert app.test_client().get("/export/bob").data == b""
    with pytest.raises(ValueError, match="owner"):
        threads.export("")


def test_a_damaged_thread_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "threads.db"
    _, threads = make_app(SQLiteStore(path))
    damaged, whole = fill(threads, "ada", n=1), fill(threads, "ada", n=2)
    with closing(sqlite3.connect(path)) as database, database:
        cut = "UPDATE thread_entries SET value = CAST('{' AS BLOB) WHERE value = CAST('1' AS BLOB)"
        assert database.execute(cut).rowcount == 1
    assert [json.loads(line)["id"] for line in threads.export("ada")] == [whole]
    (record,) = caplog.records
    assert record.getMessage().startswith("A damaged thread is left out of an export: ")
    assert vars(record)["thread_id"] == damaged


class Unreachable(MemoryStore):
    is_down = False

    def find(self, query: Query) -> Page:
        if self.is_down:
            raise ServiceUnavailable("The store is down.")
        return super().find(query)

    def restore_without_renewing(self, thread_id: str) -> bytes | None:
        if self.is_down:
            raise ServiceUnavailable("The store is down.")
        return super().restore_without_renewing(thread_id)


def test_a_store_that_is_down_is_an_error_before_the_response_begins() -> None:
    store = Unreachable()
    app, threads = make_app(store)
    fill(threads, "ada", n=1)
    store.is_down = True
    assert app.test_client().get("/export/ada").status_code == 503
    with pytest.raises(ServiceUnavailable):
        threads.export("ada")
