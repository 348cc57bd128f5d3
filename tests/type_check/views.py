"""Views with the decorators and the methods of a manager."""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_type

from flask import Flask, g, redirect, url_for
from flask.typing import ResponseReturnValue

from flask_agentuity import JSONValue, Thread, ThreadManager, ThreadNotFound, current_thread

app = Flask(__name__)
threads = ThreadManager(app)


@threads.exempt
@app.get("/health")
def health() -> str:
    return "ok"


@app.post("/turn")
@threads.one_at_a_time(on_busy="reject", timeout=5)
def turn(count: int = 1) -> str:
    return str(count)


# The decorators keep the types of the views.
assert_type(health(), str)
assert_type(turn(count=2), str)


# Owners


@threads.owner_loader
def load_owner() -> str | None:
    return "ada"


assert_type(load_owner(), str | None)


@threads.owner_loader
def load_number() -> int:
    return 5


@app.get("/c/<thread:conversation>")
def show(conversation: str) -> dict[str, Any]:
    assert_type(current_thread.owner, str | None)
    return {"id": conversation, "title": g.thread.metadata["title"]}


@app.post("/login")
def login() -> ResponseReturnValue:
    assert_type(threads.claim(), Thread)
    assert_type(threads.rotate(), Thread)
    return redirect(url_for("show", conversation=current_thread))


def use_conversations(other: Thread) -> None:
    assert_type(threads.select(other), Thread)
    assert_type(threads.fork(other.id, keep={"messages": 2}, metadata={"title": "x"}), Thread)
    try:
        threads.delete("thrd_0123456789abcdef0123456789abcdef")
    except ThreadNotFound as error:
        print(error.thread_id)
    assert_type(threads.erase(5), int)
    for listed in threads.mine(limit=5).threads:
        assert_type(listed.owner, str | None)
        assert_type(listed.updated_at, datetime)
    threads.list({"topic": "x"}, owner="ada")
    threads.owner_loader(lambda: 1.5)  # type: ignore[type-var]


def shorten(value: JSONValue) -> JSONValue:
    if isinstance(value, str):
        return value[:10]
    if isinstance(value, list):
        return [shorten(each) for each in value]
    return value


current_thread.state["short"] = shorten({"a": [1, "two", None]})
