"""An app with conversations that belong to people, who log in with Flask-Login."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Request, Response, g, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user

from flask_agentuity import ThreadIDProvider, ThreadManager
from flask_agentuity.stores import ListedThread, ThreadStore
from flask_agentuity.testing import ThreadTestClient
from flask_agentuity.web.app_threads import AppThreads, threads_of


class User(UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


class FromQuery(ThreadIDProvider):
    """Takes the id from the query, if there is one."""

    def get_thread_id(self, app: Flask, request: Request) -> str | None:
        return request.args.get("id")

    def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        response.headers["x-given"] = thread_id


def without_owner(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return *metadata* without the owner, which a thread service keeps there."""
    return {key: value for key, value in metadata.items() if key != "owner"}


class OwnedApp:
    """The app, and what tests do to it."""

    def __init__(self, store: ThreadStore | str, **config: Any) -> None:
        self.app = app = Flask("tested")
        app.config.update({"SECRET_KEY": "tested", "TESTING": True} | config)
        app.test_client_class = ThreadTestClient
        self.threads = threads = ThreadManager(app, store=store)
        login = LoginManager(app)
        login.user_loader(User)
        threads.owner_loader(lambda: current_user.get_id())
        self._add_login()
        self._add_views()

    @property
    def threads_of_app(self) -> AppThreads:
        return threads_of(self.app)

    @property
    def store(self) -> ThreadStore:
        return self.threads_of_app.store

    def client(self, person: str | None = None, **options: Any) -> ThreadTestClient:
        """Return the browser of a person; None for a guest."""
        client = self.app.test_client(**options)
        assert isinstance(client, ThreadTestClient)
        if person is not None:
            assert client.get(f"/login/{person}").text == person
        return client

    def begin(self, client: ThreadTestClient, message: str) -> str:
        """Have *client* begin a conversation, and return its id."""
        return str(client.post("/new", json=message).get_json()["id"])

    def threads_of_all(self) -> list[ListedThread]:
        """Return all stored threads."""
        return self.threads.list(limit=100).threads

    def _add_login(self) -> None:
        @self.app.get("/login/<name>")
        def login(name: str) -> str:
            login_user(User(name))
            return name

        @self.app.get("/logout")
        def logout() -> str:
            logout_user()
            return ""

    def _add_views(self) -> None:
        app, threads = self.app, self.threads

        def show() -> Response:
            state = dict(g.thread.state)
            return jsonify(id=g.thread.id, owner=g.thread.owner, state=state)

        def push() -> str:
            g.thread.state.push("messages", "pushed")
            return ""

        def read_id() -> str:
            return str(g.thread.id)

        def read_metadata() -> Response:
            return jsonify(without_owner(g.thread.metadata))

        def destroy() -> str:
            g.thread.destroy()
            return ""

        @threads.one_at_a_time()
        def take_turn() -> str:
            return ""

        used: list[Callable[[], Any]] = [show, push, read_id, read_metadata, destroy, take_turn]
        for view in used:
            app.add_url_rule(f"/{view.__name__}", view.__name__, view)

            def at_url(conversation: str, view: Callable[[], Any] = view) -> Any:
                return view()

            path = f"/c/<thread:conversation>/{view.__name__}"
            app.add_url_rule(path, f"c_{view.__name__}", at_url)

        @app.get("/c/<thread:conversation>")
        def untouched(conversation: str) -> str:
            return "a page"

        @app.get("/c/<thread:conversation>/open")
        def opened(conversation: str) -> str:
            with threads.open(conversation) as thread:
                thread.state.push("messages", "pushed")
            return ""

        @app.post("/new")
        def new() -> Response:
            thread = threads.new()
            thread.state["messages"] = [request.json]
            thread.metadata["title"] = request.json
            return jsonify(id=thread.id)

        @app.get("/new_page")
        def new_page() -> ResponseReturnValue:
            return redirect(url_for("c_show", conversation=threads.new()))

        @app.get("/select")
        def select() -> Response:
            threads.select(request.args["id"])
            return show()

        @app.get("/delete")
        def delete() -> str:
            threads.delete(request.args["id"])
            return ""

        @app.get("/fork")
        def fork() -> Response:
            copied = threads.fork(request.args.get("id"))
            return jsonify(id=copied.id, owner=copied.owner, state=dict(copied.state))

        @app.get("/claim/<name>")
        def claim(name: str) -> Response:
            login_user(User(name))
            threads.claim()
            return show()

        @app.get("/rotate")
        def rotate() -> Response:
            threads.rotate()
            return show()

        @app.get("/answer")
        def answer() -> Response:
            return threads.stream(iter([str(g.thread.state["messages"][0])]))

        @app.get("/run")
        def run() -> Response:
            found = threads.run(request.args["id"])
            return jsonify(stopped=threads.stop(request.args["id"]), text=found and found.text())

        app.register_blueprint(threads.blueprint, url_prefix="/runs", name="runs")
        app.register_blueprint(threads.blueprint, url_prefix="/c/<thread:conversation>/runs")

        @app.get("/mine")
        def mine() -> Response:
            return jsonify([listed.id for listed in threads.mine().threads])
