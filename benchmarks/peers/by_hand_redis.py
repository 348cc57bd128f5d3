"""Redis by hand: a list, and a string that is appended to."""

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

    def grow(self, token: str) -> str:
        last = self.read()[-1]
        last["content"] += token
        self._redis.lset(f"messages:{conversation()}", -1, orjson.dumps(last).decode())
        return last["content"]

    def edit(self, message: Message) -> str:
        middle = len(self.read()) // 2
        self._redis.lset(f"messages:{conversation()}", middle, orjson.dumps(message).decode())
        return message["content"]

    def _append(self, id: str, messages: list[Message]) -> None:
        self._redis.rpush(f"messages:{id}", *map(orjson.dumps, messages))


class RedisAppend(RedisList):
    """A string with the messages, each followed by a comma."""

    name = "by hand: Redis APPEND"

    def read(self) -> list[Message]:
        messages: list[Message] = orjson.loads(b"[%b]" % self._text()[:-1])
        return messages

    def grow(self, token: str) -> str:
        text = self._text()
        last: Message = orjson.loads(b"[%b]" % text[:-1])[-1]
        place = len(text) - len(orjson.dumps(last)) - 1
        last["content"] += token
        self._redis.setrange(
            f"messages:{conversation()}", place, (orjson.dumps(last) + b",").decode()
        )
        return last["content"]

    def edit(self, message: Message) -> str:
        messages = self.read()
        messages[len(messages) // 2] = message
        self._redis.set(f"messages:{conversation()}", orjson.dumps(messages)[1:-1] + b",")
        return message["content"]

    def _text(self) -> bytes:
        return cast(bytes, self._redis.get(f"messages:{conversation()}"))

    def _append(self, id: str, messages: list[Message]) -> None:
        self._redis.append(f"messages:{id}", orjson.dumps(messages)[1:-1] + b",")
