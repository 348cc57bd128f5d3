"""The example chat, without a browser; ``test_example_browser`` has its page."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import example_app
from example_app.responder import respond
from flask_agentuity.web.app_threads import threads_of


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setenv("AGENTUITY_THREAD_STORE", f"sqlite:///{tmp_path / 'threads.db'}")
    monkeypatch.setenv("SECRET_KEY", "tested")
    monkeypatch.setattr(example_app, "respond", partial(respond, pause=0))
    return example_app.create_app()


def ask(
    client: FlaskClient, text: str, path: str = "/conversations", id: str = "1"
) -> TestResponse:
    response = client.post(path, data={"text": text, "id": id})
    with response:
        assert response.get_data(as_text=True)
    assert threads_of(client.application).runs.here.wait_for_end(30)
    return response


def begin(client: FlaskClient, text: str) -> str:
    """Begin a conversation, and return its path."""
    path = ask(client, text).headers["Content-Location"]
    assert path.startswith("/c/thrd_")
    return path


def test_a_conversation(app: Flask) -> None:
    browser, another = app.test_client(), app.test_client()
    path = begin(browser, "Hello")
    answer = ask(browser, "<b>Bye</b>", f"{path}/messages", "2")
    assert "your first message was “Hello”" in answer.get_data(as_text=True)
    page = browser.get(path).text
    assert page.count('class="user"') == page.count('class="assistant"') == 2
    assert "I remember 2 turns of" in page
    assert "&lt;b&gt;Bye" in page
    # It belongs to its visitor.
    for response in (another.get(path), another.post(f"{path}/delete")):
        assert response.status_code == 404
    assert "Hello" not in another.get("/").text
    assert browser.get(path).text == page


def test_the_list_of_conversations(app: Flask) -> None:
    browser = app.test_client()
    paths = [begin(browser, f"Question {number}") for number in range(32)]
    page = browser.get("/").text
    assert [path in page for path in paths] == [False] * 2 + [True] * 30
    (cursor,) = (part.partition('"')[0] for part in page.split('href="?older=')[1:])
    older = browser.get(f"/?older={cursor}").text
    assert [path in older for path in paths] == [True] * 2 + [False] * 30
    assert "?older=" not in older


def test_a_long_title_is_shortened(app: Flask) -> None:
    browser = app.test_client()
    begin(browser, "A question of many words " * 10)
    assert "question of many words A…</a>" in browser.get("/").text.replace(" [", "")


def test_renaming_and_deleting(app: Flask) -> None:
    browser = app.test_client()
    path = begin(browser, "Hello")
    assert browser.post(f"{path}/title", data={"title": " Renamed "}).location == path
    assert "<h1>Renamed</h1>" in browser.get(path).text
    browser.post(f"{path}/title", data={"title": "  "})
    assert "<h1>Renamed</h1>" in browser.get(path).text
    assert browser.post(f"{path}/delete").location == "/"
    assert browser.get(path).status_code == 404
    assert "Renamed" not in browser.get("/").text


def test_a_retry_asks_once(app: Flask) -> None:
    browser = app.test_client()
    path = begin(browser, "Hello")
    for _ in range(2):
        ask(browser, "Again", f"{path}/messages", "2")
    page = browser.get(path).text
    assert page.count('class="user"') == page.count('class="assistant"') == 2
    # The same text with another id is another question.
    ask(browser, "Again", f"{path}/messages", "3")
    assert browser.get(path).text.count('class="user"') == 3


def test_a_client_that_disconnects(app: Flask) -> None:
    browser = app.test_client()
    response = browser.post("/conversations", data={"text": "Hello"}, buffered=False)
    assert next(filter(None, response.iter_encoded())).startswith(b"You ")
    response.close()
    assert threads_of(app).runs.here.wait_for_end(30)
    page = browser.get(response.headers["Content-Location"]).text
    assert "I remember 1 turn of this conversation." in page


def test_an_answer_that_fails_can_be_tried_again(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(history: object) -> Iterator[str]:
        yield "So "
        raise ConnectionError("the model is away")

    browser = app.test_client()
    path = begin(browser, "Hello")
    with monkeypatch.context() as patched:
        patched.setattr(example_app, "respond", fail)
        ask(browser, "Again", f"{path}/messages", "2")
    page = browser.get(path).text
    assert 'data-run="failed"' in page
    assert '<p class="user" data-id="2">Again</p>' in page
    assert '<p class="assistant">So </p>' in page
    ask(browser, "Again", f"{path}/messages", "2")
    page = browser.get(path).text
    assert 'data-run="done"' in page
    assert page.count('class="user"') == page.count('class="assistant"') == 2


def test_nothing_to_answer(app: Flask) -> None:
    browser = app.test_client()
    assert browser.post("/conversations", data={"text": "  "}).status_code == 400
    assert "/c/" not in browser.get("/").text


def test_the_secret_is_made_once(tmp_path: Path) -> None:
    secret = example_app.stored_secret(tmp_path / "instance")
    assert len(secret) == 64
    assert example_app.stored_secret(tmp_path / "instance") == secret
    assert (tmp_path / "instance" / "secret_key").stat().st_mode & 0o077 == 0
