"""One request at a time on a thread: in this process, and over real servers."""

from __future__ import annotations

import gc
import http.client
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask, Response, current_app, g, stream_with_context
from server.servers import PATIENCE, WERKZEUG, Server, Visitor, gunicorn, running, wait_until

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
        assert next(response.response) in (b"first", "first")  # type: ignore[arg-type, call-overload]
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


# Over real servers

APP = "turns_app:create_app"


def command(original: list[str]) -> list[str]:
    return [part.replace("server.app:create_app", APP) for part in original]


SERVERS = {
    "threads": command(WERKZEUG),
    "2 processes": command(gunicorn("gthread", 2)),
}


@pytest.fixture(scope="module", params=[*SERVERS, "2 processes and Redis"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("turns")
    kind, _, redis = request.param.partition(" and ")
    with ExitStack() as stack:
        environment = {}
        if redis:
            store = pytest.importorskip("flask_agentuity.stores.redis").RedisStore
            if store.take_turn is ThreadStore.take_turn:
                pytest.skip("RedisStore has no turns of its own")
            redis_server = pytest.importorskip("stores.redis_server")
            environment["TURNS_STORE"] = stack.enter_context(redis_server.running(folder)).url
        yield stack.enter_context(running(folder, SERVERS[kind], **environment))


def visitor_of(server: Server) -> Visitor:
    """Return a visitor who has a thread already."""
    visitor = Visitor(server)
    visitor.post("/mine")
    return visitor


def new_mark() -> str:
    return uuid4().hex


def events(server: Server, mark: str) -> list[str]:
    return [event for event, *_ in server.events(name=mark)]


def open_gate(server: Server, mark: str) -> None:
    (server.folder / f"gate-{mark}").touch()


class Stream:
    """A request whose answer is under way until its gate is opened."""

    def __init__(self, visitor: Visitor) -> None:
        self.mark = new_mark()
        self._server = visitor.server
        self._connection = http.client.HTTPConnection(*visitor.server.address, timeout=PATIENCE)
        self._connection.request("GET", f"/stream?mark={self.mark}", headers=visitor._headers(None))
        self._response = self._connection.getresponse()
        #: The process that answers.
        self.process = int(self._response.readline())

    def finish(self) -> None:
        open_gate(self._server, self.mark)
        assert self._response.read() == b"done"
        self._connection.close()

    def abandon(self) -> None:
        self._connection.close()


class Asking:
    """A request in a thread of its own."""

    def __init__(self, visitor: Visitor, path: str) -> None:
        self.mark = new_mark()
        self._answers: list[Any] = []
        self._thread = threading.Thread(
            target=lambda: self._answers.append(visitor.get(f"{path}?mark={self.mark}"))
        )
        self._thread.start()

    def answer(self) -> Any:
        self._thread.join(PATIENCE)
        (answer,) = self._answers
        return answer


def test_a_second_client_waits_until_the_stream_has_ended(server: Server) -> None:
    visitor = visitor_of(server)
    stream = Stream(visitor)
    waiting = [Asking(visitor.copy(), "/wait") for _ in range(2)]
    for asking in waiting:
        wait_until(lambda mark=asking.mark: "arrived" in events(server, mark), "it has come")
    # It takes its time, in which the others could begin if they did not wait.
    assert visitor.copy().get("/impatient").status == 409
    assert visitor.copy().get("/reject").status == 409
    # Other views and other threads do not wait.
    assert visitor.copy().get("/free").json() == []
    assert visitor_of(server).get(f"/wait?mark={new_mark()}").status == 200
    for asking in waiting:
        assert events(server, asking.mark) == ["arrived"]
    stream.finish()
    answers = sorted((asking.answer().json() for asking in waiting), key=len)
    # Each has seen what was done before its turn, what the stream has saved at its end too.
    assert [len(messages) for messages in answers] == [2, 3]
    assert answers[1][:2] == answers[0]
    assert answers[0][0] == stream.mark
    order = [(event, name) for event, name in server.events() if event in ("begin", "end")]
    mine = [name for _, name in order if name in {stream.mark, *(each.mark for each in waiting)}]
    assert mine == [mine[0], mine[0], mine[2], mine[2], mine[4], mine[4]]
    assert mine[0] == stream.mark
    assert visitor.get("/reject").status == 200


def test_a_client_that_leaves_gives_its_turn_back(server: Server) -> None:
    visitor = visitor_of(server)
    visitor.leave("/endless")
    assert visitor.get(f"/wait?mark={new_mark()}").status == 200


def test_head_and_many_quick_requests(server: Server) -> None:
    visitor = visitor_of(server)
    assert visitor.ask("HEAD", f"/stream?mark={new_mark()}").status == 200
    asking = [Asking(visitor.copy(), "/wait") for _ in range(12)]
    lengths = sorted(len(each.answer().json()) for each in asking)
    assert lengths == list(range(1, 13))


@pytest.mark.parametrize("store", ["SQLite", "Redis"])
def test_a_killed_worker_does_not_hold_its_turn_for_ever(tmp_path: Path, store: str) -> None:
    with ExitStack() as stack:
        environment = {"TURNS_LEASE": "2.0"}
        if store == "Redis":
            redis_server = pytest.importorskip("stores.redis_server")
            environment["TURNS_STORE"] = stack.enter_context(redis_server.running(tmp_path)).url
        server = stack.enter_context(running(tmp_path, SERVERS["2 processes"], **environment))
        visitor = visitor_of(server)
        stream = Stream(visitor)
        assert visitor.copy().get("/reject").status == 409
        assert stream.process != server.process.pid
        began = time.monotonic()
        os.kill(stream.process, signal.SIGKILL)
        answer = visitor.copy().get(f"/wait?mark={new_mark()}")
        assert answer.status == 200
        assert time.monotonic() - began < PATIENCE / 2
        assert stream.mark not in answer.json()
        stream.abandon()
