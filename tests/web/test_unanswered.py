"""Changes that no response saves: they are saved otherwise, or reported."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, copy_current_request_context, g
from flask_socketio import SocketIO  # type: ignore[import-untyped]

from flask_agentuity import (
    AgentuityError,
    Thread,
    ThreadGone,
    ThreadManager,
    current_thread,
    session_completed,
    thread_created,
    thread_save_failed,
)
from flask_agentuity.testing.client import ThreadTestClient
from flask_agentuity.web.app_threads import threads_of

PATIENCE = 30


class Unanswered:
    """An app, and what its signals tell."""

    def __init__(self) -> None:
        self.app = app = Flask("unanswered")
        app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
        app.test_client_class = ThreadTestClient
        self.threads = ThreadManager(app)
        self.failures: list[tuple[str, BaseException]] = []
        thread_save_failed.connect(self.note_failure, app)
        self.kept: list[Any] = []
        self.client = app.test_client()

        @app.get("/view")
        def view() -> Response:
            found = self.view()
            return found if isinstance(found, Response) else Response(found)

        self.view: Callable[[], Any] = lambda: g.thread.id

    def note_failure(
        self, sender: Flask, thread: Thread, error: BaseException, **extra: Any
    ) -> None:
        self.failures.append((thread.id, error))

    def get(self, view: Callable[[], Any]) -> Any:
        self.view = view
        return self.client.get("/view")

    @property
    def headers(self) -> dict[str, str]:
        """The cookie of the client, for a context that is made by hand."""
        cookie = self.client.get_cookie("atid")
        assert cookie is not None
        return {"Cookie": f"atid={cookie.value}"}

    def stored(self) -> dict[str, Any]:
        with self.threads.open(self.client.thread_id) as thread:  # type: ignore[attr-defined]
            return dict(thread.state)


@pytest.fixture
def unanswered() -> Unanswered:
    found = Unanswered()
    found.get(lambda: g.thread.state.update(begun=True) or "begun")
    return found


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


def run_in_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


# ----------------------------------------------------------------- contexts without a response


def test_the_end_of_a_pushed_context_saves(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    with unanswered.app.test_request_context(headers=unanswered.headers):
        messages = g.thread.state.setdefault("messages", [])
        messages.append("pushed")
        g.thread.metadata["title"] = "kept"
    assert unanswered.stored() == {"begun": True, "messages": ["pushed"]}
    assert unanswered.failures == []
    assert not caplog.records


def test_a_context_that_an_exception_ends_reports_its_changes(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        pytest.raises(LookupError),
        unanswered.app.test_request_context(headers=unanswered.headers),
    ):
        g.thread.state["lost"] = True
        raise LookupError
    gc.collect()
    assert unanswered.stored() == {"begun": True}
    ((thread_id, error),) = unanswered.failures
    assert thread_id == unanswered.client.thread_id  # type: ignore[attr-defined]
    assert isinstance(error.__cause__, LookupError)
    assert errors(caplog) == [f"Changes to thread {thread_id} are lost: LookupError was raised."]


def test_a_context_that_changes_nothing_reports_no_exception(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        pytest.raises(LookupError),
        unanswered.app.test_request_context(headers=unanswered.headers),
    ):
        assert g.thread.state["begun"] is True
        raise LookupError
    gc.collect()
    assert unanswered.failures == []
    assert not caplog.records


def test_a_save_that_fails_at_the_end_of_a_context_is_reported(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    with unanswered.app.test_request_context(headers=unanswered.headers):
        thread_id = g.thread.id
        g.thread.state["large"] = "." * 2_000_000
    assert [failed for failed, _ in unanswered.failures] == [thread_id]
    assert len(errors(caplog)) == 1


def test_a_context_that_ends_gives_its_turn_back(unanswered: Unanswered) -> None:
    @unanswered.threads.one_at_a_time("reject")
    def work() -> str:
        g.thread.state.push("turns", 1)
        return "worked"

    for _ in range(2):
        with unanswered.app.test_request_context(headers=unanswered.headers):
            assert work() == "worked"
    assert unanswered.stored() == {"begun": True, "turns": [1, 1]}


@pytest.mark.parametrize("is_noted", [False, True])
def test_an_event_handler_of_flask_socketio_saves(
    is_noted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """*is_noted*: the handshake has passed through the WSGI app that the manager has wrapped."""
    app = Flask("sockets")
    app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
    sockets = SocketIO(app, async_mode="threading")
    threads = ThreadManager(app)
    ids = []

    @sockets.on("say")  # type: ignore[untyped-decorator]
    def say(text: str) -> str:
        g.thread.state.push("messages", text)
        ids.append(current_thread.id)
        return "said"

    @sockets.on("fail")  # type: ignore[untyped-decorator]
    def fail() -> None:
        g.thread.state["failed"] = True
        raise LookupError

    @app.get("/")
    def index() -> str:
        return str(g.thread.id)

    visitor = app.test_client()
    thread_id = visitor.get("/").text
    client = sockets.test_client(app, flask_test_client=visitor)
    environ = sockets.server.environ[client.eio_sid]
    if is_noted:
        environ[threads_of(app).began_key] = time.monotonic()
    assert client.emit("say", "first", callback=True) == "said"
    with pytest.raises(LookupError):
        client.emit("fail")
    assert client.emit("say", "second", callback=True) == "said"
    assert ids == [thread_id, thread_id]
    with threads.open(thread_id) as thread:
        assert dict(thread.state) == {"messages": ["first", "second"]}
    assert errors(caplog) == [f"Changes to thread {thread_id} are lost: LookupError was raised."]


def test_a_context_that_never_ends_is_reported_at_the_end_of_the_process() -> None:
    script = """
import logging
from flask import Flask, g
from flask_agentuity import ThreadManager

logging.basicConfig()
app = Flask("script")
app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
ThreadManager(app)
app.test_request_context().push()
g.thread.state["a"] = 1
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.count("the change is lost") == 1
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------- after the response


def test_a_background_thread_that_does_not_save_is_reported(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    answered = threading.Event()
    started: list[threading.Thread] = []

    def view() -> str:
        state, thread = g.thread.state, g.thread

        def work() -> None:
            answered.wait(PATIENCE)
            (state if "state" in request_kind else thread.state)["late"] = True

        started.append(threading.Thread(target=work))
        started[-1].start()
        return "started"

    for kind in ("state", "thread"):
        request_kind = kind
        answered.clear()
        unanswered.get(view)
        answered.set()
        started.pop().join(PATIENCE)
        unanswered.view = str
        gc.collect()
        assert [thread_id for thread_id, _ in unanswered.failures] == [
            unanswered.client.thread_id  # type: ignore[attr-defined]
        ]
        assert len(errors(caplog)) == 1
        assert "the change is lost" in caplog.text
        caplog.clear()
        unanswered.failures.clear()
    assert unanswered.stored() == {"begun": True}


def test_a_background_thread_that_saves_or_only_reads_is_not(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> str:
        unanswered.kept.append(g.thread)
        return "kept"

    unanswered.get(view)
    thread = unanswered.kept.pop()
    assert thread.state["begun"]
    assert thread.metadata == {}
    thread.state["late"] = True
    thread.save()
    assert dict(thread.state)
    del thread
    gc.collect()
    assert unanswered.failures == []
    assert not caplog.records
    assert unanswered.stored() == {"begun": True, "late": True}


def test_a_copied_context_that_fails_after_the_response_is_reported(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> str:
        def work() -> None:
            g.thread.state["late"] = True
            if "fails" in unanswered.kept:
                raise LookupError

        unanswered.kept.append(copy_current_request_context(work))
        g.thread.state["view"] = True
        return "answered"

    unanswered.get(view)
    work = unanswered.kept.pop()
    unanswered.kept.append("fails")

    def attempt() -> None:
        with pytest.raises(LookupError):
            work()

    run_in_thread(attempt)
    assert [type(error) for _, error in unanswered.failures] == [AgentuityError]
    assert "LookupError was raised" in errors(caplog)[0]
    unanswered.kept.clear()
    # Another one is not affected. What the first has left in memory is saved with it.
    run_in_thread(work)
    assert unanswered.stored() == {"begun": True, "view": True, "late": True}


def test_what_a_copied_context_of_a_failed_request_changes_is_reported(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> str:
        def work() -> None:
            g.thread.state["late"] = True

        unanswered.kept.append(copy_current_request_context(work))
        g.thread.state["view"] = True
        raise LookupError

    assert unanswered.get(view).status_code == 500
    assert unanswered.failures == []
    caplog.clear()
    run_in_thread(unanswered.kept.pop())
    assert len(unanswered.failures) == 1
    assert len(errors(caplog)) == 1
    assert unanswered.stored() == {"begun": True}


def test_what_listeners_change_is_saved(unanswered: Unanswered) -> None:
    def note(sender: Flask, thread: Thread, **extra: Any) -> None:
        thread.state["completed"] = True

    with session_completed.connected_to(note, unanswered.app):
        unanswered.get(lambda: g.thread.id)
    assert unanswered.stored() == {"begun": True, "completed": True}


def test_changes_after_destroy_are_reported(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> str:
        g.thread.destroy()
        g.thread.state["after"] = True
        return "destroyed"

    created: list[Thread] = []

    def note(sender: Flask, thread: Thread, **extra: Any) -> None:
        created.append(thread)

    with thread_created.connected_to(note, unanswered.app):
        unanswered.get(view)
    assert [type(error) for _, error in unanswered.failures] == [ThreadGone]
    # The report does not count as a first use of the thread.
    assert created == []
    (record,) = caplog.records
    assert "after destroy()" in record.getMessage()


def test_changes_after_the_block_of_open_are_reported(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    with unanswered.threads.open(create=True) as thread:
        thread.state["inside"] = True
    thread.state["after"] = True
    thread_id = thread.id
    del thread
    gc.collect()
    assert [failed for failed, _ in unanswered.failures] == [thread_id]
    assert len(errors(caplog)) == 1


def test_a_block_of_open_that_fails_is_known_to_have_failed(unanswered: Unanswered) -> None:
    with pytest.raises(LookupError), unanswered.threads.open(create=True) as thread:
        thread.state["inside"] = True
        raise LookupError
    del thread
    gc.collect()
    assert unanswered.failures == []


# --------------------------------------------------------------------------------- generators


def test_what_a_generator_changed_before_it_raised_is_reported(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> Iterator[str]:
        thread = g.thread
        thread.state["view"] = True

        def generate() -> Iterator[str]:
            yield "a"
            if "changes" in unanswered.kept:
                thread.state.push("messages", "half of an answ")
            raise LookupError("in the generator")

        return generate()

    for kept in ([], ["changes"]):
        unanswered.kept = list(kept)
        with pytest.raises(LookupError):
            unanswered.get(view).get_data()
        assert len(unanswered.failures) == len(errors(caplog)) == len(kept)
    assert "LookupError was raised" in errors(caplog)[0]
    _, error = unanswered.failures[0]
    assert isinstance(error.__cause__, LookupError)
    assert unanswered.stored() == {"begun": True, "view": True}


def test_what_a_run_changed_before_it_failed_is_reported(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> Response:
        thread = g.thread
        thread.state["view"] = True

        def generate() -> Iterator[str]:
            yield "a"
            thread.state.push("messages", "half of an answ")
            raise LookupError("in the run")

        return unanswered.threads.stream(generate())

    ended = threading.Event()

    def note(sender: Flask, **extra: Any) -> None:
        ended.set()

    with session_completed.connected_to(note, unanswered.app):
        with unanswered.get(view) as response:
            assert response.get_data() == b"a"
        assert ended.wait(PATIENCE)
    gc.collect()
    assert [isinstance(error.__cause__, LookupError) for _, error in unanswered.failures] == [True]
    assert unanswered.stored() == {"begun": True, "view": True}


def test_a_client_that_goes_away_loses_nothing(unanswered: Unanswered) -> None:
    def view() -> Iterator[str]:
        thread = g.thread

        def generate() -> Iterator[str]:
            for number in range(1000):
                thread.state.push("chunks", number)
                yield "." * 100

        return generate()

    unanswered.view = view
    response = unanswered.client.get("/view", buffered=False)
    next(iter(response.response))
    response.close()
    assert unanswered.stored() == {"begun": True, "chunks": [0]}
    assert unanswered.failures == []


def test_a_view_that_fails_is_not_reported_as_well(
    unanswered: Unanswered, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> str:
        g.thread.state["view"] = True
        raise LookupError

    assert unanswered.get(view).status_code == 500
    gc.collect()
    assert unanswered.failures == []
    assert unanswered.stored() == {"begun": True}
