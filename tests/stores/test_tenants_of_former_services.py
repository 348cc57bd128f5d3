"""Threads that a service of an earlier version has kept among those of the store itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.redis_server import RedisServer

from flask_agentuity.document.operations import Push, Set, SetMetadata
from flask_agentuity.service import ThreadService
from flask_agentuity.service.tenants import namespace_of, stored_id
from flask_agentuity.stores.base import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.remote import RemoteStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write

KEY = "the key of the tests"
OTHER = "the key of another tenant"
THREADS = [f"thrd_{number:032x}" for number in range(250)]
APP = "thrd_" + "f" * 32


@pytest.fixture(params=["memory", "SQLite", "Redis"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> Iterator[ThreadStore]:
    made: ThreadStore
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "SQLite":
        made = SQLiteStore(tmp_path / "threads.db")
    else:
        made = RedisStore.from_url(redis_server.url)
    with closing(made):
        yield made


def read(url: str, key: str, thread_id: str) -> bytes | None:
    with closing(RemoteStore.from_url(url, key=key)) as remote:
        return remote.restore(thread_id)


def test_the_threads_of_a_key_move_when_it_is_used(store: ThreadStore) -> None:
    namespace = namespace_of(KEY)
    for thread_id in [*THREADS, "an id of another kind"]:
        store.write(
            stored_id(namespace, thread_id),
            Write([Set("a", b"1"), SetMetadata(b'{"title":"former"}')]),
        )
    store.write(stored_id(namespace_of(OTHER), THREADS[0]), Write([Set("a", b"2")]))
    store.write(APP, Write([Set("a", b"3")]))
    for _ in range(2):
        with ThreadService(store, [KEY, OTHER]) as service:
            expected = b'{"state":{"a":1},"metadata":{"title":"former"}}'
            assert read(service.url, KEY, THREADS[0]) == expected
            assert read(service.url, KEY, "an id of another kind") == expected
            left = {thread.id for thread in store.scan()}
            assert left == {APP, stored_id(namespace_of(OTHER), THREADS[0])}
    with ThreadService(store, [KEY, OTHER]) as service:
        assert read(service.url, OTHER, THREADS[0]) == b'{"state":{"a":2}}'
        assert {thread.id for thread in store.scan()} == {APP}
    assert store.restore(APP) == b'{"state":{"a":3}}'


def test_a_thread_that_was_written_since_stays(store: ThreadStore) -> None:
    stored = stored_id(namespace_of(KEY), THREADS[0])
    store.write(stored, Write([Push("a", b"1")]))
    with ThreadService(store, [KEY]) as service:
        assert read(service.url, KEY, THREADS[0]) == b'{"state":{"a":[1]}}'
    with closing(store.for_tenants()) as tenants:
        tenants.write(stored, Write([Push("a", b"2")], owner=namespace_of(KEY)))
    with ThreadService(store, [KEY]) as service:
        assert read(service.url, KEY, THREADS[0]) == b'{"state":{"a":[1,2]}}'
