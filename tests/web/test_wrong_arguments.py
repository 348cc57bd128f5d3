"""Numbers and filters that a client has made up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import g, jsonify, request

from flask_agentuity import AgentuityError, InvalidArgument, InvalidCursor

from .owned_app import OwnedApp

CALLS: dict[str, Callable[[OwnedApp, Any], object]] = {
    "mine": lambda owned, value: owned.threads.mine(limit=value).threads,
    "list": lambda owned, value: owned.threads.list(limit=value).threads,
    "fork": lambda owned, value: owned.threads.fork(keep={"messages": value}).id,
    "truncate": lambda owned, value: g.thread.state.truncate("messages", value),
    "increment": lambda owned, value: g.thread.state.increment("count", value),
    "filter": lambda owned, value: owned.threads.mine({"topic": value}).threads,
    "filter of all": lambda owned, value: owned.threads.list({"topic": value}).threads,
    "whole": lambda owned, value: owned.threads.mine(value).threads,
    "whole of all": lambda owned, value: owned.threads.list(value).threads,
    "metadata": lambda owned, value: owned.threads.fork(metadata=value).id,
    "keep": lambda owned, value: owned.threads.fork(keep=value).id,
}

WRONG: dict[str, list[Any]] = {
    "mine": [0, -1, "3", "x" * 5_000, 1.5, None, True],
    "list": [0, -1, "3", None],
    "fork": [-1, "3", 1.5, None, True],
    "truncate": [-1, "3", 1.5, None, True],
    "increment": ["3", None, True, float("inf"), float("nan")],
    "filter": [["a"], {"a": 1}, 2**70, float("nan")],
    "filter of all": [["a"]],
    "whole": [5, "topic", ["topic"], [["topic", "a"]], True],
    "whole of all": [5, "topic", ["topic"], [["topic", "a"]], True],
    "metadata": [5, "topic", ["topic"], [["topic", "a"]], True],
    "keep": [5, "messages", ["messages"], [["messages", 1]], True],
}


def add_view(owned: OwnedApp) -> None:
    owned.app.testing = False

    @owned.app.post("/call/<name>")
    def call(name: str) -> Any:
        return jsonify(str(CALLS[name](owned, request.get_json()["value"])))


@pytest.mark.parametrize("name", WRONG)
def test_it_is_a_bad_request(name: str) -> None:
    owned = OwnedApp("memory://")
    add_view(owned)
    client = owned.client("ada")
    owned.begin(client, "hello")
    for value in WRONG[name]:
        response = client.post(f"/call/{name}", json={"value": value})
        assert response.status_code == 400, value
        assert len(response.text) < 400
    assert "it must be" in response.text or "cannot be stored" in response.text or "filter" in name
    right: Any = "billing" if name.startswith("filter") else 1
    if name.startswith(("whole", "keep", "metadata")):
        right = {}
    assert client.post(f"/call/{name}", json={"value": right}).status_code == 200


def test_a_guest_is_answered_in_the_same_way() -> None:
    owned = OwnedApp("memory://")
    add_view(owned)
    client = owned.client()
    for value in (0, "3"):
        assert client.post("/call/mine", json={"value": value}).status_code == 400
    assert client.post("/call/filter", json={"value": ["a"]}).status_code == 400
    assert client.post("/call/mine", json={"value": 20}).status_code == 200


def test_a_limit_that_is_no_number_is_the_default() -> None:
    """As the documentation reads it from a query."""
    owned = OwnedApp("memory://")
    owned.app.testing = False

    @owned.app.get("/page")
    def page() -> str:
        return str(owned.threads.mine(limit=request.args.get("limit", 20, type=int)))

    client = owned.client("ada")
    statuses = {
        text: client.get("/page", query_string={"limit": text}).status_code
        for text in ("abc", "", "5", "0", "-1", "99999999999999999999", "1e3")
    }
    assert [text for text, status in statuses.items() if status == 400] == ["0", "-1"]
    assert set(statuses.values()) == {200, 400}


@pytest.mark.parametrize("handled", [InvalidArgument, AgentuityError, ValueError])
def test_the_app_can_answer_it(handled: type[Exception]) -> None:
    owned = OwnedApp("memory://")
    add_view(owned)
    owned.app.register_error_handler(handled, lambda error: (f"handled: {error}", 422))
    response = owned.client("ada").post("/call/mine", json={"value": 0})
    assert (response.status_code, response.text) == (
        422,
        "handled: limit=0 is wrong: it must be an integer from 1 on.",
    )


def test_a_cursor_is_such_an_argument() -> None:
    owned = OwnedApp("memory://")
    owned.app.register_error_handler(InvalidArgument, lambda error: ("argument", 422))

    @owned.app.get("/page")
    def page() -> str:
        return str(owned.threads.mine(cursor="abc"))

    assert owned.client("ada").get("/page").text == "argument"
    assert issubclass(InvalidCursor, InvalidArgument)
