"""Connections stay with the store between calls, and go back where others may need them."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import redis
from support.counting_proxy import counting
from support.forking import in_child
from support.redis_server import RedisServer
from support.waiting import eventually

from flask_agentuity.document.operations import Push, Set
from flask_agentuity.stores.redis.line import Line
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Write


def kept(store: RedisStore) -> list[Line]:
    """Return the lines that the store keeps while it is not used."""
    return [line for server in store._caller._servers.get().values() for line in server.kept]


def client_id(store: RedisStore) -> int:
    """Return how the server names the connection that the next call uses."""
    number: int
    (number,) = store._caller.call(b"", "", lambda line: line.exchange((b"CLIENT", b"ID")))
    return number


def named(client: redis.Redis, label: str) -> list[Any]:
    return [each for each in client.client_list() if each["name"] == label]


def calls_of(store: RedisStore, thread_id: str) -> list[Callable[[], object]]:
    return [
        lambda: store.read(thread_id, ["l"]),
        lambda: store.restore(thread_id),
        lambda: store.write(thread_id, Write([Push("l", b"1")])),
        lambda: store.merge(thread_id, [Set("a", b"1"), Push("l", b"1")]),
        store.list,
        store.purge,
        lambda: store.take_turn(thread_id, "me", 10),
        lambda: store.delete(thread_id),
    ]


@pytest.mark.parametrize("protocol", [2, 3])
def test_all_calls_share_one_connection(
    redis_server: RedisServer, thread_id: str, protocol: int
) -> None:
    with (
        counting(redis_server.port) as proxy,
        closing(
            RedisStore.from_url(f"redis://127.0.0.1:{proxy.port}?protocol={protocol}")
        ) as store,
    ):
        for _ in range(3):
            for call in calls_of(store, thread_id):
                call()
        assert len(kept(store)) == 1
        assert proxy.connections == 1


def test_there_are_as_many_connections_as_calls_at_once(
    redis_server: RedisServer, client: redis.Redis, thread_id: str
) -> None:
    with closing(RedisStore.from_url(f"{redis_server.url}?client_name=mine")) as store:
        barrier = threading.Barrier(4)

        def talk(line: Line) -> None:
            barrier.wait()
            line.exchange((b"PING",))

        for _ in range(3):
            threads = [
                threading.Thread(target=lambda: store._caller.call(b"", "", talk)) for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for _ in range(20):
            store.merge(thread_id, [Push("l", b"1")])
        assert len(named(client, "mine")) == len(kept(store)) == 4
    eventually(lambda: not named(client, "mine"))


def test_a_connection_that_died_while_it_was_idle_fails_no_call(
    redis_server: RedisServer, client: redis.Redis, thread_id: str
) -> None:
    with closing(RedisStore.from_url(redis_server.url)) as store:
        store.merge(thread_id, [Push("l", b"1")])
        for call in calls_of(store, thread_id):
            client.client_kill_filter(_type="normal", skipme=True)
            call()


def test_an_answer_that_was_not_asked_for_is_not_read(store: RedisStore, thread_id: str) -> None:
    store.merge(thread_id, [Push("l", b"1")])
    (line,) = kept(store)
    line._sock.sendall(b"*1\r\n$4\r\nPING\r\n")
    select.select([line._sock], [], [])
    assert store.restore(thread_id) == b'{"state":{"l":[1]}}'


def test_notices_of_the_server_are_no_answers(
    redis_server: RedisServer, client: redis.Redis, thread_id: str
) -> None:
    """With protocol 3 a server may say something without being asked, at any time."""
    with closing(RedisStore.from_url(f"{redis_server.url}?protocol=3")) as store:
        store.merge(thread_id, [Push("l", b"1")])
        before = client_id(store)
        for number in range(9):
            store._caller.call(
                b"", "", lambda line: line.exchange((b"CLIENT", b"TRACKING", b"ON", b"BCAST"))
            )
            # Both while the connection is idle and in front of an answer.
            client.set("tracked", number)
            store.merge(thread_id, [Push("l", b"2")])
            snapshot = store.read(thread_id, ["l"])
            assert snapshot is not None
            assert snapshot.encoded["l"] == b"[%b]" % b",".join([b"1", *[b"2"] * (number + 1)])
        if hasattr(pytest.importorskip("hiredis"), "PushNotification"):
            assert client_id(store) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_call_that_was_interrupted_leaves_no_answer_behind(
    store: RedisStore, thread_id: str, error: type[BaseException]
) -> None:
    store.merge(thread_id, [Push("l", b"1")])
    before = client_id(store)

    def interrupt(line: Line) -> None:
        line._sock.sendall(b"*1\r\n$4\r\nPING\r\n")
        line.exchange((b"GET", object()))

    with pytest.raises(TypeError):
        store._caller.call(b"", "", interrupt)
    assert client_id(store) != before

    def fail(line: Line) -> None:
        raise error

    with pytest.raises(error):
        store._caller.call(b"", "", fail)
    assert store.restore(thread_id) == b'{"state":{"l":[1]}}'


def test_closing_closes_what_is_kept(
    redis_server: RedisServer, client: redis.Redis, thread_id: str
) -> None:
    store = RedisStore.from_url(f"{redis_server.url}?client_name=closed")
    store.merge(thread_id, [Push("l", b"1")])

    def talk(line: Line) -> None:
        # As if another thread were in the middle of a call.
        store.close()

    store._caller.call(b"", "", talk)
    assert kept(store) == []
    store.close()
    eventually(lambda: not named(client, "closed"))


def test_a_client_that_was_handed_in_has_its_connections_back(
    redis_server: RedisServer, thread_id: str
) -> None:
    """Also the only one that it may have."""
    pool = redis.ConnectionPool.from_url(redis_server.url, max_connections=1)
    with closing(redis.Redis.from_pool(pool)) as client:
        store = RedisStore(client)
        for call in calls_of(store, thread_id):
            call()
            assert client.ping()
        store.close()
        assert client.ping()


@pytest.mark.parametrize("kind", ["blocking", "few", "credentials", "health checks"])
def test_pools_with_rules_of_their_own(
    redis_server: RedisServer, thread_id: str, kind: str
) -> None:
    options: dict[str, Any] = {"port": redis_server.port}
    if kind == "credentials":
        provider = redis.credentials.UsernamePasswordCredentialProvider("default", "")
        options["credential_provider"] = provider
    elif kind == "health checks":
        options["health_check_interval"] = 1

    def make() -> redis.Redis:
        if kind == "blocking":
            return redis.Redis.from_pool(
                redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]
                    max_connections=1, timeout=30, **options
                )
            )
        limit = 1 if kind == "few" else 9
        return redis.Redis.from_pool(redis.ConnectionPool(max_connections=limit, **options))

    if kind == "credentials":
        with closing(redis_server.client()) as client:
            client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"], keys=["*"])
    with closing(RedisStore(make)) as store:
        for _ in range(2):
            for call in calls_of(store, thread_id):
                call()
        # What is kept from a pool that others do not use takes nothing from its limit.
        assert len(kept(store)) == (1 if kind == "few" else 0)
        if kind == "blocking":
            threads = [
                threading.Thread(target=lambda: store.merge(thread_id, [Push("l", b"1")]))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert store.restore(thread_id) == b'{"state":{"l":[1,1,1,1,1,1,1,1]}}'


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_has_connections_of_its_own(store: RedisStore, thread_id: str) -> None:
    store.merge(thread_id, [Push("l", b"1")])
    parent = client_id(store)

    def work() -> bool:
        child = client_id(store)
        store.merge(thread_id, [Push("l", b"2")])
        store.close()
        return child != parent

    for _ in range(2):
        assert in_child(work) == 0
        assert client_id(store) == parent
    store.merge(thread_id, [Push("l", b"3")])
    assert store.restore(thread_id) == b'{"state":{"l":[1,2,2,3]}}'


PROGRAM = """
import sys
{before}
import json, threading
from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import StateTooLarge
from flask_agentuity.stores.redis import RedisStore
from flask_agentuity.stores.writing import Write

url, thread_id = sys.argv[1:]
store = RedisStore.from_url(url, timeout=30)

def work(number):
    seen = None
    for count in range(20):
        outcome = store.write(thread_id, Write([Push("l", b"%d" % number)], seen=seen))
        seen = store.read(thread_id, ["l"]).seen if count % 2 else outcome.seen

threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
store.merge(thread_id, [Set("long", b'"%b"' % (b"x" * 300_000))])
state = json.loads(store.restore(thread_id))["state"]
assert sorted(state["l"]) == sorted(list(range(8)) * 20) and len(state["long"]) == 300_000
assert store.take_turn(thread_id, "a", 10) and not store.take_turn(thread_id, "b", 10)
assert [thread.id for thread in store.list().threads] == [thread_id]
try:
    store.merge(thread_id, [Set("long", b'"%b"' % (b"x" * 2_000_000))])
except StateTooLarge:
    print("done")
store.close()
"""


@pytest.mark.parametrize(
    "before",
    [
        "sys.modules['hiredis'] = None",
        "from gevent import monkey; monkey.patch_all()",
        "sys.modules['hiredis'] = None; from gevent import monkey; monkey.patch_all()",
        "import select; del select.poll",
    ],
    ids=["without hiredis", "gevent", "gevent without hiredis", "without poll"],
)
@pytest.mark.parametrize("protocol", [2, 3])
def test_other_surroundings(
    redis_server: RedisServer, thread_id: str, before: str, protocol: int
) -> None:
    if "gevent" in before:
        pytest.importorskip("gevent")
    if "hiredis" not in before:
        pytest.importorskip("hiredis")
    url = f"{redis_server.url}?protocol={protocol}"
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before), url, thread_id],
        capture_output=True,
        text=True,
    )
    assert result.stdout == "done\n", result.stderr
