"""What a system has to do in the benchmark's app."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from flask import Flask, request, stream_with_context

from ..messages import Message

COOKIE = "conversation"


@dataclass(frozen=True)
class Place:
    """Where a system may store things: its folder, and a Redis server if there is one."""

    folder: Path
    redis_url: str | None


def nothing() -> None:
    """Do nothing between reading and writing."""


class Peer(ABC):
    """One system, used as its documentation suggests. The methods run within a request."""

    name: ClassVar[str]
    #: What an acknowledged write survives.
    durability: ClassVar[str]
    needs_redis: ClassVar[bool] = False
    #: The longest history it can hold; None if there is no limit.
    most_messages: ClassVar[int | None] = None
    has_history: ClassVar[bool] = True
    #: The scenarios that are left out, each with the reason.
    left_out: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def __init__(self, app: Flask, place: Place) -> None:
        """Bind the system to *app*."""

    def settle(self) -> None:  # noqa: B027 - most have nothing to do
        """Finish what requests have left to the background. Called between requests."""

    @abstractmethod
    def start(self, messages: list[Message], title: str) -> str | None:
        """Start a conversation; return its id if the app has to set the cookie."""

    @abstractmethod
    def read(self) -> list[Message]:
        """Return the history."""

    @abstractmethod
    def title(self) -> str:
        """Return one small value beside the history."""

    @abstractmethod
    def turn(self, added: list[Message], between: Callable[[], None] = nothing) -> int:
        """Read the history, call *between*, append to the history, and return its length."""

    @abstractmethod
    def push(self, message: Message) -> None:
        """Append one message without using the history."""

    @abstractmethod
    def grow(self, token: str) -> str:
        """Read the history, append *token* to the text of its last message, return that text."""

    @abstractmethod
    def edit(self, message: Message) -> str:
        """Read the history, replace the message in its middle, return the new one's text."""

    def stream(self, added: list[Message]) -> Iterator[str]:
        """Store the question, stream the answer, and store that after its last chunk."""
        self.turn(added[:1])

        def generate() -> Iterator[str]:
            for start in range(0, len(added[1]["content"]), 20):
                yield added[1]["content"][start : start + 20]
            self.push(added[1])

        return stream_with_context(generate())


def new_conversation() -> str:
    """Return an id that cannot be guessed."""
    return uuid.uuid4().hex


def conversation() -> str:
    """Return the id in this request's cookie."""
    return request.cookies[COOKIE]
