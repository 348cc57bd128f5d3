"""The Python code of the README; ``test_readme`` compares it."""

from __future__ import annotations

from typing import Any

from flask import Flask, g, request

from flask_agentuity import ThreadManager

app = Flask(__name__)
ThreadManager(app)


def answer(messages: list[Any]) -> str:
    return f"Message {len(messages)} received."  # call your model here


@app.post("/chat")
def chat() -> dict[str, Any]:
    messages = g.thread.state.setdefault("messages", [])
    messages.append({"role": "user", "content": request.json["text"]})
    messages.append({"role": "assistant", "content": answer(messages)})
    return {"messages": messages}


def use_operations(message: dict[str, str], event: dict[str, int], cost: int) -> None:
    from flask_agentuity import current_thread

    state = current_thread.state
    state.push("messages", message, max_records=50, keep_first=1)
    state.push("events", event, unique="id")
    state.increment("visits")
    state.truncate("messages", keep=4)
    state.pop_last("messages")
    state.change("budget", lambda budget: (budget or 100) - cost)
