"""Redis by hand: a list, and a string that grows by APPEND."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import orjson
import redis
from flask import Flask

from ..messages import Message
from .base import Peer, Place, conversation, new_conversation, nothing


class RedisList(Peer):
    """A list with an item for each message, and a key for the title."""

    name = "by hand: Redis list"
    durability = "Redis's; here memory only"
    needs_redis = True

    def __init__(self, app: Flask, place: Place) -> None:
        assert place.redis_url is not None
        self._redis = redis.Redis.from_url(place.redis_url)

    def start(self, messages: list[Message], title: str) -> str | None:
        id = new_conversation()
        self._redis.set(f"title:{id}", title)
        self._append(id, messages)
        return id

    def read(self) -> list[Message]:
        items = cast(list[bytes], self._redis.lrange(f"messages:{conversation()}", 0, -1))
        messages: list[Message] = orjson.loads(b"[%b]" % b",".join(items))
        return messages

    def title(self) -> str:
        title = cast(bytes, self._redis.get(f"title:{conversation()}"))
        return title.decode()

    def turn(self, added: list[Message], between: Callable[[], None] = nothing) -> int:
        messages = self.read()
        between()
        self._append(conversation(), added)
        return len(messages) + len(added)

    def push(self, message: Message) -> None:
        self._append(conversation(), [message])

    def _append(self, id: str, messages: list[Message]) -> None:
        self._redis.rpush(f"messages:{id}", *map(orjson.dumps, messages))


class RedisAppend(RedisList):
    """A string with the messages, each followed by a comma."""

    name = "by hand: Redis APPEND"

    def read(self) -> list[Message]:
        text = cast(bytes, self._redis.get(f"messages:{conversation()}"))
        messages: list[Message] = orjson.loads(b"[%b]" % text[:-1])
        return messages

    def _append(self, id: str, messages: list[Message]) -> None:
        self._redis.append(f"messages:{id}", orjson.dumps(messages)[1:-1] + b",")
