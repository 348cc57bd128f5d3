"""The OpenAI Agents SDK's SQLiteSession."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from agents import SQLiteSession
from flask import Flask

from ..messages import Message
from .base import Peer, Place, conversation, new_conversation, nothing


class OpenAIAgents(Peer):
    """A row for each item; it knows items only, so no small key."""

    name = "OpenAI Agents, SQLite"
    durability = "power failure"
    has_small_keys = False

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
        raise NotImplementedError("A SQLiteSession has no keys.")

    def turn(self, added: list[Message], between: Callable[[], None] = nothing) -> int:
        async def take(session: SQLiteSession) -> int:
            messages = await session.get_items()
            between()
            await session.add_items(cast(Any, added))
            return len(messages) + len(added)

        return int(self._use(conversation(), take))

    def push(self, message: Message) -> None:
        self._append(conversation(), [message])

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
