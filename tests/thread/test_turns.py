"""One request at a time on a thread."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, current_app, g, stream_with_context
from server.servers import PATIENCE, wait_until

from flask_agentuity import ThreadManager
from flask_agentuity.document.operations import Push
from flask_agentuity.errors import ConfigurationError, StoreError
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.testing.client import ThreadTestClient
from flask_agentuity.thread import turns
from flask_agentuity.thread.turns import Turn, take_turn

ID = "thrd_0123456789abcdef0123456789abcdef"
THREAD_NAME = "flask_agentuity-turn"


def renewing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """A turn that has ended leaves no thread behind."""
    yield
    wait_until(lambda: not renewing(), "no turn is renewed any more")


# The turn itself


class Lease(MemoryStore):
    """Notes who asks for turns, and answers what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, float]] = []
        self.answers: list[bool | Exception | Callable[[], bool]] = []

    def take_turn(self, thread_id: str, holder: str, seconds: float) -> bool:
        self.asked.append((holder, seconds))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer()
        return super().take_turn(thread_id, holder, seconds) if answer is None else answer

    def is_free(self) -> bool:
        free = super().take_turn(ID, "somebody else", 60)
        super().end_turn(ID, "somebody else")
        return free


@pytest.fixture
def store() -> Lease:
    return Lease()


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LEASE_SECONDS", 0.03)


def taken(store: ThreadStore) -> Turn:
    turn = take_turn(store, ID, 0)
    assert turn is not None
    return turn


def test_a_turn_is_taken_and_given_back(store: Lease) -> None:
    turn = taken(store)
    assert take_turn(store, ID, 0) is None
    assert not store.is_free()
    turn.end()
    assert store.is_free()
    turn.end()
    again = taken(store)
    turn.end()
    assert not store.is_free()
    again.end()


def test_waiting_ends_in_time(store: Lease) -> None:
    now = 100.0
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        pauses.append(seconds)
        now += seconds

    holder = taken(store)
    assert take_turn(store, ID, 5.0, clock=lambda: now, sleep=sleep) is None
    assert now == pytest.approx(105.0)
    assert all(0 < pause <= 0.2 for pause in pauses)
    assert len(pauses) < 60
    pauses.clear()
    assert take_turn(store, ID, 0.0, clock=lambda: now, sleep=sleep) is None
    assert pauses == []
    store.answers = [False, False]
    holder.end()
    turn = take_turn(store, ID, 5.0, clock=lambda: now, sleep=sleep)
    assert turn is not None
    assert len(pauses) == 2
    turn.end()


def test_the_lease_is_renewed_for_as_long_as_the_work_takes(
    store: Lease, short_lease: None
) -> None:
    turn = taken(store)
    wait_until(lambda: len(store.asked) > 6, "the turn is renewed again and again")
    turn.end()
    assert len({holder for holder, _ in store.asked}) == 1
    assert {seconds for _, seconds in store.asked} == {turns.LEASE_SECONDS}
    wait_until(lambda: not renewing(), "the turn is renewed no more")
    assert store.is_free()


def test_a_turn_that_is_lost_is_logged(
    store: Lease, short_lease: None, caplog: pytest.LogCaptureFixture
) -> None:
    turn = taken(store)
    store.answers = [False]
    wait_until(lambda: not renewing(), "a lost turn is renewed no more")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"The turn on thread {ID} was lost" in record.getMessage()
    turn.end()


def test_a_store_that_is_down_for_a_while_costs_no_turn(
    store: Lease, short_lease: None, caplog: pytest.LogCaptureFixture
) -> None:
    turn = taken(store)
    store.answers = [StoreError("it is down"), StoreError("it is down")]
    wait_until(lambda: len(store.asked) > 5, "the turn is renewed after that")
    turn.end()
    found = [(record.levelno, record.getMessage()) for record in caplog.records]
    said = f"The turn on thread {ID} could not be renewed: it is down"
    assert found == [(logging.WARNING, said)] * 2


def test_a_turn_that_ends_while_it_is_renewed_is_free(store: Lease, short_lease: None) -> None:
    renewed, ended = threading.Event(), threading.Event()

    def renew_late() -> bool:
        renewed.set()
        assert ended.wait(PATIENCE)
        return MemoryStore.take_turn(store, ID, store.asked[0][0], 60)

    turn = taken(store)
    store.answers = [renew_late]
    assert renewed.wait(PATIENCE)
    turn.end()
    ended.set()
    wait_until(lambda: not renewing(), "the renewal is over")
    assert store.is_free()


def test_a_turn_that_was_forgotten_is_renewed_no_more(store: Lease) -> None:
    turn = taken(store)
    assert renewing()
    del turn
    gc.collect()
    wait_until(lambda: not renewing(), "a turn that nobody has is renewed no more")


def test_a_turn_that_cannot_be_given_back_is_logged(
    store: Lease, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise StoreError("it is down")

    turn = taken(store)
    monkeypatch.setattr(store, "end_turn", fail)
    turn.end()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "ends only when its lease does, in 15 s: it is down" in record.getMessage()


# In a request


@pytest.fixture
def app(store: Lease, tmp_path: Path) -> Flask:
    app = Flask("turns", instance_path=str(tmp_path))
    app.config.update(SECRET_KEY="turns", THREADS=ThreadManager(app, store=store))
    app.test_client_class = ThreadTestClient
    return app


@pytest.fixture
def threads(app: Flask) -> ThreadManager:
    manager: ThreadManager = app.config["THREADS"]
    return manager


@pytest.fixture
def client(app: Flask) -> ThreadTestClient:
    client = app.test_client(thread_id=ID, state={"l": [1]})
    assert isinstance(client, ThreadTestClient)
    return client


def test_the_turn_ends_with_the_request(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Lease
) -> None:
    free: list[bool] = []

    @app.get("/<what>")
    @threads.one_at_a_time("reject")
    def view(what: str) -> Any:
        free.append(store.is_free())
        if what == "raises":
            raise RuntimeError("in the view")
        if what == "aborts":
            current_app.aborter(418)
        return {"empty": ("", 204), "error": ("", 503)}.get(what, what)

    for path, status in {
        "plain": 200,
        "raises": 500,
        "aborts": 418,
        "empty": 204,
        "error": 503,
    }.items():
        assert client.get(path).status_code == status
        assert free == [False]
        assert store.is_free(), path
        free.clear()
    assert client.head("plain").status_code == 200
    assert store.is_free()
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(RuntimeError, match="in the view"):
        client.get("raises")
    assert store.is_free()
    # A visitor who was never here has the turn on his own new thread.
    assert app.test_client().get("plain").status_code == 200


@pytest.mark.parametrize("context", [False, True], ids=["no context", "context"])
@pytest.mark.parametrize("way", ["read", "left", "HEAD", "204", "raises", "never begun"])
def test_the_turn_ends_with_the_stream(
    app: Flask,
    threads: ThreadManager,
    client: ThreadTestClient,
    store: Lease,
    way: str,
    context: bool,
) -> None:
    @app.get("/")
    @threads.one_at_a_time("reject")
    def view() -> Response:
        def generate() -> Iterator[str]:
            yield "first"
            assert not store.is_free()
            if way == "raises":
                raise RuntimeError("in the stream")
            yield "second"

        body = generate()
        return Response(
            stream_with_context(body) if context else body, status=204 if way == "204" else 200
        )

    response = client.open("/", method="HEAD" if way == "HEAD" else "GET", buffered=False)
    if way in ("read", "left", "raises"):
        assert not store.is_free()
        assert next(response.response) in (b"first", "first")  # type: ignore[call-overload]
        assert not store.is_free()
    if way == "read":
        assert list(response.response) == [b"second"]
    elif way == "raises":
        with pytest.raises(RuntimeError, match="in the stream"):
            list(response.response)
    response.close()
    assert store.is_free()


def test_a_busy_thread_is_409(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Lease
) -> None:
    began: list[str] = []

    @app.get("/reject")
    @threads.one_at_a_time(on_busy="reject")
    def reject() -> str:
        began.append("reject")
        return "rejected nobody"

    @app.get("/wait")
    @threads.one_at_a_time(timeout=0.05)
    def wait() -> str:
        began.append("wait")
        return "waited"

    turn = taken(store)
    for path in ("/reject", "/wait"):
        answer = client.get(path)
        assert answer.status_code == 409
        assert "busy with another request" in answer.text
    assert began == []
    assert not store.is_free()
    turn.end()
    assert client.get("/reject").text == "rejected nobody"
    assert client.get("/wait").text == "waited"


def test_the_turn_is_taken_once_in_a_request(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Lease
) -> None:
    @threads.one_at_a_time("reject")
    def inner() -> str:
        return "inner"

    @app.get("/")
    @threads.one_at_a_time("reject")
    def outer() -> str:
        return inner() + inner()

    assert client.get("/").text == "innerinner"
    assert store.is_free()


def test_async_views(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Lease
) -> None:
    pytest.importorskip("asgiref")
    free: list[bool] = []

    @app.get("/")
    @threads.one_at_a_time("reject")
    async def view() -> str:
        free.append(store.is_free())
        g.thread.state.push("l", 2)
        return "async"

    assert client.get("/").text == "async"
    assert free == [False]
    assert store.is_free()
    with client.thread() as thread:
        assert thread.state["l"] == [1, 2]


def test_another_conversation_in_the_middle(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Lease
) -> None:
    @app.get("/")
    @threads.one_at_a_time("reject")
    def view() -> str:
        threads.new().state["a"] = 1
        assert not store.is_free()
        return "anew"

    assert client.get("/").status_code == 200
    assert store.is_free()


def test_a_state_that_was_read_before_the_turn_is_warned_of(
    app: Flask,
    threads: ThreadManager,
    client: ThreadTestClient,
    store: Lease,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def read() -> None:
        g.before = list(g.thread.state["l"])
        # Another request, whose turn it is, goes on until this one gets its turn.
        store.merge(ID, [Push("l", b"2")])

    app.before_request(read)

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> Any:
        g.thread.state["l"].append(3)
        return {"before": g.before, "view": g.thread.state["l"]}

    # It is old, and nothing that anybody has appended is lost by that.
    assert client.get("/").json == {"before": [1], "view": [1, 3]}
    assert f"Thread {ID} was read before its turn was taken" in caplog.text
    with client.thread() as thread:
        assert thread.state["l"] == [1, 2, 3]


def test_a_function_before_the_request_can_take_the_turn(
    app: Flask,
    threads: ThreadManager,
    client: ThreadTestClient,
    store: Lease,
    caplog: pytest.LogCaptureFixture,
) -> None:
    free: list[bool] = []

    @app.before_request
    @threads.one_at_a_time("reject")
    def read() -> None:
        free.append(store.is_free())
        g.before = len(g.thread.state)

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> str:
        free.append(store.is_free())
        return "view"

    assert client.get("/").text == "view"
    assert free == [False, False]
    assert store.is_free()
    assert not caplog.records
    turn = taken(store)
    assert client.get("/").status_code == 409
    turn.end()


def test_reading_the_id_before_the_turn_is_no_reading(
    app: Flask,
    threads: ThreadManager,
    client: ThreadTestClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    @app.before_request
    def touch() -> None:
        assert g.thread.id == ID
        g.thread.state["seen"] = True
        g.thread.state.push("l", 2)

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> Any:
        return dict(g.thread.state)

    assert client.get("/").json == {"l": [1, 2], "seen": True}
    assert not caplog.records


def test_a_store_that_is_down_is_503(
    app: Flask, threads: ThreadManager, client: ThreadTestClient, store: Lease
) -> None:
    began: list[str] = []

    @app.get("/")
    @threads.one_at_a_time()
    def view() -> str:
        began.append("view")
        return "view"

    store.answers = [StoreError("it is down: secret")]
    answer = client.get("/")
    assert answer.status_code == 503
    assert "secret" not in answer.text
    assert began == []
    assert client.get("/").text == "view"


def test_wrong_use_is_said_at_once(threads: ThreadManager) -> None:
    with pytest.raises(ConfigurationError, match="on_busy='queue'"):
        threads.one_at_a_time("queue")  # type: ignore[arg-type]
    for timeout in ("5", -1, None, True, float("nan")):
        with pytest.raises(ConfigurationError, match=r"timeout=.*0 or more"):
            threads.one_at_a_time(timeout=timeout)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"Write @threads\.one_at_a_time\(\)"):

        @threads.one_at_a_time  # type: ignore[arg-type]
        def view() -> str:
            return "the parentheses are missing"
