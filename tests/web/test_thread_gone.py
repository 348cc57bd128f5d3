"""A thread that is deleted while a request works on it stays deleted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Request, Response, copy_current_request_context, g
from support.visitor import visitor

from flask_agentuity import (
    AgentuityError,
    StoreError,
    ThreadGone,
    ThreadIDProvider,
    ThreadManager,
    session_started,
    thread_save_failed,
)
from flask_agentuity.testing.client import ThreadTestClient
from flask_agentuity.thread.thread import contents_of
from flask_agentuity.web.app_threads import threads_of

PATIENCE = 30.0
STORES = ["memory://", "sqlite:///threads.db"]
View = Callable[[], Any]


class Deletions:
    """An app whose views have their thread deleted while they work on it."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.app = app = Flask("tested", instance_path=str(folder))
        app.config.update({"SECRET_KEY": "tested", "AGENTUITY_THREAD_STORE": STORES[0]} | config)
        app.test_client_class = ThreadTestClient
        self.threads = ThreadManager(app)
        self.client = visitor(app, state={"messages": ["stored"]})
        self.thread_id = str(self.client.thread_id)
        self.failures: list[tuple[type[BaseException], int]] = []

    def delete(self, thread_id: str | None = None) -> None:
        """Delete the thread, as another request does."""
        with self.threads.open(thread_id or self.thread_id) as thread:
            thread.destroy()

    def get(self, view: View, caplog: pytest.LogCaptureFixture) -> Any:
        """Answer a request with *view*, which is made for it."""
        path = f"/{len(self.app.view_functions)}"
        # Flask refuses routes after the first request.
        self.app.view_functions[path] = view
        self.app.url_map.add(self.app.url_rule_class(path, endpoint=path))

        def note(sender: Flask, error: BaseException, **extra: Any) -> None:
            self.failures.append((type(error), len(warnings(caplog))))

        with thread_save_failed.connected_to(note, self.app):
            response = self.client.get(path)
            response.get_data()  # A stream is saved at its end.
            return response

    def stored(self) -> bytes | None:
        return threads_of(self.app).store.restore(self.thread_id)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["log", "raise"])
def deletions(request: pytest.FixtureRequest, store: str, tmp_path: Path) -> Iterator[Deletions]:
    """It makes no difference what AGENTUITY_THREAD_ON_SAVE_ERROR says."""
    made = Deletions(
        tmp_path, AGENTUITY_THREAD_STORE=store, AGENTUITY_THREAD_ON_SAVE_ERROR=request.param
    )
    yield made
    threads_of(made.app).store.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def assert_warned_once(made: Deletions, caplog: pytest.LogCaptureFixture) -> None:
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.levelno == logging.WARNING
    assert made.thread_id in record.getMessage()
    assert "was deleted" in record.getMessage()
    # The receivers were called after it was logged.
    assert made.failures == [(ThreadGone, 1)]


def edit(made: Deletions) -> str:
    g.thread.state["messages"].append("lost")
    made.delete()
    return "answered"


def push(made: Deletions) -> str:
    g.thread.state.push("messages", "lost")
    made.delete()
    return "answered"


def push_later(made: Deletions) -> str:
    """Use the thread for the first time after it was deleted."""
    made.delete()
    g.thread.state.push("messages", "lost")
    return "answered"


def change_metadata(made: Deletions) -> str:
    g.thread.metadata["title"] = "lost"
    made.delete()
    return "answered"


@pytest.mark.parametrize("change", [edit, push, push_later, change_metadata])
def test_a_change_is_dropped_with_a_warning(
    deletions: Deletions,
    change: Callable[[Deletions], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = deletions.get(lambda: change(deletions), caplog)
    assert (response.status_code, response.text) == (200, "answered")
    assert deletions.stored() is None
    assert_warned_once(deletions, caplog)
    # The cookie is neither repeated nor ended: the client may have another one by now.
    assert "x-thread-id" not in response.headers
    assert "Set-Cookie" not in response.headers
    assert response.headers["Vary"] == "Cookie, x-thread-id"


def test_a_later_request_may_begin_the_thread_again(
    deletions: Deletions, caplog: pytest.LogCaptureFixture
) -> None:
    cookie = threads_of(deletions.app).signed_provider.cookie_value(deletions.thread_id)
    deletions.get(lambda: edit(deletions), caplog)
    deletions.client.set_cookie("atid", cookie)

    def begin() -> dict[str, Any]:
        found = dict(g.thread.state)
        g.thread.state.push("messages", "again")
        return found

    assert deletions.get(begin, caplog).json == {}
    assert deletions.stored() == b'{"state":{"messages":["again"]}}'


def test_a_listener_of_session_started_makes_no_difference(
    deletions: Deletions, caplog: pytest.LogCaptureFixture
) -> None:
    def listen(sender: Flask, **extra: Any) -> None:
        assert contents_of(extra["thread"]).source.known_id is None

    with session_started.connected_to(listen, deletions.app):
        deletions.get(lambda: push_later(deletions), caplog)
    assert deletions.stored() is None
    assert_warned_once(deletions, caplog)


def test_a_thread_that_the_client_does_not_know_gets_no_cookie(
    deletions: Deletions, caplog: pytest.LogCaptureFixture
) -> None:
    deletions.client.delete_cookie("atid")

    def view() -> str:
        g.thread.state["a"] = 1
        g.thread.save()
        deletions.thread_id = g.thread.id
        deletions.delete()
        g.thread.state["a"] = 2
        return "answered"

    response = deletions.get(view, caplog)
    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers
    assert "x-thread-id" not in response.headers
    assert_warned_once(deletions, caplog)


def test_only_reading_is_not_affected(
    deletions: Deletions, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> list[str]:
        messages: list[str] = g.thread.state["messages"]
        deletions.delete()
        return messages

    response = deletions.get(view, caplog)
    assert response.json == ["stored"]
    assert warnings(caplog) == []
    assert deletions.failures == []


# Explicit saves


def save(made: Deletions) -> str:
    g.thread.state["messages"].append("lost")
    made.delete()
    g.thread.save()
    return "not reached"


def test_an_explicit_save_raises_and_is_no_503(
    deletions: Deletions, caplog: pytest.LogCaptureFixture
) -> None:
    response = deletions.get(lambda: save(deletions), caplog)
    assert response.status_code == 409
    assert "was deleted" in response.text
    assert_warned_once(deletions, caplog)
    assert deletions.stored() is None


def test_a_view_may_catch_it(deletions: Deletions, caplog: pytest.LogCaptureFixture) -> None:
    def view() -> str:
        with pytest.raises(ThreadGone) as caught:
            save(deletions)
        assert caught.value.thread_id == deletions.thread_id
        g.thread.state["messages"].append("also lost")
        return "answered"

    response = deletions.get(view, caplog)
    assert (response.status_code, response.text) == (200, "answered")
    assert deletions.stored() is None
    assert_warned_once(deletions, caplog)


@pytest.mark.parametrize("handled", [ThreadGone, StoreError, AgentuityError])
def test_a_handler_of_the_app_decides(
    tmp_path: Path, handled: type[AgentuityError], caplog: pytest.LogCaptureFixture
) -> None:
    made = Deletions(tmp_path)
    made.app.register_error_handler(handled, lambda error: (str(error), 418))
    response = made.get(lambda: save(made), caplog)
    assert response.status_code == 418
    assert made.thread_id in response.text
    assert_warned_once(made, caplog)


# Streams, copied contexts, several threads


def test_a_late_stream(deletions: Deletions, caplog: pytest.LogCaptureFixture) -> None:

    def view() -> Response:
        thread = g.thread
        thread.state["messages"].append("kept until it is deleted")

        def generate() -> Iterator[str]:
            yield "a"
            deletions.delete()
            thread.state["messages"].append("lost")
            yield "b"

        return Response(generate())

    response = deletions.get(view, caplog)
    assert (response.status_code, response.text) == (200, "ab")
    assert deletions.stored() is None
    assert_warned_once(deletions, caplog)


@pytest.mark.parametrize("saves", [False, True])
def test_a_copied_context(
    deletions: Deletions, saves: bool, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[type[BaseException]] = []

    def view() -> str:
        @copy_current_request_context
        def work() -> None:
            deletions.delete()
            g.thread.state.push("messages", "lost")
            if saves:
                try:
                    g.thread.save()
                except ThreadGone as error:
                    raised.append(type(error))

        worker = threading.Thread(target=work)
        worker.start()
        worker.join(PATIENCE)
        return "answered"

    response = deletions.get(view, caplog)
    assert response.status_code == 200
    assert deletions.stored() is None
    assert raised == [ThreadGone] * saves
    assert_warned_once(deletions, caplog)


def test_the_next_conversation_is_saved(
    deletions: Deletions, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> str:
        push(deletions)
        deletions.threads.new().state["next"] = True
        return str(g.thread.id)

    response = deletions.get(view, caplog)
    assert deletions.client.thread_id == response.text != deletions.thread_id
    with deletions.client.thread() as thread:
        assert dict(thread.state) == {"next": True}
    assert deletions.stored() is None
    assert_warned_once(deletions, caplog)


class Given(ThreadIDProvider):
    """Gives every request the same id."""

    def __init__(self, thread_id: str) -> None:
        self.thread_id = thread_id
        self.told: list[str] = []

    def get_thread_id(self, app: Flask, request: Request) -> str:
        return self.thread_id

    def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        self.told.append("set")

    def end_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        self.told.append("end")


def test_a_provider_is_told(deletions: Deletions, caplog: pytest.LogCaptureFixture) -> None:
    provider = Given(deletions.thread_id)
    deletions.threads.set_thread_id_provider(provider)
    deletions.get(lambda: push_later(deletions), caplog)
    assert_warned_once(deletions, caplog)
    deletions.get(lambda: g.thread.state.push("messages", "again") or "answered", caplog)
    assert provider.told == ["end", "set"]
    assert deletions.stored() == b'{"state":{"messages":["again"]}}'


# Outside a request


@pytest.mark.parametrize("create", [None, False])
def test_open_raises(
    deletions: Deletions, create: bool | None, caplog: pytest.LogCaptureFixture
) -> None:
    def note(sender: Flask, error: BaseException, **extra: Any) -> None:
        deletions.failures.append((type(error), len(warnings(caplog))))

    with (
        thread_save_failed.connected_to(note, deletions.app),
        pytest.raises(ThreadGone, match=deletions.thread_id),
        deletions.threads.open(deletions.thread_id, create=create) as thread,
    ):
        deletions.delete()
        thread.state.push("messages", "lost")
    assert deletions.stored() is None
    assert_warned_once(deletions, caplog)
    with deletions.threads.open(deletions.thread_id, create=True) as thread:
        thread.state["a"] = 1
    assert deletions.stored() == b'{"state":{"a":1}}'
