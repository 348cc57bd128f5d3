"""What happens to a conversation at its size limit."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, g, request

from flask_agentuity import (
    AgentuityError,
    StateTooLarge,
    ThreadManager,
    TooManyKeys,
    current_thread,
    thread_save_failed,
)
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.testing.client import ThreadTestClient

LIMIT = 10_000


def make_app(**config: Any) -> Flask:
    app = Flask("full")
    app.config.update(
        SECRET_KEY="tested",
        AGENTUITY_THREAD_STORE="memory://",
        AGENTUITY_THREAD_MAX_BYTES=LIMIT,
        **config,
    )
    app.test_client_class = ThreadTestClient
    ThreadManager(app)

    @app.post("/say")
    def say() -> str:
        g.thread.state.push("messages", "." * int(request.args["length"]))
        if "save" in request.args:
            g.thread.save()
        return "said"

    @app.post("/stream")
    def stream() -> Response:
        thread = g.thread
        thread.state.push("messages", "question")

        def generate() -> Iterator[str]:
            yield "answer"
            thread.state.push("messages", "." * LIMIT)

        return Response(generate())

    @app.get("/count")
    def count() -> str:
        return str(len(g.thread.state.get("messages", [])))

    return app


class Failures:
    def __init__(self, app: Flask) -> None:
        self.errors: list[BaseException] = []
        thread_save_failed.connect(self.note, app)

    def note(self, sender: Flask, error: BaseException, **extra: Any) -> None:
        self.errors.append(error)


@pytest.mark.parametrize("path", ["/say?length=10000", "/say?length=10000&save"])
def test_a_full_conversation_is_not_answered_as_if_it_were_stored(path: str) -> None:
    app = make_app()
    failures, client = Failures(app), app.test_client()
    assert client.post("/say?length=10").status_code == 200
    response = client.post(path)
    assert response.status_code == 413
    assert "full" in response.text
    assert [type(error) for error in failures.errors] == [StateTooLarge]
    assert client.get("/count").text == "1"
    assert client.post("/say?length=10").status_code == 200


def test_a_first_request_that_is_too_large_begins_no_conversation() -> None:
    client = make_app().test_client()
    response = client.post("/say?length=10000")
    assert response.status_code == 413
    assert "Set-Cookie" not in response.headers


def test_the_app_may_prefer_a_log(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(AGENTUITY_THREAD_ON_TOO_LARGE="log")
    failures, client = Failures(app), app.test_client()
    assert client.post("/say?length=10000").status_code == 200
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert [type(error) for error in failures.errors] == [StateTooLarge]
    # Who calls save() is told.
    assert client.post("/say?length=10000&save").status_code == 413


@pytest.mark.parametrize("kind", [StateTooLarge, AgentuityError, ValueError])
def test_the_app_may_answer_itself(kind: type[Exception]) -> None:
    app = make_app()

    @app.errorhandler(kind)
    def answer(error: Exception) -> tuple[str, int]:
        assert isinstance(error, StateTooLarge)
        return f"{error.size} of {error.limit}", 507

    expected = 413 if kind is ValueError else 507
    assert app.test_client().post("/say?length=10000").status_code == expected


def test_a_stream_that_cannot_be_stored_is_cut() -> None:
    app = make_app()
    failures, client = Failures(app), app.test_client()
    response = client.post("/stream", buffered=False)
    assert response.status_code == 200
    received: list[Any] = []
    with pytest.raises(StateTooLarge):
        received.extend(response.response)
    assert received == [b"answer"]
    assert [type(error) for error in failures.errors] == [StateTooLarge]
    assert client.get("/count").text == "1"


def test_a_stream_goes_on_where_the_app_prefers_a_log(caplog: pytest.LogCaptureFixture) -> None:
    client = make_app(AGENTUITY_THREAD_ON_TOO_LARGE="log").test_client()
    assert client.post("/stream").text == "answer"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_one_warning_comes_at_80_percent(caplog: pytest.LogCaptureFixture) -> None:
    client = make_app().test_client()
    for length in (4000, 3800, 300, 10, 10):
        assert client.post(f"/say?length={length}").status_code == 200
        assert [record.levelname for record in caplog.records] == ["WARNING"] * (length < 3000)
    assert client.thread_id in caplog.text  # type: ignore[attr-defined]


def test_a_view_can_see_how_full_its_conversation_is() -> None:
    app = make_app()

    @app.get("/size")
    def size() -> dict[str, int | None]:
        return {"size": current_thread.size, "limit": current_thread.max_size}

    client = app.test_client()
    client.post("/say?length=1000")
    found: Any = client.get("/size").json
    assert 1000 < found["size"] < 1100
    assert found["limit"] == LIMIT


def test_a_wrong_setting_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"AGENTUITY_THREAD_ON_TOO_LARGE='drop'.*log, raise"):
        make_app(AGENTUITY_THREAD_ON_TOO_LARGE="drop")


def test_a_state_with_too_many_keys_is_too_large() -> None:
    app = Flask("keys")
    app.config.update(SECRET_KEY="tested")
    store = MemoryStore()
    store.max_keys = 3
    ThreadManager(app, store=store)
    failures: list[Exception] = []

    def note(sender: Flask, error: Exception, **more: Any) -> None:
        failures.append(error)

    @app.post("/<int:count>")
    def add(count: int) -> str:
        for number in range(count):
            g.thread.state[f"key {number}"] = number
        return str(len(g.thread.state))

    client = app.test_client()
    with thread_save_failed.connected_to(note):
        answers = [client.post(f"/{count}") for count in (3, 4, 2)]
    assert [answer.status_code for answer in answers] == [200, 413, 200]
    assert answers[2].text == "3"
    assert [type(error) for error in failures] == [TooManyKeys]
    copied = pickle.loads(pickle.dumps(failures[0]))
    assert (str(copied), copied.size) == (str(failures[0]), 4)
