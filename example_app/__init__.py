"""A chat that remembers its conversations and streams its answers word by word."""

from collections.abc import Iterator

from flask import Flask, Response, abort, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from flask_agentuity import ThreadManager

from .responder import respond

threads = ThreadManager()


def create_app() -> Flask:
    """Create the app. Its threads are kept where ``AGENTUITY_THREAD_STORE`` says."""
    app = Flask(__name__)
    threads.init_app(app)

    @app.get("/")
    def show() -> str:
        messages = g.thread.state.get("messages", [])
        return render_template("chat.html", messages=messages, thread_id=g.thread.id)

    @app.post("/messages")
    def answer() -> Response:
        text = request.form.get("text", "").strip()
        if not text:
            abort(400, "There is no text to answer.")
        messages = g.thread.state.setdefault("messages", [])
        messages.append({"role": "user", "content": text})
        history = list(messages)
        messages.append({"role": "assistant", "content": ""})

        def stream() -> Iterator[str]:
            # The thread is saved again when this ends, also if the client has disconnected.
            for word in respond(history):
                messages[-1]["content"] += word
                yield word

        return Response(stream(), mimetype="text/plain")

    @app.post("/new")
    def new() -> ResponseReturnValue:
        threads.new()
        return redirect(url_for("show"))

    return app
