from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster
from support.redis_server import PATIENCE, RedisServer, pass_time, running

from flask_agentuity.document import codec
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.redis.keys import string_name
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.testing.conformance import (
    Clock,
    ClockConformance,
    ConditionConformance,
    CopyingConformance,
    CountingConformance,
    DeletionConformance,
    DocumentConformance,
    ErasingConformance,
    LimitConformance,
    ListConformance,
    ListingConformance,
    MovingConformance,
    OperationConformance,
    OwnerConformance,
    ReadingConformance,
    RunConformance,
    StoreConformance,
    Suite,
    TransferConformance,
    TurnConformance,
    UnusualConformance,
    VersionConformance,
)


class OnRedis(Suite):
    """How the tests open the store, and what it can do."""

    shared = True
    reads_keys_apart = True
    edits = True
    lists = True
    moves = True
    owners = True
    transfers = True
    turns = True
    leases = True
    runs = True

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
        thread = store._names(thread_id)[0]
        field = codec.encode_key(key)
        string = string_name(thread, field)
        with closing(self.client(place)) as client:
            if client.exists(string):
                client.setrange(string, client.strlen(string) - 1, b"?")
            else:
                client.hset(thread, field, client.hget(thread, field)[:-1])

    @pytest.fixture
    def clock(self, place: Any) -> Iterator[Clock]:
        """Redis has a clock that cannot be moved, so the times that are stored are moved."""
        with closing(self.client(place)) as client:
            yield Clock(partial(pass_time, client))


class TestRedisStore(OnRedis, StoreConformance):
    pass


class _WithItsClient(RedisStore):
    """Closes the client that was passed in, as the app has to."""

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self._passed_in = client

    def close(self) -> None:
        super().close()
        self._passed_in.close()


class TestRedisStoreWithAClientHandedIn(
    OnRedis,
    DocumentConformance,
    UnusualConformance,
    OperationConformance,
    ListConformance,
    LimitConformance,
    ReadingConformance,
    ClockConformance,
    CountingConformance,
    ConditionConformance,
    VersionConformance,
    DeletionConformance,
    OwnerConformance,
    MovingConformance,
    CopyingConformance,
    ErasingConformance,
    ListingConformance,
    TransferConformance,
    TurnConformance,
    RunConformance,
):
    """The client's own settings (text instead of bytes, another protocol) do not matter.

    They concern how replies are read: what is left out are tests of merging, of many calls at
    once and of random sequences, whose replies are the same.
    """

    def open(self, place: Any, **options: Any) -> ThreadStore:
        client = redis.Redis.from_url(place, decode_responses=True, protocol=3)
        return _WithItsClient(client, prefix="mine:", **options)

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


class TestRedisStoreOnACluster(OnRedis, StoreConformance):
    """A cluster of one node: it also refuses what would need a second slot."""

    # They call no scripts that the others do not call.
    test_any_sequence_of_calls_does_as_the_model = None  # type: ignore[assignment]
    test_any_sequence_of_writes_does_as_the_store_in_memory = None  # type: ignore[assignment]
    test_processes_pushing_to_one_thread = None  # type: ignore[assignment]
    test_writes_of_another_process_are_moved_or_dropped = None  # type: ignore[assignment]

    @pytest.fixture
    def place(self, cluster: RedisServer) -> Any:
        with closing(cluster.client()) as client:
            client.flushall()
        return f"redis+cluster://127.0.0.1:{cluster.port}"

    def client(self, place: Any) -> Any:
        return RedisCluster.from_url(place.replace("+cluster", ""))
