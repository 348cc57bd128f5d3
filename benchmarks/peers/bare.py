"""Flask by itself, and with its cookie session."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from flask import Flask, session

from ..messages import TITLE, Message
from .base import Peer, Place, new_conversation, nothing


class BareFlask(Peer):
    """Keeps nothing: what any request costs."""

    name = "bare Flask"
    durability = "nothing is kept"
    has_history = False

    def __init__(self, app: Flask, place: Place) -> None:
        pass

    def start(self, messages: list[Message], title: str) -> str | None:
        # Flask parses the cookies of any request: they are no part of what a system costs.
        return new_conversation()

    def read(self) -> list[Message]:
        return []

    def title(self) -> str:
        return TITLE

    def turn(self, added: list[Message], between: Callable[[], None] = nothing) -> int:
        between()
        return len(added)

    def push(self, message: Message) -> None:
        pass


class CookieSession(Peer):
    """Flask's own session: a signed cookie of at most 4 KB."""

    name = "cookie session"
    durability = "the browser's"
    most_messages: ClassVar[int | None] = 10

    def __init__(self, app: Flask, place: Place) -> None:
        pass

    def start(self, messages: list[Message], title: str) -> str | None:
        session["messages"], session["title"] = messages, title
        return None

    def read(self) -> list[Message]:
        messages: list[Message] = session["messages"]
        return messages

    def title(self) -> str:
        return str(session["title"])

    def turn(self, added: list[Message], between: Callable[[], None] = nothing) -> int:
        messages = self.read()
        between()
        messages.extend(added)
        session.modified = True
        return len(messages)

    def push(self, message: Message) -> None:
        self.turn([message])
