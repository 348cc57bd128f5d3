"""Turns in Redis: their keys, and those of versions that gave them a short time to live."""

from __future__ import annotations

import time

import pytest
import redis
from support.redis_server import PATIENCE, measured

from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import TurnLost
from flask_agentuity.stores.leases import FORGOTTEN_SECONDS
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Write

from ..conformance import new_id
from .stored import name


def test_a_turn_that_its_holder_has_left_expires_after_days(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    def left() -> int:
        return client.pttl(f"{name(thread_id)}:turn")

    longest = FORGOTTEN_SECONDS * 1000
    lease = store.lease_turn(thread_id, "a")
    assert longest - PATIENCE * 1000 < left() <= longest
    client.pexpire(f"{name(thread_id)}:turn", 60_000)
    assert store.count_waiting(lease, 1) == 1
    assert 0 < left() <= 60_000
    assert not store.renew_turns([lease])
    assert left() > longest - PATIENCE * 1000
    # The last token stays, so that the next one is higher in any case.
    client.delete(f"{name(thread_id)}:turn")
    client.set("agentuity:{0}.turns", 9_000_000_000_000_000)
    assert store.lease_turn(thread_id, "b").token == 9_000_000_000_000_001


def test_the_turn_of_a_process_with_an_earlier_version(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    key = f"{name(thread_id)}:turn"
    client.set(key, "deadbeef", px=60_000)
    seen = store.lease_turn(thread_id, "a")
    assert (seen.holder, seen.token) == ("deadbeef", 0)
    assert not seen.may_be_abandoned
    # Its time to live ends it, and nothing else.
    assert store.lease_turn(thread_id, "a", seen).holder == "deadbeef"
    assert store.count_waiting(seen, 1) == 0
    with pytest.raises(TurnLost):
        store.write(thread_id, Write([Set("a", b"1")], turn=1))
    store.end_turn(thread_id, "a")
    assert client.get(key) == b"deadbeef"
    client.pexpire(key, 1)
    deadline = time.monotonic() + PATIENCE
    while (lease := store.lease_turn(thread_id, "a")).holder != "a":
        assert time.monotonic() < deadline
    assert lease.token > 0
    # And that process does not take the turn of this one.
    assert client.get(key) != b"deadbeef"


def test_a_write_under_a_turn_is_one_call(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    store.merge(thread_id, [Push("l", b"1")])
    lease = store.lease_turn(thread_id, "a")
    store.write(thread_id, Write([Push("l", b"2")], turn=lease.token))
    snapshot = store.read(thread_id)
    assert snapshot is not None
    write = Write([Push("l", b"3")], snapshot.version, snapshot.seen, turn=lease.token)
    commands, _, _ = measured(client, lambda: store.write(thread_id, write))
    assert commands["evalsha"] == 1
    # The short way of a push is still taken.
    assert "hgetall" not in commands
    assert commands["setrange"] == 1


def test_many_turns_are_renewed_in_one_packet(store: RedisStore, client: redis.Redis) -> None:
    leases = [store.lease_turn(new_id(), "a") for _ in range(20)]
    store.renew_turns(leases[:1])
    before = client.info("stats")["total_reads_processed"]
    assert not store.renew_turns(leases)
    after = client.info("stats")["total_reads_processed"]
    # One of them is that of the test's own client.
    assert after - before <= 3
