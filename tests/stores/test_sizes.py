"""``thread.size`` and ``thread.max_size`` in every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.minimal import MinimalStore
from support.recording import THREAD_ID, begin

from flask_agentuity import Thread, ThreadStore
from flask_agentuity.service import ThreadService
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.redis import RedisStore
from flask_agentuity.stores.remote import RemoteStore
from flask_agentuity.stores.sqlite import SQLiteStore

LIMIT = 10_000


@pytest.fixture(params=["memory", "sqlite", "redis", "remote", "minimal"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ThreadStore]:
    match request.param:
        case "memory":
            yield MemoryStore(max_bytes=LIMIT)
        case "sqlite":
            with closing(SQLiteStore(tmp_path / "threads.db", max_bytes=LIMIT)) as sqlite:
                yield sqlite
        case "redis":
            server = request.getfixturevalue("redis_server")
            with closing(RedisStore.from_url(server.url, max_bytes=LIMIT)) as redis:
                yield redis
        case "remote":
            service = ThreadService(MemoryStore(), ["a key of the test"])
            service.start()
            with closing(RemoteStore.from_url(service.url, key="a key of the test")) as remote:
                yield remote
            service.stop()
        case _:
            yield MinimalStore(tmp_path)


def stored_size(store: ThreadStore) -> int:
    return len(store.restore(THREAD_ID) or b"")


def test_the_size_is_that_of_the_stored_document(store: ThreadStore) -> None:
    assert begin(store).size == 0
    thread = begin(store, is_new=True)
    assert thread.size == 0
    thread.state["messages"] = ["é" * 50] * 20
    thread.state["title"] = 'a "title"'
    thread.metadata["owner"] = "ada"
    assert thread.size == 0
    thread.save()
    assert thread.size == stored_size(store) > 2000
    changes: list[Callable[[Thread], object]] = [
        lambda thread: thread.state.push("messages", "more"),
        lambda thread: thread.state["messages"].append("more"),
        lambda thread: thread.metadata.update(title="changed"),
        lambda thread: thread.state.pop("title", None),
    ]
    for change in changes:
        for is_read in (True, False):
            thread = begin(store)
            if is_read:
                assert thread.size == stored_size(store)
            change(thread)
            if is_read:
                assert thread.size == stored_size(store)
            thread.state.push("log", "entry")
            thread.save()
            assert thread.size == stored_size(store)
    thread = begin(store)
    thread.state.clear()
    assert thread.size == stored_size(store) > 2000
    thread.destroy()
    assert thread.size == 0


def test_the_size_of_a_thread_that_is_read_costs_nothing_more(store: ThreadStore) -> None:
    writer = begin(store)
    writer.state["messages"] = ["text"]
    writer.save()
    thread = begin(store)
    assert dict(thread.state)
    size = stored_size(store)
    store.read = None  # type: ignore[assignment,method-assign]
    assert thread.size == size


def test_the_limit_is_that_of_the_store(store: ThreadStore) -> None:
    limit = begin(store).max_size
    match store:
        case RemoteStore():
            assert limit == 1_048_576
        case MinimalStore():
            assert limit is None
        case _:
            assert limit == LIMIT
