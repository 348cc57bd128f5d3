"""The indexes of terms of metadata in Redis: what a push costs, and how they are sorted."""

from __future__ import annotations

import random
from functools import partial

import pytest
import redis
from support.redis_server import measured

from flask_agentuity.document.operations import Push
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Write

from ..conformance import new_id
from .stored import fill


@pytest.mark.parametrize("window", [None, 5])
def test_a_push_touches_no_index_of_metadata(
    store: RedisStore, client: redis.Redis, window: int | None
) -> None:
    def commands(metadata: dict[str, int]) -> dict[str, int]:
        thread_id = new_id()
        store.merge(thread_id, [Push("l", b"1")] * 9, metadata)
        snapshot = store.read(thread_id, ["l"])
        assert snapshot is not None
        write = Write([Push("l", b"2", window)], seen=snapshot.seen)
        ran, _, _ = measured(client, lambda: store.write(thread_id, write))
        return ran

    many = commands({f"key {number}": number for number in range(1_000)})
    assert many == commands({})
    assert many["zadd"] == 1


@pytest.mark.parametrize(("common", "limit"), [(3, 7), (400, 7), (400, 1), (1_200, 500)])
def test_threads_with_a_term_come_in_the_order_of_time(
    store: RedisStore, common: int, limit: int
) -> None:
    """Whether few or most threads have it: the index of a term knows no times."""
    ids = fill(store, 1_300 - common, {"app": "other"})
    wanted = fill(store, common, {"app": "chat", "tag": "x"})
    moved = [*wanted[::5], *ids[::9]]
    random.Random(common).shuffle(moved)
    for thread_id in moved:
        store.merge(thread_id, [Push("l", b"1")])
    order = [thread_id for thread_id in wanted if thread_id not in moved]
    order += [thread_id for thread_id in moved if thread_id in wanted]
    pages = -(-common // limit) if limit > 1 else 3
    found: list[str] = []
    cursor = None
    for _ in range(pages):
        page = store.list({"app": "chat", "tag": "x"}, limit=limit, cursor=cursor)
        found += [thread.id for thread in page.threads]
        cursor = page.cursor
    assert found == order[::-1][: len(found)]
    assert len(found) == (common if limit > 1 else 3)


def test_a_listing_by_a_term_examines_few_threads(store: RedisStore, client: redis.Redis) -> None:
    """A rare term is sorted, a frequent one is looked for in the order of time."""
    fill(store, 1_500, {"app": "chat"})
    fill(store, 10, {"app": "chat", "rare": 1})
    for metadata, most in (({"rare": 1}, 130), ({"app": "chat"}, 200)):
        ran, _, _ = measured(client, partial(store.list, metadata, limit=10))
        assert sum(ran.values()) < most, ran
