"""Streamed answers that continue without their client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from flask import Flask, Response, g

from flask_agentuity import Run, ThreadManager, ThreadState, thread_run_finished

app = Flask(__name__)
threads = ThreadManager(app)
app.register_blueprint(threads.blueprint, url_prefix="/chat")


def answer(state: ThreadState) -> Iterator[str | dict[str, Any]]:
    yield "text"
    yield {"tool": "call"}
    state.push("messages", "text")


async def answer_async() -> AsyncIterator[bytes]:
    yield b"text"


@app.post("/chat")
@threads.one_at_a_time(on_busy="reject")
def chat() -> Response:
    return threads.stream(answer(g.thread.state), format="sse")


@app.post("/async")
def chat_async() -> Response:
    return threads.stream(answer_async())


@app.get("/last")
def last() -> dict[str, str]:
    run = threads.run()
    if run is None:
        return {}
    status: Literal["running", "done", "stopped", "failed", "interrupted"] = run.status
    return {"id": run.id, "status": status, "text": run.text(), "started": str(run.started)}


@app.post("/stop")
def stop() -> str:
    return str(threads.stop(g.thread) or threads.stop("thrd_0123456789abcdef0123456789abcdef"))


@thread_run_finished.connect_via(app)
def note(sender: Flask, run: Run, status: str, **extra: Any) -> None:
    print(sender.name, run.id, status)
