"""The app of benchmarks.streams: one answer, streamed as Flask does it and as a run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, request

from flask_agentuity import ThreadManager

#: How many bytes each token has; it begins with the time at which it was made.
TOKEN_BYTES = 24


def create_app() -> Flask:
    """Make the app; the environment says where it keeps its threads."""
    folder = Path(os.environ["BENCHMARK_FOLDER"])
    app = Flask("streams", instance_path=str(folder / "instance"))
    app.config["SECRET_KEY"] = "benchmark"
    app.config["AGENTUITY_RUN_MAX_READERS"] = 1_000
    threads = ThreadManager(app, store=os.environ.get("BENCHMARK_STORE") or None)
    app.register_blueprint(threads.blueprint, url_prefix="/chat")

    def answer(state: Any, count: int, pause: float) -> Iterator[str]:
        said = []
        for _ in range(count):
            if pause:
                time.sleep(pause)
            said.append(f"{time.monotonic():<{TOKEN_BYTES}.6f}"[:TOKEN_BYTES])
            yield said[-1]
        state.push("messages", "".join(said), max_records=4)

    @app.after_request
    def tell_worker(response: Response) -> Response:
        response.headers["X-Worker"] = str(os.getpid())
        return response

    @app.post("/plain")
    @threads.one_at_a_time(on_busy="reject")
    def plain() -> Response:
        g.thread.state.push("messages", "question", max_records=4)
        count, pause = request.args.get("count", 500, int), request.args.get("pause", 0.0, float)
        return Response(answer(g.thread.state, count, pause), mimetype="text/plain")

    @app.post("/bare")
    def bare() -> Response:
        """Stream without a thread, for comparison."""
        count, pause = request.args.get("count", 500, int), request.args.get("pause", 0.0, float)

        def speak() -> Iterator[str]:
            for _ in range(count):
                if pause:
                    time.sleep(pause)
                yield f"{time.monotonic():<{TOKEN_BYTES}.6f}"[:TOKEN_BYTES]

        return Response(speak(), mimetype="text/plain")

    @app.post("/run")
    @threads.one_at_a_time(on_busy="reject")
    def run() -> Response:
        g.thread.state.push("messages", "question", max_records=4)
        count, pause = request.args.get("count", 500, int), request.args.get("pause", 0.0, float)
        return threads.stream(answer(g.thread.state, count, pause))

    return app
