"""Threads with many fields, which are taken one by one as they arrive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from support.redis_server import RedisServer

from flask_agentuity.document.operations import Push, Set
from flask_agentuity.document.packed import PackedState
from flask_agentuity.errors import StoreError, ThreadGone
from flask_agentuity.stores.redis import line
from flask_agentuity.stores.redis.many_fields import MANY_FIELDS, ManyFields
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Write, Written

from ..conformance import new_id

COUNT = MANY_FIELDS + 100
LONG = b'"%b"' % (b"x" * 2_000)


# With health checks, the methods of redis-py read the replies.
@pytest.fixture(params=["protocol=2", "protocol=3", "protocol=3&health_check_interval=60"])
def url(request: pytest.FixtureRequest, redis_server: RedisServer) -> str:
    return f"{redis_server.url}?{request.param}"


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    with closing(RedisStore.from_url(url)) as store:
        yield store


@pytest.fixture
def thread_id(store: RedisStore) -> str:
    thread_id = new_id()
    keys = [Set(f"k{number}", b"%d" % number) for number in range(COUNT)]
    store.merge(thread_id, [Set("long", LONG), *keys, Push("l", b"1"), Push("l", b"2")], {"m": 1})
    return thread_id


def fields_name(store: RedisStore, thread_id: str) -> bytes:
    return store._names(thread_id)[0]


@pytest.mark.parametrize("keys", [None, [], ["k7"], ["l", "k7", "long", "missing"]])
@pytest.mark.parametrize("guarded", [True, False])
def test_the_wanted_values_are_there(
    store: RedisStore, thread_id: str, keys: list[str] | None, guarded: bool
) -> None:
    snapshot = store.read_for("ada", thread_id, keys) if guarded else store.read(thread_id, keys)
    assert snapshot is not None
    assert isinstance(snapshot.encoded, PackedState)
    assert list(snapshot.encoded) == ["long", *(f"k{number}" for number in range(COUNT)), "l"]
    assert snapshot.encoded["k7"] == b"7"
    assert snapshot.encoded["long"] == (LONG if keys is None or "long" in keys else None)
    assert snapshot.encoded["l"] == (b"[1,2]" if keys is None or "l" in keys else None)
    assert snapshot.metadata == b'{"m":1}'


def test_a_write_uses_what_was_read(store: RedisStore, thread_id: str) -> None:
    snapshot = store.read(thread_id, ["l"])
    assert snapshot is not None
    write = Write([Push("l", b"3")], snapshot.version, snapshot.seen, counted=["l"])
    written = store.write(thread_id, write)
    assert isinstance(written, Written)
    assert written.preceding == {"l": 2}
    found = store.read(thread_id, ["l"])
    assert found is not None
    assert found.encoded["l"] == b"[1,2,3]"


def test_a_push_to_the_thread_of_another_person_is_refused(store: RedisStore) -> None:
    thread_id = new_id()
    keys = [Set(f"k{number}", b"1") for number in range(COUNT)]
    store.write(thread_id, Write([*keys, Push("l", b"1")], owner="ada"))
    snapshot = store.read(thread_id, ["l"])
    assert snapshot is not None
    assert snapshot.owner == "ada"
    write = Write([Push("l", b"2")], snapshot.version, snapshot.seen, owner="eve")
    with pytest.raises(ThreadGone):
        store.write(thread_id, write)
    foreign = store.read_for("eve", thread_id)
    assert foreign is not None
    assert (foreign.owner, dict(foreign.encoded)) == ("ada", {})


@pytest.mark.parametrize("keys", [None, ["k7", "l"]])
@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("head", None),
        ("head", b"1 2 3"),
        ('"k7"', b"x 0 =7"),
        ('"k7"', b"%d 0 =7" % 2**70),
        ('"k7', b"9 0 =7"),
        ('"l"', b"9 0 |99 2 0 1"),
    ],
)
def test_damage_is_reported_and_the_connection_stays(
    store: RedisStore,
    redis_server: RedisServer,
    thread_id: str,
    field: str,
    text: bytes | None,
    keys: list[str] | None,
) -> None:
    with closing(redis_server.client()) as client:
        name = fields_name(store, thread_id)
        if text is None:
            client.hdel(name, field)
            client.hdel(name, "metadata")
            client.hset(name, "gone", "1 1")
        else:
            client.hset(name, field, text)
        with pytest.raises(StoreError, match="damaged"):
            store.read(thread_id, keys)
    assert store.read(new_id(), keys) is None


@pytest.mark.parametrize("keys", [None, ["k7", "l"]])
def test_a_reply_may_arrive_in_pieces(
    store: RedisStore,
    url: str,
    thread_id: str,
    keys: list[str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = store.read(thread_id, keys)
    monkeypatch.setattr(line, "_KEPT_BUFFER", 37)
    with closing(RedisStore.from_url(url)) as in_pieces:
        for _ in range(2):
            assert in_pieces.read(thread_id, keys) == expected


def test_entries_are_put_in_order() -> None:
    long, items = (b'"a"', b"2 0 *7", b'"long!"'), (b'"b"', b"1 0 |6 2 1 1", b"[1\n22]")
    fields = ManyFields([long, (b"head", b"h", b""), items])
    assert dict(fields) == {b"head": b"h"}
    assert dict(fields.state) == {"b": b"[1,22]", "a": b'"long!"'}


class FirstBytes:
    """A socket from which the first read returns only 4 bytes. It stands for the network."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole
        self._is_first = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def recv_into(self, buffer: bytearray, size: int = 0) -> int:
        if self._is_first:
            self._is_first, size = False, 4
        return int(self._whole.recv_into(buffer, size))


def test_the_rest_of_an_earlier_reply_is_not_taken_for_a_part_of_the_length(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first packet may end just behind the length of a short list."""
    pytest.importorskip("hiredis")

    def receive_first(self: line.Line) -> int:
        # As a list of 1,000 elements leaves it.
        self._buffer[:7] = b"*1000\r\n"
        monkeypatch.setattr(self, "_sock", FirstBytes(self._sock))
        return original(self)

    original = line.Line._receive_first
    few = new_id()
    with closing(RedisStore.from_url(redis_server.url)) as store:
        store.write(few, Write([Set("a", b"1")], owner="ada"))
        monkeypatch.setattr(line.Line, "_receive_first", receive_first)
        found = store.read_for("ada", few)
    assert found is not None
    assert dict(found.encoded) == {"a": b"1"}
