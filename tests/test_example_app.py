"""The example chat, as a browser uses it."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from example_app import create_app
from example_app import threads as manager


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setenv("AGENTUITY_THREAD_STORE", f"sqlite:///{tmp_path / 'threads.db'}")
    monkeypatch.setenv("AGENTUITY_THREAD_SECRET", "tested")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return create_app()


def test_a_conversation(app: Flask) -> None:
    browser, another = app.test_client(), app.test_client()
    assert 'id="messages"' in browser.get("/").text
    with browser.post("/messages", data={"text": "Hello"}) as response:
        assert "I remember 1 turn of" in response.get_data(as_text=True)
    with browser.post("/messages", data={"text": "<b>Bye</b>"}) as response:
        assert "your first message was “Hello”" in response.get_data(as_text=True)
    page = browser.get("/").text
    assert page.count('class="user"') == page.count('class="assistant"') == 2
    assert "I remember 2 turns of" in page
    assert "&lt;b&gt;Bye" in page
    assert 'class="user"' not in another.get("/").text


def test_a_new_conversation(app: Flask) -> None:
    browser = app.test_client()
    with browser.post("/messages", data={"text": "Hello"}) as response:
        assert response.data
    assert browser.post("/new").status_code == 302
    assert "Hello" not in browser.get("/").text
    with app.app_context():
        (listed,) = manager.list().threads
    assert listed.size > 0


def test_a_client_that_disconnects(app: Flask) -> None:
    browser = app.test_client()
    response = browser.post("/messages", data={"text": "Hello"}, buffered=False)
    assert next(iter(response.iter_encoded())) == b"You "
    response.close()
    assert '<p class="assistant">You </p>' in browser.get("/").text


def test_nothing_to_answer(app: Flask) -> None:
    assert app.test_client().post("/messages", data={"text": "  "}).status_code == 400
