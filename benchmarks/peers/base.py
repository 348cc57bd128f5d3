"""What a system has to do in the benchmark's app."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from flask import Flask, request, stream_with_context

from ..messages import Message

COOKIE = "conversation"


@dataclass(frozen=True)
class Place:
    """Where a system may keep things: a folder of its own, and a Redis if there is one."""

    folder: Path
    redis_url: str | None


def nothing() -> None:
    """Pass no time between reading and writing."""


class Peer(ABC):
    """One system, used as its documentation says; the methods run within a request."""

    name: ClassVar[str]
    #: What an acknowledged write survives.
    durability: ClassVar[str]
    needs_redis: ClassVar[bool] = False
    #: The longest history it can hold.
    most_messages: ClassVar[int | None] = None
    has_small_keys: ClassVar[bool] = True
    has_history: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, app: Flask, place: Place) -> None:
        """Bind the system to *app*."""

    @abstractmethod
    def start(self, messages: list[Message], title: str) -> str | None:
        """Begin a conversation; return its id where the app has to set the cookie itself."""

    @abstractmethod
    def read(self) -> list[Message]:
        """Return the history."""

    @abstractmethod
    def title(self) -> str:
        """Return one small value beside the history."""

    @abstractmethod
    def turn(self, added: list[Message], between: Callable[[], None] = nothing) -> int:
        """Read the history, append to it, return its length; *between* is called in between."""

    @abstractmethod
    def push(self, message: Message) -> None:
        """Append without using the history."""

    def stream(self, added: list[Message]) -> Iterator[str]:
        """Keep the question, stream the answer, and keep that after its last chunk."""
        self.turn(added[:1])

        def generate() -> Iterator[str]:
            for start in range(0, len(added[1]["content"]), 20):
                yield added[1]["content"][start : start + 20]
            self.push(added[1])

        return stream_with_context(generate())


def new_conversation() -> str:
    """Return an id that nobody can guess."""
    return uuid.uuid4().hex


def conversation() -> str:
    """Return the id in this request's cookie."""
    return request.cookies[COOKIE]
