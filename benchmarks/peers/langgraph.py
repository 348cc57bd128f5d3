"""LangGraph's SQLite checkpointer, used without a graph: the least it can cost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from flask import Flask
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite import SqliteSaver

from ..messages import Message
from .base import Peer, Place, conversation, new_conversation, nothing


class LangGraph(Peer):
    """A checkpoint with the whole state at each turn."""

    name = "LangGraph, SQLite"
    durability = "power failure"

    def __init__(self, app: Flask, place: Place) -> None:
        connection = sqlite3.connect(
            place.folder / "checkpoints.db", check_same_thread=False, timeout=30
        )
        self._saver = SqliteSaver(connection)
        self._saver.setup()

    def start(self, messages: list[Message], title: str) -> str | None:
        id = new_conversation()
        self._put(_configuration(id), {"messages": messages, "title": title}, 0)
        return id

    def read(self) -> list[Message]:
        messages: list[Message] = self._get()[1]["messages"]
        return messages

    def title(self) -> str:
        return str(self._get()[1]["title"])

    def turn(self, added: list[Message], between: Callable[[], None] = nothing) -> int:
        configuration, values, step = self._get()
        between()
        values["messages"].extend(added)
        self._put(configuration, values, step + 1)
        return len(values["messages"])

    def push(self, message: Message) -> None:
        self.turn([message])

    def grow(self, token: str) -> str:
        configuration, values, step = self._get()
        last: Message = values["messages"][-1]
        last["content"] += token
        self._put(configuration, values, step + 1)
        return last["content"]

    def edit(self, message: Message) -> str:
        configuration, values, step = self._get()
        values["messages"][len(values["messages"]) // 2] = message
        self._put(configuration, values, step + 1)
        return message["content"]

    def _get(self) -> tuple[Any, dict[str, Any], int]:
        found = self._saver.get_tuple(_configuration(conversation()))
        assert found is not None
        return found.config, found.checkpoint["channel_values"], found.metadata["step"]

    def _put(self, configuration: Any, values: dict[str, Any], step: int) -> None:
        versions: dict[str, str | int | float] = {"messages": step, "title": 0}
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"], checkpoint["channel_versions"] = values, versions
        self._saver.put(configuration, checkpoint, {"source": "loop", "step": step}, versions)


def _configuration(id: str) -> Any:
    return {"configurable": {"thread_id": id, "checkpoint_ns": ""}}
