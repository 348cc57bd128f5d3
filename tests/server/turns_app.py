"""The app of test_turns: views that take turns, and that wait for a file before they go on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, request

from flask_agentuity import ThreadManager
from flask_agentuity.stores import leases

CHUNK = b"." * 65_536


def create_app() -> Flask:
    app = Flask("turns", instance_path=os.environ["SERVED_INSTANCE"])
    app.config["SECRET_KEY"] = "turns"
    leases.LEASE_SECONDS = float(os.environ.get("TURNS_LEASE", leases.LEASE_SECONDS))
    events = Path(os.environ["SERVED_EVENTS"])
    threads = ThreadManager(app, store=os.environ.get("TURNS_STORE"))

    def note(event: str, mark: str | None) -> None:
        with events.open("a") as file:
            file.write(json.dumps([event, mark]) + "\n")

    @app.before_request
    def arrive() -> None:
        note("arrived", request.args.get("mark"))

    @app.get("/mine")
    def mine() -> Any:
        return dict(g.thread.state)

    @app.post("/mine")
    def begin() -> str:
        g.thread.state["begun"] = True
        return "begun"

    @app.get("/stream")
    @threads.one_at_a_time()
    def stream() -> Response:
        state, mark = g.thread.state, request.args["mark"]
        note("begin", mark)

        def generate() -> Iterator[bytes]:
            yield f"{os.getpid()}\n".encode()
            while not (events.parent / f"gate-{mark}").exists():
                time.sleep(0.01)
            state.push("messages", mark)
            note("end", mark)
            yield b"done"

        return Response(generate())

    @app.get("/endless")
    @threads.one_at_a_time()
    def endless() -> Response:
        def generate() -> Iterator[bytes]:
            while True:
                yield CHUNK

        return Response(generate())

    @app.get("/wait")
    @threads.one_at_a_time(timeout=60, max_waiting=20)
    def wait() -> Any:
        mark = request.args["mark"]
        note("begin", mark)
        g.thread.state.push("messages", mark)
        messages = list(g.thread.state["messages"])
        note("end", mark)
        return messages

    @app.get("/impatient")
    @threads.one_at_a_time(timeout=0.3)
    def impatient() -> str:
        return "impatient"

    @app.get("/reject")
    @threads.one_at_a_time("reject")
    def reject() -> str:
        return "rejected none"

    @app.get("/free")
    def free() -> Any:
        return list(g.thread.state.get("messages", []))

    return app
