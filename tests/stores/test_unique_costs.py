"""Many pushes with unique fields in one write: their cost is linear, also if fields alternate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.redis_server import PATIENCE, RedisServer, measured

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Operation, Push
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .conformance import new_id

FIELDS = ("id", "key", "name")


def pushes(count: int) -> list[Operation]:
    """Return pushes of which each second one is a repetition, with alternating fields."""
    return [
        Push(
            "l",
            b'{"%b":%d,"at":%d}' % (FIELDS[number % 3].encode(), number // 6, number),
            unique=FIELDS[number % 3],
        )
        for number in range(count)
    ]


def require_unique(encoded: bytes | None, count: int) -> None:
    items = codec.decode(encoded or b"")
    assert len(items) == count // 2
    assert len({(key, value) for item in items for key, value in item.items() if key != "at"}) == (
        count // 2
    )


def test_sqlite_searches_a_list_a_limited_number_of_times(tmp_path: Path) -> None:
    with closing(SQLiteStore(tmp_path / "threads.db")) as store:
        store.merge("thrd_other", [Push("l", b"1")])
        (connection,) = store._connections._idle
        for count in (60, 1_200):
            thread_id = new_id()
            traced: list[str] = []
            connection.set_trace_callback(traced.append)
            store.merge(thread_id, pushes(count))
            connection.set_trace_callback(None)
            reading = [each for each in traced if "FROM segments" in each]
            assert len(reading) < 40, len(reading)
            snapshot = store.read(thread_id)
            assert snapshot is not None
            require_unique(snapshot.encoded["l"], count)


@pytest.fixture
def redis_store(redis_server: RedisServer) -> Iterator[RedisStore]:
    with closing(RedisStore.from_url(redis_server.url, timeout=PATIENCE)) as store:
        yield store


def test_redis_reads_a_list_a_limited_number_of_times(
    redis_store: RedisStore, redis_server: RedisServer
) -> None:
    thread_id = new_id()
    redis_store.merge(thread_id, pushes(600))
    with closing(redis_server.client()) as client:
        commands, _, _ = measured(client, lambda: redis_store.merge(thread_id, pushes(1_200)))
    assert commands["getrange"] < 40, commands
    snapshot = redis_store.read(thread_id)
    assert snapshot is not None
    require_unique(snapshot.encoded["l"], 1_200)
