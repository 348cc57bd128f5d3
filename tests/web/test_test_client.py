"""The test client that users get: it continues a thread of the test's choice."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, g
from support.visitor import visitor

from flask_agentuity import ThreadManager
from flask_agentuity.testing import ThreadTestClient
from flask_agentuity.web.thread_ids import make_thread_id


def make_app(manager: ThreadManager) -> Flask:
    app = Flask("tested")
    app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://", TESTING=True)
    app.test_client_class = ThreadTestClient
    manager.init_app(app)

    @app.get("/count")
    def count() -> dict[str, Any]:
        g.thread.state["count"] = g.thread.state.get("count", 0) + 1
        return {"count": g.thread.state["count"]}

    return app


@pytest.fixture
def app() -> Flask:
    return make_app(ThreadManager())


def test_it_continues_a_thread(app: Flask) -> None:
    given = make_thread_id()
    client = visitor(app, thread_id=given, state={"count": 1}, metadata={"owner": "ada"})
    assert client.thread_id == given
    assert client.get("/count").json == {"count": 2}
    with client.thread() as thread:
        assert thread.metadata == {"owner": "ada"}
        thread.state["count"] = 10
    assert client.get("/count").json == {"count": 11}
    with pytest.raises(LookupError, match=r"no thread yet"), visitor(app).thread():
        pass


def test_each_test_may_make_its_own_app() -> None:
    """With one manager in a module and a function that makes apps, as in the tutorial."""
    manager = ThreadManager()
    apps = [make_app(manager) for _ in range(2)]
    clients = [visitor(app, state={"count": number}) for number, app in enumerate(apps)]
    for number, client in enumerate(clients):
        assert client.get("/count").json == {"count": number + 1}
        with client.thread() as thread:
            assert thread.state["count"] == number + 1


def test_an_owner_needs_a_thread(app: Flask) -> None:
    with pytest.raises(TypeError, match=r"pass state= or metadata="):
        visitor(app, owner="ada")
    client = visitor(app, state={}, metadata={"title": "Ada's"}, owner="ada")
    with client.thread() as thread:
        assert thread.owner == "ada"
