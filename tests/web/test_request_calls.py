"""How much of this package runs in a request: Python calls, which any machine counts alike."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from flask import Flask, g

import flask_agentuity
from flask_agentuity import ThreadManager
from flask_agentuity.testing.client import ThreadTestClient

PACKAGE = str(Path(flask_agentuity.__file__).parent)
WEB = str(Path(PACKAGE) / "web")


@pytest.fixture
def client() -> Any:
    app = Flask("counted")
    app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
    app.test_client_class = ThreadTestClient
    ThreadManager(app)

    @app.get("/untouched")
    def untouched() -> str:
        return "untouched"

    @app.get("/touched")
    def touched() -> str:
        return str(g.thread.id)

    @app.get("/again")
    def again() -> str:
        for _ in range(10):
            thread = g.thread
        return str(thread.id)

    return app.test_client(state={"messages": []})


def calls(function: Callable[[], Any]) -> Counter[str]:
    """Return the calls that *function* makes, by file."""
    found: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            found[frame.f_code.co_filename] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return found


def web_calls(client: Any, path: str) -> int:
    for _ in range(3):
        assert client.get(path).status_code == 200
    return sum(n for file, n in calls(lambda: client.get(path)).items() if file.startswith(WEB))


def test_a_request_that_does_not_use_its_thread(client: Any) -> None:
    client.get("/untouched")
    found = calls(lambda: client.get("/untouched"))
    own = {file: n for file, n in found.items() if file.startswith(PACKAGE)}
    # One note of when it began, one look whether there is something to save, one at its end.
    assert own == {str(Path(WEB) / "hooks.py"): 3}


def test_a_request_that_uses_its_thread(client: Any) -> None:
    assert web_calls(client, "/touched") <= 22


def test_each_further_use_is_one_call(client: Any) -> None:
    assert web_calls(client, "/again") == web_calls(client, "/touched") + 9
