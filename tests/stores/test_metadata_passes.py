"""How much JSON is handled when one key of the metadata changes, and that none is under a lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from support.redis_server import PATIENCE, RedisServer

from flask_agentuity import ThreadManager
from flask_agentuity.document.operations import Push, Set
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .conformance import new_id


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each JSON text that is encoded or decoded."""
    sizes: list[int] = []
    dumps, loads = orjson.dumps, orjson.loads

    def counting_dumps(*arguments: Any, **options: Any) -> bytes:
        encoded = dumps(*arguments, **options)
        sizes.append(len(encoded))
        return encoded

    def counting_loads(text: Any) -> Any:
        sizes.append(len(text))
        return loads(text)

    monkeypatch.setattr(orjson, "dumps", counting_dumps)
    monkeypatch.setattr(orjson, "loads", counting_loads)
    return sizes


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> Iterator[ThreadStore]:
    made: ThreadStore
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "sqlite":
        made = SQLiteStore(tmp_path / "threads.db")
    else:
        made = RedisStore.from_url(redis_server.url, timeout=PATIENCE)
    with closing(made) as store:
        yield store


def manager_of(store: ThreadStore) -> tuple[Flask, ThreadManager]:
    app = Flask("tested")
    app.secret_key = "of this test, which is long"
    return app, ThreadManager(app, store=store)


@pytest.mark.parametrize("others", [[], [Push("l", b"1")], [Set("a", b"1")]])
def test_one_changed_key_costs_two_passes(
    store: ThreadStore, handled: list[int], others: list[Any]
) -> None:
    thread_id = new_id()
    metadata = {f"key {number}": "x" * 90 for number in range(1_000)}
    size = len(orjson.dumps(metadata))
    app, threads = manager_of(store)
    store.merge(thread_id, others or [Set("first", b"1")], metadata)
    with app.app_context(), threads.open(thread_id) as thread:
        assert thread.metadata["key 5"] == "x" * 90
        handled.clear()
        for number in range(3):
            thread.metadata["key 5"] = f"changed {number}"
            thread.save()
            # It was decoded once before, so each change is one more pass.
            assert sum(handled) < 1.2 * size
            handled.clear()
    assert store.list({"key 5": "changed 2"}).threads[0].id == thread_id
    assert store.list({"key 5": "changed 1"}).threads == []
    handled.clear()
    with app.app_context(), threads.open(thread_id) as thread:
        thread.metadata["key 6"] = "changed"
    assert sum(handled) < 2.3 * size
    handled.clear()
    # What was only read is encoded once to see that it was not changed.
    with app.app_context(), threads.open(thread_id) as thread:
        assert thread.metadata["key 6"] == "changed"
    assert sum(handled) < 2.3 * size


def test_no_json_is_handled_under_the_lock(tmp_path: Path, handled: list[int]) -> None:
    """Also where the thread has changed since the request has read it."""
    events: list[str] = []
    sizes: list[int] = []

    def note(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE":
            handled.clear()
        elif statement in ("COMMIT", "ROLLBACK"):
            events.append(statement)
            sizes.append(sum(handled))

    thread_id = new_id()
    with closing(SQLiteStore(tmp_path / "threads.db")) as store:
        store.merge(thread_id, [Set("a", b"1")], {"m": 1, "n": "x" * 1_000})
        app, threads = manager_of(store)
        with app.app_context(), threads.open(thread_id) as thread:
            thread.metadata["m"] = 2
            store.merge(thread_id, [Set("b", b"1")])
            store.merge(thread_id, [], {"m": 1, "n": "y" * 1_000})
            idle: list[sqlite3.Connection] = store._connections._idle
            for connection in idle:
                connection.set_trace_callback(note)
    assert events[-1] == "COMMIT"
    assert "ROLLBACK" in events
    assert sizes == [0] * len(sizes)
    with closing(SQLiteStore(tmp_path / "threads.db")) as store:
        (found,) = store.list({"m": 2}).threads
        assert found.metadata == {"m": 2, "n": "y" * 1_000}
