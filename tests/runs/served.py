"""The app that real servers run in these tests: its answers are numbers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, request

from flask_agentuity import Run, ThreadManager, thread_run_finished
from flask_agentuity.stores import leases


def text_of(count: int) -> str:
    """Return what an answer of *count* tokens says."""
    return "".join(f"{number} " for number in range(count))


def create_app() -> Flask:
    app = Flask("served", instance_path=os.environ["SERVED_INSTANCE"])
    app.config["SECRET_KEY"] = "served"
    leases.LEASE_SECONDS = float(os.environ.get("RUNS_LEASE", leases.LEASE_SECONDS))
    threads = ThreadManager(app, store=os.environ.get("RUNS_STORE"))
    app.register_blueprint(threads.blueprint, url_prefix="/chat")
    events = Path(os.environ["SERVED_EVENTS"])
    executor = ThreadPoolExecutor(2)

    @thread_run_finished.connect_via(app)
    def note(sender: Flask, run: Run, status: str, **extra: Any) -> None:
        with events.open("a") as file:
            file.write(json.dumps([status, run.id, os.getpid()]) + "\n")

    app.extensions["noting"] = note

    def answer(state: Any, count: int, pause: float) -> Iterator[str]:
        said = []
        try:
            for number in range(count):
                # An executor, and with it asyncio's, ends early with the interpreter.
                said.append(executor.submit(str, number).result() + " ")
                yield said[-1]
                time.sleep(pause)
        finally:
            state.push("messages", {"role": "assistant", "content": "".join(said)})

    async def answer_async(state: Any, count: int, pause: float) -> AsyncIterator[str]:
        said = []
        try:
            for number in range(count):
                said.append(f"{number} ")
                yield said[-1]
                await asyncio.sleep(pause)
        finally:
            state.push("messages", {"role": "assistant", "content": "".join(said)})

    @app.post("/chat")
    @threads.one_at_a_time(on_busy=request_option("reject"), timeout=60)
    def chat() -> Response:
        g.thread.state.push("messages", {"role": "user", "content": request.args.get("text", "")})
        count, pause = request.args.get("count", 20, int), request.args.get("pause", 0.0, float)
        function: Any = answer_async if "async" in request.args else answer
        output = function(g.thread.state, count, pause)
        response = threads.stream(output, format=request.args.get("format", "text"))  # type: ignore[arg-type]
        response.headers["X-Worker"] = str(os.getpid())
        return response

    @app.post("/wait")
    @threads.one_at_a_time(timeout=60)
    def wait() -> str:
        g.thread.state.push("messages", {"role": "user", "content": "waited"})
        return str(os.getpid())

    @app.get("/last")
    def last() -> dict[str, Any]:
        run = threads.run()
        return {"status": run.status, "text": run.text()} if run else {"status": None}

    @app.get("/messages")
    def messages() -> list[Any]:
        return list(g.thread.state.get("messages", []))

    @app.post("/delete")
    def delete() -> str:
        g.thread.destroy()
        return ""

    @app.get("/worker")
    def worker() -> str:
        return str(os.getpid())

    return app


def request_option(default: Any) -> Any:
    """Return how a busy conversation is answered; the tests say so for a whole server."""
    return os.environ.get("RUNS_ON_BUSY", default)
