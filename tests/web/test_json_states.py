"""States in JSON, as the app's provider renders them."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import date
from typing import Any

import pytest
from flask import Flask, Response, g, jsonify, render_template_string
from flask.json.provider import DefaultJSONProvider, JSONProvider

from flask_agentuity import ThreadManager, current_thread

STATE = {"messages": [{"role": "user", "content": "<é>"}], "count": 3}
TEMPLATE = "{{ g.thread.state|tojson }}"


class Decorating(DefaultJSONProvider):
    """A provider of an app that knows one more type."""

    @staticmethod
    def default(value: Any) -> Any:
        return sorted(value) if isinstance(value, set) else DefaultJSONProvider.default(value)


class Plain(JSONProvider):
    """A provider without a function for other types."""

    def dumps(self, obj: Any, **options: Any) -> str:
        return json.dumps(obj, **options)

    def loads(self, s: str | bytes, **options: Any) -> Any:
        return json.loads(s, **options)


class Slotted(Plain):
    """A provider with a function for other types that cannot be replaced."""

    default = property(lambda self: lambda value: value)


def make_app(provider: type[JSONProvider] | None, *, late: bool = False) -> Flask:
    app = Flask("json")
    app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
    if provider is not None and not late:
        app.json = provider(app)
    threads = ThreadManager(app)
    if provider is not None and late:
        app.json = provider(app)

    @app.before_request
    def fill() -> None:
        g.thread.state.update(STATE)

    @app.get("/jsonify")
    def answer() -> Response:
        return jsonify(g.thread.state)

    @app.get("/inside")
    def inside() -> Any:
        return {"of": [current_thread.state], "on": date(2030, 1, 1)}

    @app.get("/template")
    def template() -> str:
        return render_template_string(TEMPLATE)

    @app.get("/opened")
    def opened() -> Any:
        with threads.open(g.thread.id) as thread:
            thread.state["more"] = 1
            return {"state": thread.state}

    @app.get("/copies")
    def copies() -> Any:
        state = g.thread.state
        found = [copy.copy(state), copy.deepcopy(state), state.copy()]
        found.append(pickle.loads(pickle.dumps(state)))
        for each in found:
            assert type(each) is dict
            each["messages"].append("of the copy")
        return jsonify(state)

    return app


@pytest.mark.parametrize("provider", [None, DefaultJSONProvider, Decorating])
@pytest.mark.parametrize("late", [False, True])
def test_states_are_objects(provider: type[JSONProvider] | None, late: bool) -> None:
    client = make_app(provider, late=late).test_client()
    assert client.get("/jsonify").json == STATE
    inside: Any = client.get("/inside").json
    assert inside["of"] == [STATE]
    assert "2030" in inside["on"]
    template = client.get("/template").text
    assert json.loads(template) == STATE
    assert "<" not in template
    assert client.get("/copies").json == STATE
    assert client.get("/opened").json == {"state": {**STATE, "more": 1}}


def test_other_types_are_as_before() -> None:
    app = make_app(Decorating)
    with app.test_request_context():
        assert app.json.loads(app.json.dumps({"names": {"b", "a"}})) == {"names": ["a", "b"]}
        with pytest.raises(TypeError, match="object"):
            app.json.dumps(object())


@pytest.mark.parametrize("provider", [Plain, Slotted])
def test_a_provider_that_cannot_is_left_as_it_is(provider: type[JSONProvider]) -> None:
    app = make_app(provider)
    assert app.test_client().get("/template").status_code == 500
    with app.test_request_context():
        assert app.json.dumps({"a": 1}) == '{"a": 1}'


def test_outside_a_request() -> None:
    app = Flask("command")
    app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
    threads = ThreadManager(app)
    with app.app_context(), threads.open(create=True) as thread:
        thread.state["a"] = 1
        assert json.loads(app.json.dumps(thread.state)) == {"a": 1}
