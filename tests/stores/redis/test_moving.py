"""Threads that are moved, copied and erased inside Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
from support.redis_server import PATIENCE, RedisServer

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Clear, Push, Set, SetMetadata
from flask_agentuity.errors import StateTooLarge, StoreError, ThreadGone
from flask_agentuity.stores.redis.keys import decode_owner, encode_owner
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Write

from ..conformance import new_id, pushes
from .stored import contents, name
from .test_former_format import DOCUMENT, write_former

TARGET = "thrd_" + "e" * 32
LONG = codec.encode("x" * 2_000)
INDEX = "agentuity:{0}"


@pytest.fixture
def many(redis_server: RedisServer) -> Iterator[RedisStore]:
    """A store whose threads are divided as in a cluster."""
    with closing(RedisStore.from_url(f"{redis_server.url}?partitions=16")) as store:
        yield store


def store_thread(store: RedisStore, thread_id: str, owner: str | None = None) -> None:
    operations = [Set("long", LONG), *pushes("l", range(20)), SetMetadata(b'{"m":1}')]
    store.write(thread_id, Write(operations, owner=owner))


def keys_of(client: redis.Redis) -> set[str]:
    return {key.decode() for key in client.scan_iter()}


def test_all_keys_get_the_new_name(store: RedisStore, client: redis.Redis, thread_id: str) -> None:
    store_thread(store, thread_id)
    before = contents(client)
    lives = {key: client.pttl(key) for key in before}
    assert store.move(thread_id, TARGET, owner="a b")
    assert keys_of(client) == {
        INDEX,
        f'{INDEX}."m":1',
        f"{INDEX}.@a%20b",
        name(thread_id),
        *(name(TARGET, key) for key in (None, "l", "long")),
    }
    assert set(client.hgetall(name(thread_id))) == {b"gone"}
    assert 3_500 < client.ttl(name(thread_id)) <= 3_600
    after = contents(client)
    fields = client.hgetall(name(TARGET))
    assert fields.pop(b"owner") == b"a%20b"
    assert fields == before[name(thread_id).encode()]
    for key in ("l", "long"):
        former, new = name(thread_id, key).encode(), name(TARGET, key).encode()
        assert after[new] == before[former]
        assert lives[former] - 2_000 < client.pttl(new) <= lives[former]
    updated = client.zscore(INDEX, TARGET)
    for index in (INDEX, f'{INDEX}."m":1', f"{INDEX}.@a%20b"):
        assert client.zrange(index, 0, -1, withscores=True) == [(TARGET.encode(), updated)]
        assert client.pttl(index) >= client.pttl(name(TARGET))


def test_a_copy_shares_no_key(store: RedisStore, client: redis.Redis, thread_id: str) -> None:
    store_thread(store, thread_id, "ada")
    before = contents(client)
    assert store.copy(thread_id, TARGET, keep={"l": 3})
    store.delete(TARGET)
    client.delete(name(TARGET))
    assert contents(client) == before


def test_a_copy_that_is_too_large_leaves_only_a_tombstone(
    redis_server: RedisServer, client: redis.Redis, thread_id: str
) -> None:
    with closing(RedisStore.from_url(redis_server.url, max_bytes=3_000)) as store:
        store_thread(store, thread_id)
        before = contents(client)
        with pytest.raises(StateTooLarge):
            store.copy(thread_id, TARGET, metadata={"title": "x" * 2_000})
        assert client.delete(name(TARGET)) == 1
        assert contents(client) == before


@pytest.mark.parametrize("act", ["move", "copy"])
def test_a_thread_of_the_former_format(
    store: RedisStore, client: redis.Redis, thread_id: str, act: str
) -> None:
    write_former(client, thread_id)
    if act == "move":
        assert store.move(thread_id, TARGET, owner="bob")
        assert store.restore(thread_id) is None
    else:
        assert store.copy(thread_id, TARGET, owner="bob")
        assert store.restore(thread_id) == DOCUMENT
    assert store.restore(TARGET) == DOCUMENT
    assert TARGET in [thread.id for thread in store.list({"owner": "ada"}).threads]
    assert [thread.id for thread in store.list(owner="bob").threads] == [TARGET]
    store.write(TARGET, Write([Push("window", b"1")], owner="bob"))
    with pytest.raises(ThreadGone):
        store.write(TARGET, Write([Push("window", b"1")], owner="eve"))
    snapshot = store.read(TARGET)
    assert snapshot is not None
    assert codec.decode(snapshot.encoded["window"] or b"")[-1] == 1
    store.delete(TARGET)
    store.delete(thread_id)
    assert keys_of(client) == {name(thread_id), name(TARGET)}


def test_a_damaged_thread_stays_as_it_is(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    store_thread(store, thread_id)
    client.delete(name(thread_id, "long"))
    before = contents(client)
    for act in (store.move, store.copy):
        with pytest.raises(StoreError, match="damaged"):
            act(thread_id, TARGET)
        client.delete(name(TARGET))
        assert contents(client) == before


def test_an_index_of_a_wrong_type_changes_nothing(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    store_thread(store, thread_id)
    client.set(f"{INDEX}.@ada", "a string")
    before = contents(client)
    with pytest.raises(StoreError):
        store.move(thread_id, TARGET, owner="ada")
    assert contents(client) == before


def test_a_new_id_is_in_the_partition_of_the_thread(many: RedisStore, thread_id: str) -> None:
    store_thread(many, thread_id)
    made = []

    def make() -> str:
        made.append(new_id())
        return made[-1]

    for _ in range(20):
        target = many.propose_id(thread_id, make)
        assert many.copy(thread_id, target)
        assert many.move(target, many.propose_id(target, new_id), owner="ada")
    # One in sixteen suits.
    assert 100 < len(made) < 1_500
    assert len(many.list(owner="ada", limit=100).threads) == 20
    assert many.erase("ada") == 20


def test_an_id_of_another_partition_is_refused(
    many: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    store_thread(many, thread_id)
    before = contents(client)
    index = many._names(thread_id)[1]
    other = next(each for each in iter(new_id, None) if many._names(each)[1] != index)
    for act in (many.move, many.copy):
        with pytest.raises(StoreError, match="propose_id"):
            act(thread_id, other)
    assert contents(client) == before


def test_erasing_leaves_nothing_of_the_person(
    many: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    ids = [new_id() for _ in range(150)]
    for each in ids:
        store_thread(many, each, "Zoë")
    many.write(ids[0], Write([Clear(), SetMetadata(b"{}")]))
    # One that has expired without being noticed.
    thread, _ = many._names(ids[1])
    client.delete(thread, thread + b'."l"', thread + b'."long"')
    assert many.erase("Zoë") == 149
    assert all(client.hkeys(key) == [b"gone"] for key in client.scan_iter(_type="hash"))
    assert list(client.scan_iter(_type="string")) == []
    assert [key for key in keys_of(client) if "@" in key] == []


@pytest.mark.parametrize("owner", ["ada", "a b", "a\nb", "Zoë", "%41", "\0", "/?#", "😀" * 50])
def test_an_owner_is_stored_without_white_space(owner: str) -> None:
    encoded = encode_owner(owner)
    assert not encoded.split()[1:]
    assert encoded.isascii()
    assert decode_owner(encoded) == owner


def test_a_push_for_an_owner_takes_the_short_way(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    store_thread(store, thread_id, "ada")
    client.config_resetstat()
    store.write(thread_id, Write([Push("l", b"1")], owner="ada"))
    unread = client.info("commandstats")
    client.config_resetstat()
    snapshot = store.read(thread_id)
    assert snapshot is not None
    client.config_resetstat()
    store.write(thread_id, Write([Push("l", b"1")], seen=snapshot.seen, owner="ada"))
    read = client.info("commandstats")
    for stats in (unread, read):
        assert "cmdstat_hgetall" not in stats
        assert stats["cmdstat_hmget"]["calls"] == 1


def test_stores_read_owners_of_each_other(redis_server: RedisServer, thread_id: str) -> None:
    url = redis_server.url
    with (
        closing(RedisStore.from_url(url, timeout=PATIENCE)) as one,
        closing(RedisStore.from_url(url, timeout=PATIENCE)) as other,
    ):
        store_thread(one, thread_id, "ada")
        with pytest.raises(ThreadGone):
            other.write(thread_id, Write([Push("l", b"1")], owner="bob"))
        one.delete(thread_id)
        store_thread(other, thread_id, "bob")
        with pytest.raises(ThreadGone):
            one.write(thread_id, Write([Push("l", b"1")], owner="ada"))
