"""A request whose changes are more than a thread service takes at once."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from flask import Flask, g

from flask_agentuity import ThreadManager, TooManyChanges, thread_save_failed
from flask_agentuity.service import ThreadService
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.remote import RemoteStore
from flask_agentuity.wire import limits

KEY = "the key of the tests"


class App:
    """An app with a view for each kind of large change, and what it could not save."""

    def __init__(self, store: RemoteStore) -> None:
        app = Flask("large")
        app.config.update(SECRET_KEY="tested")
        self.manager = ThreadManager(app, store=store)
        self.client = app.test_client()
        self.failures: list[Any] = []
        thread_save_failed.connect(self._note, app)

        @app.post("/pushes/<int:count>")
        def push(count: int) -> str:
            for number in range(count):
                g.thread.state.push("numbers", number)
            return "done"

        @app.post("/lists/<int:count>")
        def set_lists(count: int) -> str:
            g.thread.state["lists"] = [[]] * count
            return "done"

    def _note(self, sender: Flask, error: Exception, **more: Any) -> None:
        self.failures.append(error)


@pytest.fixture
def app() -> Iterator[App]:
    with (
        ThreadService(MemoryStore(), keys=[KEY], max_operations=20) as service,
        closing(RemoteStore.from_url(service.url, key=KEY)) as store,
    ):
        yield App(store)


@pytest.mark.parametrize(
    ("path", "size", "limit", "what"),
    [
        ("/pushes/21", 21, 20, "operations"),
        (
            f"/lists/{limits.MAX_CONTAINERS + 1}",
            limits.MAX_CONTAINERS,
            limits.MAX_CONTAINERS,
            "lists and objects",
        ),
    ],
)
def test_too_much_for_a_service_is_a_413(
    app: App, path: str, size: int, limit: int, what: str
) -> None:
    response = app.client.post(path)
    assert response.status_code == 413
    # There is still space in the thread.
    assert "changed too much at once" in response.text
    (failure,) = app.failures
    assert isinstance(failure, TooManyChanges)
    assert failure.size >= size
    assert failure.limit == limit
    assert f"{failure.size:,} {what}; the limit is {limit:,}." in str(failure)
    copied = pickle.loads(pickle.dumps(failure))
    assert (str(copied), copied.size) == (str(failure), failure.size)


def test_as_much_as_a_service_takes_is_saved(app: App) -> None:
    assert app.client.post("/pushes/20").status_code == 200
    assert app.failures == []
