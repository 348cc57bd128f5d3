"""SQLite by hand: a blob, a row for each message, rows of fragments."""

from __future__ import annotations

import sqlite3
import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import orjson
from flask import Flask

from ..messages import Message
from .base import Peer, Place, conversation, new_conversation, nothing

_MOST_FRAGMENTS = 64


class _ByHand(Peer):
    durability = "end of the process"
    schema: str

    def __init__(self, app: Flask, place: Place) -> None:
        self._path = place.folder / "history.db"
        self._local = threading.local()
        self._connection.executescript(self.schema)

    @property
    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=30)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._local.connection = connection
        return connection

    def _one(self, query: str, *arguments: object) -> Any:
        return self._connection.execute(query, arguments).fetchone()[0]


class Blob(_ByHand):
    """One row with the whole conversation: read, changed and written, without a lock."""

    name = "by hand: SQLite blob"
    schema = "CREATE TABLE IF NOT EXISTS blobs (id TEXT PRIMARY KEY, document BLOB)"

    def start(self, messages: list[Message], title: str) -> str | None:
        id = new_conversation()
        self._write(id, {"title": title, "messages": messages})
        return id

    def read(self) -> list[Message]:
        messages: list[Message] = self._read()["messages"]
        return messages

    def title(self) -> str:
        return str(self._read()["title"])

    def turn(self, added: list[Message], between: Callable[[], None] = nothing) -> int:
        document = self._read()
        between()
        document["messages"].extend(added)
        self._write(conversation(), document)
        return len(document["messages"])

    def push(self, message: Message) -> None:
        self.turn([message])

    def grow(self, token: str) -> str:
        document = self._read()
        last: Message = document["messages"][-1]
        last["content"] += token
        self._write(conversation(), document)
        return last["content"]

    def edit(self, message: Message) -> str:
        document = self._read()
        document["messages"][len(document["messages"]) // 2] = message
        self._write(conversation(), document)
        return message["content"]

    def _read(self) -> dict[str, Any]:
        document: dict[str, Any] = orjson.loads(
            self._one("SELECT document FROM blobs WHERE id = ?", conversation())
        )
        return document

    def _write(self, id: str, document: dict[str, Any]) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO blobs VALUES (?, ?)", (id, orjson.dumps(document))
        )


class _InRows(_ByHand):
    schema = """
        CREATE TABLE IF NOT EXISTS titles (id TEXT PRIMARY KEY, title TEXT);
        CREATE TABLE IF NOT EXISTS bodies (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL, body BLOB NOT NULL);
        CREATE INDEX IF NOT EXISTS bodies_of ON bodies (id);
    """

    def start(self, messages: list[Message], title: str) -> str | None:
        id = new_conversation()
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO titles VALUES (?, ?)", (id, title))
            self._insert(id, messages)
        return id

    def title(self) -> str:
        return str(self._one("SELECT title FROM titles WHERE id = ?", conversation()))

    def _append(self, added: list[Message]) -> None:
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            self._insert(conversation(), added)

    def turn(self, added: list[Message], between: Callable[[], None] = nothing) -> int:
        messages = self.read()
        between()
        self._append(added)
        return len(messages) + len(added)

    def push(self, message: Message) -> None:
        self._append([message])

    def _bodies(self) -> list[bytes]:
        return [body for (body,) in self._rows("body")]

    def _rows(self, columns: str) -> sqlite3.Cursor:
        return self._connection.execute(
            f"SELECT {columns} FROM bodies WHERE id = ? ORDER BY number", (conversation(),)
        )

    def _update(self, number: int, body: bytes) -> None:
        self._connection.execute("UPDATE bodies SET body = ? WHERE number = ?", (body, number))

    @abstractmethod
    def _insert(self, id: str, messages: list[Message]) -> None: ...


class Rows(_InRows):
    """A row for each message."""

    name = "by hand: SQLite rows"

    def read(self) -> list[Message]:
        return [orjson.loads(body) for body in self._bodies()]

    def grow(self, token: str) -> str:
        messages = self._numbered()
        number, last = messages[-1]
        last["content"] += token
        self._update(number, orjson.dumps(last))
        return last["content"]

    def edit(self, message: Message) -> str:
        messages = self._numbered()
        number, _ = messages[len(messages) // 2]
        self._update(number, orjson.dumps(message))
        return message["content"]

    def _numbered(self) -> list[tuple[int, Message]]:
        return [(number, orjson.loads(body)) for number, body in self._rows("number, body")]

    def _insert(self, id: str, messages: list[Message]) -> None:
        self._connection.executemany(
            "INSERT INTO bodies (id, body) VALUES (?, ?)",
            [(id, orjson.dumps(message)) for message in messages],
        )


class Fragments(_InRows):
    """Rows of several messages each, joined now and then, decoded once."""

    name = "by hand: SQLite fragments"

    def read(self) -> list[Message]:
        bodies = self._bodies()
        if len(bodies) > _MOST_FRAGMENTS:
            self._join()
        messages: list[Message] = orjson.loads(b"[%b]" % b",".join(bodies))
        return messages

    def grow(self, token: str) -> str:
        *_, (number, messages) = self._decoded()
        messages[-1]["content"] += token
        self._update(number, orjson.dumps(messages)[1:-1])
        return messages[-1]["content"]

    def edit(self, message: Message) -> str:
        fragments = self._decoded()
        place = sum(len(messages) for _, messages in fragments) // 2
        for number, messages in fragments:
            if place < len(messages):
                messages[place] = message
                self._update(number, orjson.dumps(messages)[1:-1])
                break
            place -= len(messages)
        return message["content"]

    def _decoded(self) -> list[tuple[int, list[Message]]]:
        rows = self._rows("number, body").fetchall()
        return [(number, orjson.loads(b"[%b]" % body)) for number, body in rows]

    def _insert(self, id: str, messages: list[Message]) -> None:
        self._connection.execute(
            "INSERT INTO bodies (id, body) VALUES (?, ?)", (id, orjson.dumps(messages)[1:-1])
        )

    def _join(self) -> None:
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            joined = b",".join(self._bodies())
            connection.execute("DELETE FROM bodies WHERE id = ?", (conversation(),))
            connection.execute(
                "INSERT INTO bodies (id, body) VALUES (?, ?)", (conversation(), joined)
            )
