"""A cursor that a client has made up."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from flask import request

from flask_agentuity import AgentuityError, InvalidCursor

from .owned_app import OwnedApp

LISTINGS: dict[str, Callable[[OwnedApp, str], object]] = {
    "mine": lambda owned, cursor: owned.threads.mine(cursor=cursor).threads,
    "list": lambda owned, cursor: owned.threads.list(cursor=cursor).threads,
}


def add_view(owned: OwnedApp, call: str) -> None:
    owned.app.testing = False

    @owned.app.get("/page")
    def page() -> str:
        return str(LISTINGS[call](owned, request.args["cursor"]))


@pytest.mark.parametrize("call", LISTINGS)
def test_it_is_a_bad_request(owned: OwnedApp, call: str) -> None:
    add_view(owned, call)
    client = owned.client("ada")
    owned.begin(client, "hello")
    for cursor in ("abc", "é", "WyJuYW4iLCJ4Il0", "x" * 5_000):
        response = client.get("/page", query_string={"cursor": cursor})
        assert response.status_code == 400
        assert "This is not the cursor of a page." in response.text
    assert client.get("/page?cursor=").status_code == 200


@pytest.mark.parametrize("handled", [InvalidCursor, AgentuityError, ValueError])
def test_the_app_can_answer_it(handled: type[Exception]) -> None:
    owned = OwnedApp("memory://")
    add_view(owned, "mine")
    owned.app.register_error_handler(handled, lambda error: (f"handled: {error}", 422))
    response = owned.client("ada").get("/page?cursor=abc")
    assert (response.status_code, response.text) == (
        422,
        "handled: 'abc' is not the cursor of a listing.",
    )


def test_the_error_is_short_and_can_be_pickled() -> None:
    error = InvalidCursor("x" * 5_000)
    assert isinstance(error, ValueError)
    assert len(str(error)) < 150
    assert pickle.loads(pickle.dumps(error)).cursor == error.cursor
