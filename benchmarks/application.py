"""The app that is measured: the same views for every system."""

from __future__ import annotations

import os
import time
from itertools import count
from pathlib import Path

from flask import Flask, Response, request

from .messages import TITLE, history, message, token
from .peers import Place, find_peer
from .peers.base import COOKIE, Peer

#: The key of the app's extensions under which the adapter is found.
PEER = "benchmark.peer"


def make_app(key: str, place: Place) -> Flask:
    """Return the app of the system with this key."""
    app = Flask("benchmark", instance_path=str(place.folder))
    app.secret_key = "only for the benchmark"
    app.extensions[PEER] = peer = find_peer(key)(app, place)
    _add_reading(app, peer)
    _add_writing(app, peer)
    return app


def _add_reading(app: Flask, peer: Peer) -> None:
    @app.get("/untouched")
    def untouched() -> str:
        return "ok"

    @app.get("/count")
    def length() -> str:
        return str(len(peer.read()))

    @app.get("/last")
    def last() -> str:
        return peer.read()[-1]["content"]

    @app.get("/middle")
    def middle() -> str:
        messages = peer.read()
        return messages[len(messages) // 2]["content"]

    @app.get("/title")
    def title() -> str:
        return peer.title()


def _add_writing(app: Flask, peer: Peer) -> None:
    numbers = count(1_000_000, 2)

    def added() -> list[dict[str, str]]:
        number = next(numbers)
        return [message(number), message(number + 1)]

    @app.post("/start")
    def start() -> Response:
        response = Response("started")
        id = peer.start(history(int(request.args["length"])), TITLE)
        if id is not None:
            response.set_cookie(COOKIE, id)
        return response

    @app.post("/turn")
    def turn() -> str:
        return str(peer.turn(added()))

    @app.post("/append")
    def append() -> str:
        return str(peer.turn(added()[:1], lambda: time.sleep(float(request.args["pause"]))))

    @app.post("/push")
    def push() -> str:
        peer.push(added()[0])
        return "ok"

    @app.post("/grow")
    def grow() -> str:
        return peer.grow(token(next(numbers) // 2))

    @app.post("/edit")
    def edit() -> str:
        return peer.edit(added()[0])

    @app.post("/stream")
    def stream() -> Response:
        return Response(peer.stream(added()), mimetype="text/plain")


def from_environment() -> Flask:
    """Return the app that the environment names, for gunicorn."""
    return make_app(
        os.environ["BENCHMARK_PEER"],
        Place(Path(os.environ["BENCHMARK_FOLDER"]), os.environ.get("BENCHMARK_REDIS")),
    )
