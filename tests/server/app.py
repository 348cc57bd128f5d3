"""The app that is served here; each of its views is one way out of a request."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from flask import (
    Flask,
    Response,
    abort,
    g,
    jsonify,
    redirect,
    request,
    send_file,
    stream_with_context,
)
from flask.typing import ResponseReturnValue
from werkzeug.test import create_environ

from flask_agentuity import ThreadManager, current_thread
from flask_agentuity.web import events as signals

HERE = Path(__file__).parent
CHUNK = b"." * 65_536


class Refused(Exception):
    """An error that the app has a handler for."""


def create_app(instance: str | None = None, events: str | None = None, **config: Any) -> Flask:
    """Make the app; a server process finds what it needs in the environment."""
    app = Flask(
        "served",
        instance_path=instance or os.environ["SERVED_INSTANCE"],
        static_folder=str(HERE),
        static_url_path="/static",
        root_path=str(HERE),
    )
    app.config.update(config)
    ThreadManager(app)
    events = events or os.environ.get("SERVED_EVENTS")
    if events:
        record_events(app, Path(events))
    for add_views in (add_plain_views, add_streams, add_failures, add_hooks):
        add_views(app)
    return app


def record_events(app: Flask, path: Path) -> None:
    """Append a line to *path* for each signal, named as the request's X-Name says."""

    @app.before_request
    def name_session() -> None:
        if name := request.headers.get("X-Name"):
            g.session.metadata["name"] = name

    def recorder(event: str) -> Callable[..., None]:
        def record(sender: Flask, session: Any, error: BaseException | None, **extra: Any) -> None:
            name = session.metadata.get("name") if session else None
            line = json.dumps([event, name, type(error).__name__ if error else None])
            with path.open("a") as file:
                file.write(line + "\n")

        return record

    for signal in (
        signals.session_completed,
        signals.thread_created,
        signals.thread_save_failed,
        signals.thread_restore_failed,
    ):
        signal.connect(recorder(signal.name), app, weak=False)


def hold_write_lock(path: Path, seconds: float) -> None:
    """Keep the store's file busy, so that a save has to wait that long."""
    held = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            held.set()
            threading.Event().wait(seconds)
            connection.execute("ROLLBACK")

    threading.Thread(target=hold).start()
    held.wait()


def add_plain_views(app: Flask) -> None:
    @app.get("/plain")
    def plain() -> str:
        return "plain"

    @app.get("/state")
    def state() -> Response:
        return jsonify(dict(g.thread.state))

    @app.post("/state")
    def update() -> str:
        g.thread.state.update(request.get_json())
        return "updated"

    @app.post("/push")
    def push() -> str:
        g.thread.state.push("messages", request.get_data(as_text=True))
        return "pushed"

    @app.post("/redirect")
    def go_on() -> Any:
        g.thread.state.push("messages", request.get_data(as_text=True))
        return redirect("/state", 303)

    @app.route("/file", methods=["GET", "POST"])
    def file() -> Response:
        if mark := request.args.get("mark"):
            g.thread.state["mark"] = mark
        return send_file(HERE / "app.py", conditional=True, etag=True)

    @app.get("/worker")
    def worker() -> str:
        return str(os.getpid())

    @app.get("/wrapped")
    def wrapped() -> dict[str, bool]:
        """Say which bodies the server can send in its own way."""
        wrapper = request.environ["wsgi.file_wrapper"]
        found = {}
        for path in ("/file", "/file?mark=1", "/stream?mark=1"):
            environ = create_environ(path) | {"wsgi.file_wrapper": wrapper}
            body = app(environ, lambda *arguments: lambda data: None)
            found[path] = isinstance(body, wrapper)
            getattr(body, "close", lambda: None)()
        return found

    @app.get("/empty")
    def empty() -> Any:
        g.thread.state["mark"] = request.args["mark"]
        return "", 204

    @app.get("/not-modified")
    def not_modified() -> ResponseReturnValue:
        g.thread.state["mark"] = request.args["mark"]
        response = Response("the same")
        response.set_etag("same")
        return response.make_conditional(request)


def add_streams(app: Flask) -> None:
    @app.post("/grow")
    def grow() -> Response:
        """Answer by growing the last message in place, as most chats are written."""
        messages = g.thread.state.setdefault("messages", [])
        name, turn = request.get_data(as_text=True).split()
        messages.append({"role": "user", "content": f"{name} {turn}"})
        messages.append({"role": "assistant", "content": ""})

        def answer() -> Iterator[str]:
            for part in range(8):
                token = f"{name}{turn}.{part} "
                messages[-1]["content"] += token
                yield token

        return Response(answer(), mimetype="text/plain")

    @app.get("/stream")
    def stream() -> Response:
        """A stream; the arguments say how it is made and where it fails."""
        thread, mark = g.thread, request.args["mark"]
        fails_at = request.args.get("fails_at", type=int)
        busy = "busy" in request.args
        parts = [f"data: {index}\n\n".encode() for index in range(3)]

        def generate() -> Iterator[bytes]:
            for index, part in enumerate(parts):
                thread.state["during"] = f"{mark} {index}"
                if index == fails_at:
                    raise RuntimeError("in the middle of a stream")
                yield part
            if busy:
                hold_write_lock(Path(app.instance_path) / "agentuity_threads.db", 0.1)
            thread.state["after"] = mark
            if "context" in request_arguments:
                current_thread.state.push("messages", mark)
                g.thread.state["by_g"] = mark

        thread.state["before"] = mark
        request_arguments = request.args
        body = generate()
        response = Response(
            stream_with_context(body) if "context" in request.args else body,
            mimetype="text/event-stream" if "sse" in request.args else "application/octet-stream",
            status=request.args.get("status", 200, type=int),
            direct_passthrough="direct" in request.args,
        )
        if "length" in request.args:
            response.content_length = sum(map(len, parts))
        return response

    @app.get("/endless")
    def endless() -> Response:
        thread, mark = g.thread, request.args["mark"]

        def generate() -> Iterator[bytes]:
            try:
                while True:
                    thread.state["during"] = mark
                    yield CHUNK
            finally:
                thread.state["finally"] = mark

        thread.state["before"] = mark
        body = generate()
        return Response(stream_with_context(body) if "context" in request.args else body)

    @app.get("/late")
    def late() -> Response:
        mark = request.args["mark"]

        def generate() -> Iterator[str]:
            yield "begun "
            g.thread.state["late"] = mark
            yield "done"

        return Response(stream_with_context(generate()))


def add_failures(app: Flask) -> None:
    @app.get("/fail")
    def fail() -> str:
        g.thread.state["mark"] = request.args["mark"]
        if "save" in request.args:
            g.thread.save()
            g.thread.state["after_save"] = request.args["mark"]
        raise RuntimeError("the view fails")

    @app.get("/abort/<int:code>")
    def give_up(code: int) -> str:
        g.thread.state["mark"] = request.args["mark"]
        abort(code)

    @app.get("/handled")
    def handled() -> str:
        g.thread.state["mark"] = request.args["mark"]
        raise Refused

    @app.errorhandler(Refused)
    def refuse(error: Refused) -> Any:
        return "refused", 409

    @app.get("/status/<int:code>")
    def status(code: int) -> Any:
        g.thread.state["mark"] = request.args["mark"]
        return "as the view says", code


def add_hooks(app: Flask) -> None:
    """Do what other extensions do, and do wrong."""

    @app.before_request
    def answer_early() -> Any:
        if "early" in request.args:
            g.thread.state["early"] = request.args["early"]
            return "early"
        return None

    @app.after_request
    def fail_after(response: Response) -> Response:
        if "after_request" in request.args:
            raise RuntimeError("an after_request function fails")
        return response
