"""A chat with many conversations, whose answers appear word by word and survive a reload."""

import os
import secrets
import textwrap
from collections.abc import Iterator
from pathlib import Path

from flask import Flask, Response, abort, g, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue

from flask_agentuity import Run, ThreadManager, ThreadState

from .responder import respond

threads = ThreadManager()


@threads.owner_loader
def load_visitor() -> str:
    """Return who the visitor is. With accounts: ``return current_user.get_id()``."""
    session.permanent = True
    visitor: str = session.setdefault("visitor", secrets.token_hex(16))
    return visitor


def create_app() -> Flask:
    """Create the app. Its threads are kept where ``AGENTUITY_THREAD_STORE`` says."""
    app = Flask(__name__)
    app.secret_key = os.environ.get("SECRET_KEY") or stored_secret(Path(app.instance_path))
    threads.init_app(app)
    # Reads and stops answers that are under way.
    app.register_blueprint(threads.blueprint, url_prefix="/c/<thread:conversation>")

    @app.get("/")
    def begin() -> str:
        return render_page(title="New conversation", messages=[])

    @app.post("/conversations")
    def new() -> Response:
        thread = threads.new()
        thread.metadata["title"] = textwrap.shorten(question(), 60, placeholder="…")
        response = answer()
        response.headers["Content-Location"] = url_for("show", conversation=thread)
        return response

    @app.get("/c/<thread:conversation>")
    def show(conversation: str) -> str:
        # First the run: if it ends meanwhile, the page reads the messages again.
        run = threads.run()
        messages = g.thread.state.get("messages", [])
        return render_page(g.thread.metadata.get("title", ""), messages, conversation, run)

    @app.post("/c/<thread:conversation>/messages")
    @threads.one_at_a_time(on_busy="reject")
    def reply(conversation: str) -> Response:
        return answer()

    @app.post("/c/<thread:conversation>/title")
    def rename(conversation: str) -> ResponseReturnValue:
        if title := request.form.get("title", "").strip():
            g.thread.metadata["title"] = title[:60]
        return redirect(url_for("show", conversation=conversation))

    @app.post("/c/<thread:conversation>/delete")
    def delete(conversation: str) -> ResponseReturnValue:
        g.thread.destroy()
        return redirect(url_for("begin"))

    return app


def render_page(
    title: str,
    messages: list[dict[str, str]],
    conversation: str | None = None,
    run: Run | None = None,
) -> str:
    """Render the page of a conversation, with the list of all."""
    page = threads.mine(limit=30, cursor=request.args.get("older"))
    return render_template(
        "chat.html", title=title, messages=messages, conversation=conversation, page=page, run=run
    )


def question() -> str:
    """Return the text that the visitor has sent."""
    return request.form.get("text", "").strip() or abort(400, "There is no text to answer.")


def answer() -> Response:
    """Add the visitor's question to the conversation, and stream the answer."""
    messages = g.thread.state.setdefault("messages", [])
    asked = {"id": request.form.get("id", ""), "role": "user", "content": question()}
    if asked in messages:
        # A retry: the answer that was interrupted gives way.
        del messages[messages.index(asked) + 1 :]
    else:
        messages.append(asked)
    return threads.stream(generate(g.thread.state, list(messages)))


def generate(state: ThreadState, history: list[dict[str, str]]) -> Iterator[str]:
    """Yield the answer, and add it to the conversation."""
    said = []
    try:
        for word in respond(history):
            said.append(word)
            yield word
    finally:
        # Saved as well if the answer is stopped or its worker ends, but not if it raises.
        state.push("messages", {"role": "assistant", "content": "".join(said)})


def stored_secret(folder: Path) -> str:
    """Return the secret that signs cookies, which is made once. In production, set SECRET_KEY."""
    path = folder / "secret_key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_text()
