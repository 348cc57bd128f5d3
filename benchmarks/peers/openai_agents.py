"""The OpenAI Agents SDK's SQLiteSession."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

from agents import SQLiteSession
from flask import Flask

from ..messages import Message
from .base import Peer, Place, conversation, new_conversation, nothing


class OpenAIAgents(Peer):
    """A row for each item, and nothing but items."""

    name = "OpenAI Agents, SQLite"
    durability = "power failure"
    left_out: ClassVar[Mapping[str, str]] = {
        "title": "a SQLiteSession has no keys",
        "edit": "a SQLiteSession can replace only its last item",
    }

    def __init__(self, app: Flask, place: Place) -> None:
        self._path = place.folder / "agents.db"

    def start(self, messages: list[Message], title: str) -> str | None:
        id = new_conversation()
        self._append(id, messages)
        return id

    def read(self) -> list[Message]:
        async def read(session: SQLiteSession) -> list[Any]:
            return cast(list[Any], await session.get_items())

        messages: list[Message] = self._use(conversation(), read)
        return messages

    def title(self) -> str:
        raise NotImplementedError(self.left_out["title"])

    def turn(self, added: list[Message], between: Callable[[], None] = nothing) -> int:
        async def take(session: SQLiteSession) -> int:
            messages = await session.get_items()
            between()
            await session.add_items(cast(Any, added))
            return len(messages) + len(added)

        return int(self._use(conversation(), take))

    def push(self, message: Message) -> None:
        self._append(conversation(), [message])

    def grow(self, token: str) -> str:
        async def replace_last(session: SQLiteSession) -> str:
            last = cast(Message, (await session.get_items())[-1])
            last["content"] += token
            await session.pop_item()
            await session.add_items(cast(Any, [last]))
            return last["content"]

        return str(self._use(conversation(), replace_last))

    def edit(self, message: Message) -> str:
        raise NotImplementedError(self.left_out["edit"])

    def _append(self, id: str, messages: list[Message]) -> None:
        async def append(session: SQLiteSession) -> None:
            await session.add_items(cast(Any, messages))

        self._use(id, append)

    def _use(self, id: str, work: Callable[[SQLiteSession], Any]) -> Any:
        session = SQLiteSession(id, self._path)
        try:
            return asyncio.run(work(session))
        finally:
            session.close()
