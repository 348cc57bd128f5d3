from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster

from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.redis import RedisStore

from .conformance import Clock, StoreConformance
from .listing import ListingConformance
from .redis_server import PATIENCE, RedisServer, running


class TestRedisStore(StoreConformance):
    shared = True
    reads_keys_apart = True

    @pytest.fixture
    def place(self, redis_server: RedisServer) -> Any:
        return redis_server.url

    def open(self, place: Any, **options: Any) -> ThreadStore:
        return RedisStore.from_url(place, timeout=30.0, **options)

    def opener(self, place: Any) -> Callable[[], ThreadStore]:
        return partial(RedisStore.from_url, place, timeout=30.0)

    def client(self, place: Any) -> Any:
        return redis.Redis.from_url(place)

    def damage(self, store: ThreadStore, place: Any, thread_id: str, key: str) -> None:
        assert isinstance(store, RedisStore)
        thread = f"{store.prefix}{{{thread_id}}}"
        segments = f"{thread}:segments"
        field = f'"{key}"'
        with closing(self.client(place)) as client:
            members = client.zrangebylex(segments, f"[{field}", f"({field}:")
            if members:
                assert client.zrem(segments, members[-1]) == 1
                client.zadd(segments, {members[-1][:-1] + b"?": 0})
            else:
                client.hset(thread, field, client.hget(thread, field)[:-1])

    @pytest.fixture
    def clock(self, place: Any) -> Iterator[Clock]:
        """Redis goes by its own clock: time passes by taking it from what every key has left."""
        with closing(self.client(place)) as client:

            def advance(seconds: float) -> None:
                for key in client.scan_iter():
                    left = client.pttl(key)
                    if left >= 0:
                        client.pexpire(key, int(left - seconds * 1000))

            yield Clock(advance)


class TestRedisStoreWithAClientHandedIn(TestRedisStore):
    """The client's own settings (text instead of bytes, another protocol) do not matter."""

    # These take long, and have nothing to do with the client.
    test_any_sequence_of_calls_does_as_the_model = None  # type: ignore[assignment]
    test_processes_pushing_to_one_thread = None  # type: ignore[assignment]

    def open(self, place: Any, **options: Any) -> ThreadStore:
        client = redis.Redis.from_url(place, decode_responses=True, protocol=3)
        return RedisStore(client, prefix="mine:", **options)

    def opener(self, place: Any) -> Callable[[], ThreadStore]:
        return partial(RedisStore.from_url, place + "?prefix=mine:")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("cluster")
    with running(folder, "--cluster-enabled", "yes") as server:
        with closing(server.client()) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            deadline = time.monotonic() + PATIENCE
            while client.cluster("INFO")["cluster_state"] != "ok":
                assert time.monotonic() < deadline
                time.sleep(0.01)
        yield server


class TestRedisStoreOnACluster(TestRedisStore):
    """A cluster of one node: it refuses what would need a second slot all the same."""

    test_any_sequence_of_calls_does_as_the_model = None  # type: ignore[assignment]

    @pytest.fixture
    def place(self, cluster: RedisServer) -> Any:
        with closing(cluster.client()) as client:
            client.flushall()
        return f"redis+cluster://127.0.0.1:{cluster.port}"

    def client(self, place: Any) -> Any:
        return RedisCluster.from_url(place.replace("+cluster", ""))


class TestRedisTurns:
    """The clauses of ListingConformance that concern turns."""

    shared = True
    place = TestRedisStore.place
    clock = TestRedisStore.clock
    client = TestRedisStore.client
    open = TestRedisStore.open
    store = ListingConformance.store
    thread_id = ListingConformance.thread_id
    test_one_at_a_time = ListingConformance.test_one_at_a_time
    test_ending_a_turn_that_nobody_has = ListingConformance.test_ending_a_turn_that_nobody_has
    test_a_turn_ends_with_its_lease = ListingConformance.test_a_turn_ends_with_its_lease
    test_of_many_who_come_at_once = ListingConformance.test_of_many_who_come_at_once_one_has_it
    test_nobody_is_with_the_holder = ListingConformance.test_nobody_is_with_the_holder
    test_turns_hold_across_stores = ListingConformance.test_turns_hold_across_stores_on_one_place
