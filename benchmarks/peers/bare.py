"""Flask by itself, and with its cookie session."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from flask import Flask, session

from ..messages import TITLE, Message
from .base import Peer, Place, new_conversation, nothing


class BareFlask(Peer):
    """Stores nothing: what any request costs."""

    name = "bare Flask"
    durability = "nothing is stored"
    has_history = False

    def __init__(self, app: Flask, place: Place) -> None:
        pass

    def start(self, messages: list[Message], title: str) -> str | None:
        # Flask parses the cookies of any request, so they do not count as a cost of a system.
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

    def grow(self, token: str) -> str:
        return token

    def edit(self, message: Message) -> str:
        return message["content"]


class CookieSession(Peer):
    """Flask's own session: a signed cookie of at most 4 KB."""

    name = "cookie session"
    durability = "what the browser does with cookies"
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

    def grow(self, token: str) -> str:
        last = self.read()[-1]
        last["content"] += token
        session.modified = True
        return last["content"]

    def edit(self, message: Message) -> str:
        messages = self.read()
        messages[len(messages) // 2] = message
        session.modified = True
        return message["content"]
