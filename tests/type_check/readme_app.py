"""The app of the README, with annotations."""

from __future__ import annotations

from typing import Any, assert_type

from flask import Flask, g, request

from flask_agentuity import ThreadManager

app = Flask(__name__)
threads = ThreadManager(app)


def answer(messages: list[Any]) -> str:
    return f"You have said {len(messages)} things."


@app.post("/chat")
def chat() -> dict[str, Any]:
    messages = g.thread.state.setdefault("messages", [])
    messages.append({"role": "user", "content": request.json["text"]})
    messages.append({"role": "assistant", "content": answer(messages)})
    return {"messages": messages}


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
