"""The app that is measured: the same views for every system."""

from __future__ import annotations

import os
import time
from itertools import count
from pathlib import Path

from flask import Flask, Response, request

from .messages import TITLE, history, message
from .peers import Place, find_peer
from .peers.base import COOKIE


def make_app(key: str, place: Place) -> Flask:
    """Return the app of the system that goes by *key*."""
    app = Flask("benchmark", instance_path=str(place.folder))
    app.secret_key = "only for the benchmark"
    peer = find_peer(key)(app, place)
    numbers = count(1_000_000, 2)

    def added() -> list[dict[str, str]]:
        number = next(numbers)
        return [message(number), message(number + 1)]

    @app.get("/untouched")
    def untouched() -> str:
        return "ok"

    @app.post("/start")
    def start() -> Response:
        response = Response("started")
        id = peer.start(history(int(request.args["length"])), TITLE)
        if id is not None:
            response.set_cookie(COOKIE, id)
        return response

    @app.get("/count")
    def length() -> str:
        return str(len(peer.read()))

    @app.get("/title")
    def title() -> str:
        return peer.title()

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

    @app.post("/stream")
    def stream() -> Response:
        return Response(peer.stream(added()), mimetype="text/plain")

    return app


def from_environment() -> Flask:
    """Return the app that the environment names, for gunicorn."""
    return make_app(
        os.environ["BENCHMARK_PEER"],
        Place(Path(os.environ["BENCHMARK_FOLDER"]), os.environ.get("BENCHMARK_REDIS")),
    )
