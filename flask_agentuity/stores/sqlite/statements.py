"""The statements of a write: run at once, or collected before the write lock is taken."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class NotSeen(Exception):
    """The statements of a write depend on something that its request has not seen."""


class Statements(Protocol):
    """Runs the statements that change and find the rows of a thread."""

    def run(self, statement: str, arguments: Sequence[Any]) -> None:
        """Change rows."""

    def insert(self, statement: str, arguments: Sequence[Any]) -> int:
        """Insert a row and return its number.

        :raises NotSeen: if statements are only collected.
        """

    def select(self, statement: str, arguments: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
        """Find rows.

        :raises NotSeen: if statements are only collected.
        """


class DirectStatements:
    """Statements that run at once, inside a transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, statement: str, arguments: Sequence[Any]) -> None:
        self._connection.execute(statement, arguments)

    def insert(self, statement: str, arguments: Sequence[Any]) -> int:
        number = self._connection.execute(statement, arguments).lastrowid
        assert number is not None
        return number

    def select(self, statement: str, arguments: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
        return self._connection.execute(statement, arguments)


class CollectedStatements:
    """Statements that are collected, to run later if nothing has changed until then."""

    __slots__ = ("collected",)

    def __init__(self) -> None:
        self.collected: list[tuple[str, Sequence[Any]]] = []

    def run(self, statement: str, arguments: Sequence[Any]) -> None:
        self.collected.append((statement, arguments))

    def insert(self, statement: str, arguments: Sequence[Any]) -> int:
        raise NotSeen

    def select(self, statement: str, arguments: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
        raise NotSeen
