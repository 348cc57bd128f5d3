"""Runs belong to threads, and threads to their owners, whatever way a request comes in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Request, Response, g, request
from werkzeug.test import TestResponse

from flask_agentuity import ThreadIDProvider, ThreadManager
from flask_agentuity.testing import ThreadTestClient

from .answers import Answer, Chat


class House:
    """An app with people, whose conversations have URLs."""

    def __init__(self, **config: Any) -> None:
        app = Flask("house")
        app.config.update({"SECRET_KEY": "x", "AGENTUITY_THREAD_STORE": "memory://", **config})
        app.test_client_class = ThreadTestClient
        self.app = app
        self.threads = threads = ThreadManager(app)
        self.answer = Answer()
        threads.owner_loader(lambda: request.headers.get("X-Person"))
        app.register_blueprint(threads.blueprint, url_prefix="/c/<thread:conversation>")
        app.register_blueprint(threads.blueprint, url_prefix="/mine", name="mine")

        @app.post("/new")
        def new() -> Response:
            thread = threads.new()
            thread.metadata["title"] = "secret"
            response = threads.stream(self.answer.generate())
            response.headers["X-Conversation"] = thread.id
            return response

        @app.post("/c/<thread:conversation>/messages")
        def reply(conversation: str) -> Response:
            return threads.stream(self.answer.generate())

    def client(self) -> ThreadTestClient:
        client = self.app.test_client()
        assert isinstance(client, ThreadTestClient)
        return client


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.answer.finish()
    house.client().finish_runs()


def begin(house: House, client: ThreadTestClient, person: str) -> tuple[TestResponse, str]:
    house.answer.say("secret")
    response = client.post("/new", headers={"X-Person": person}, buffered=False)
    assert response.status_code == 200
    return response, response.headers["X-Conversation"]


def test_the_owner_finds_the_run_by_its_url(house: House) -> None:
    response, thread_id = begin(house, house.client(), "ada")
    # From another machine, without a cookie.
    other = house.client()
    ada = {"X-Person": "ada"}
    assert other.get(f"/c/{thread_id}/status", headers=ada).json["status"] == "running"  # type: ignore[index]
    reader = other.get(f"/c/{thread_id}/stream", headers=ada, buffered=False)
    assert next(filter(None, reader.iter_encoded())) == b"secret"
    assert "Set-Cookie" not in reader.headers
    assert other.post(f"/c/{thread_id}/stop", headers=ada).status_code == 202
    house.answer.say("more")
    response.close()
    reader.close()
    house.client().finish_runs()
    assert other.get(f"/c/{thread_id}/status", headers=ada).json["status"] == "stopped"  # type: ignore[index]


@pytest.mark.parametrize("person", ["eve", None])
@pytest.mark.parametrize("prefix", ["/c/THREAD", "/mine"])
def test_others_find_nothing(house: House, person: str | None, prefix: str) -> None:
    owner = house.client()
    response, thread_id = begin(house, owner, "ada")
    run = response.headers["X-Run-ID"]
    cookie = owner.get_cookie("atid")
    assert cookie is not None
    headers = {} if person is None else {"X-Person": person}
    for with_cookie in (False, True):
        stranger = house.client()
        if with_cookie:
            # Even with the cookie of the owner.
            stranger.set_cookie("atid", cookie.value)
        base = prefix.replace("THREAD", thread_id)
        for path in ("stream", "status", f"stream?run={run}", f"stream?run={run}&after=3"):
            found = stranger.get(f"{base}/{path}", headers=headers)
            assert (found.status_code, found.data) == (204, b"")
            assert "Set-Cookie" not in found.headers
        assert stranger.post(f"{base}/stop", headers=headers).status_code == 204
    house.answer.say("more").finish()
    response.close()
    house.client().finish_runs()
    ada = {"X-Person": "ada"}
    assert owner.get(f"/c/{thread_id}/status", headers=ada).json["status"] == "done"  # type: ignore[index]


def test_others_cannot_run_anything(house: House) -> None:
    response, thread_id = begin(house, house.client(), "ada")
    refused = house.client().post(f"/c/{thread_id}/messages", headers={"X-Person": "eve"})
    assert refused.status_code == 404
    assert house.threads.run(thread_id).status == "running"  # type: ignore[union-attr]
    house.answer.finish()
    response.close()


def test_a_conversation_that_does_not_exist(house: House) -> None:
    path = "/c/thrd_0123456789abcdef0123456789abcdef"
    for end in ("stream", "status"):
        assert house.client().get(f"{path}/{end}", headers={"X-Person": "ada"}).status_code == 204
    assert house.client().get("/c/garbage/stream").status_code == 404


def test_the_id_of_a_provider() -> None:
    class ByUser(ThreadIDProvider):
        def get_thread_id(self, app: Flask, request: Request) -> str | None:
            user = request.headers.get("X-User")
            return None if user is None else (user if user == "broken" else f"thrd_{user:0>32}")

        def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None: ...

    chat = Chat()
    chat.threads.set_thread_id_provider(ByUser())
    answer = Answer().say("a")
    chat.answers["x"] = answer
    query = {"answer": "x"}
    response = chat.client.post(
        "/chat", query_string=query, headers={"X-User": "ada"}, buffered=False
    )
    for user, status in (("ada", 200), ("eve", 204), ("broken", 204)):
        found = chat.client.get("/chat/status", headers={"X-User": user})
        assert found.status_code == status
    answer.finish()
    response.close()
    chat.client.finish_runs()


def test_an_exempt_blueprint_finds_nothing() -> None:
    chat = Chat()
    chat.threads.exempt(chat.threads.blueprint)
    chat.client.run_to_end(chat.ask())
    assert chat.client.get("/chat/stream").status_code == 204
    assert chat.client.post("/chat/stop").status_code == 204


def test_a_view_asks_about_its_own_thread(house: House) -> None:
    seen: list[Any] = []

    @house.app.get("/look/<thread:conversation>")
    def look(conversation: str) -> str:
        run = house.threads.run()
        seen.append(run and run.status)
        seen.append(g.thread.id == conversation)
        return ""

    response, thread_id = begin(house, house.client(), "ada")
    house.client().get(f"/look/{thread_id}", headers={"X-Person": "ada"})
    assert seen == ["running", True]
    assert house.client().get(f"/look/{thread_id}", headers={"X-Person": "eve"}).status_code == 404
    house.answer.finish()
    response.close()
