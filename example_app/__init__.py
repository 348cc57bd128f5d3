"""A chat that remembers: what a person says, and the answers, streamed word by word."""

from collections.abc import Iterator

from flask import Flask, Response, abort, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flask_agentuity import ThreadManager

from .responder import respond

threads = ThreadManager()


def create_app() -> Flask:
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
        state = g.thread.state
        state.push("messages", {"role": "user", "content": text})
        history = list(state["messages"])

        def stream() -> Iterator[str]:
            words = []
            try:
                for word in respond(history):
                    words.append(word)
                    yield word
            finally:
                # Also when the person leaves in the middle: what was said is remembered.
                state.push("messages", {"role": "assistant", "content": "".join(words)})

        return Response(stream(), mimetype="text/plain")

    @app.post("/new")
    def new() -> AnyResponse:
        threads.new()
        return redirect(url_for("show"))

    return app
