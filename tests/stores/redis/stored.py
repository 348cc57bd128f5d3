"""What tests of the Redis store look for in Redis itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import redis

from flask_agentuity.document.operations import Set
from flask_agentuity.stores.redis.store import RedisStore

from ..conformance import new_id

#: About 190 bytes, as in the measurements of the design.
MESSAGE = b'{"role":"user","content":"%b"}' % (b"x" * 162)


def name(thread_id: str, key: str | None = None) -> str:
    """Return the name of a thread's hash, or of the string of one of its keys."""
    return f"agentuity:{{0}}:{thread_id}" + ("" if key is None else f'."{key}"')


def contents(client: redis.Redis) -> dict[bytes, object]:
    """Return everything that is stored, by the names of keys."""
    read: dict[Any, Callable[[bytes], object]] = {
        b"hash": client.hgetall,
        b"string": client.get,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"list": lambda key: client.lrange(key, 0, -1),
    }
    return {key: read[client.type(key)](key) for key in client.scan_iter()}


def string(client: redis.Redis, thread_id: str, key: str = "l") -> bytes:
    """Return the string of one key."""
    value = client.get(name(thread_id, key))
    assert isinstance(value, bytes)
    return value


def fill(store: RedisStore, count: int, metadata: Mapping[str, Any]) -> list[str]:
    """Store *count* new threads with *metadata*, and return their ids."""
    ids = [new_id() for _ in range(count)]
    for thread_id in ids:
        store.merge(thread_id, [Set("a", b"1")], metadata)
    return ids
