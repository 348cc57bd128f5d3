"""Turns across the processes of real servers."""

from __future__ import annotations

import http.client
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from support.servers import PATIENCE, WERKZEUG, Server, Visitor, gunicorn, running
from support.waiting import eventually

ID = "thrd_0123456789abcdef0123456789abcdef"
THREAD_NAME = "flask_agentuity-turn"


def renewing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


# Over real servers

APP = "server.turns_app:create_app"


def command(original: list[str]) -> list[str]:
    return [part.replace("server.app:create_app", APP) for part in original]


SERVERS = {
    "threads": command(WERKZEUG),
    "2 processes": command(gunicorn("gthread", 2)),
    "gevent, preloaded": command(gunicorn("gevent", 2, "--preload")),
}
PRELOADED = command(gunicorn("gthread", 2, "--preload"))


@pytest.fixture(scope="module", params=[*SERVERS, "2 processes and Redis"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("turns")
    kind, _, redis = request.param.partition(" and ")
    if "gevent" in kind:
        pytest.importorskip("gevent")
    with ExitStack() as stack:
        environment = {}
        if redis:
            redis_server = pytest.importorskip("support.redis_server")
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


def has_arrived(server: Server, mark: str) -> bool:
    return "arrived" in events(server, mark)


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
    """A request in a separate thread."""

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
        eventually(partial(has_arrived, server, asking.mark), "it has come")
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


@pytest.fixture(scope="module", params=["SQLite", "Redis"])
def short_leases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Two processes that take over a turn after a second. One that is killed is replaced."""
    folder = tmp_path_factory.mktemp("leases")
    with ExitStack() as stack:
        environment = {"TURNS_LEASE": "1.0"}
        if request.param == "Redis":
            redis_server = pytest.importorskip("support.redis_server")
            environment["TURNS_STORE"] = stack.enter_context(redis_server.running(folder)).url
        yield stack.enter_context(running(folder, PRELOADED, **environment))


def test_the_turn_of_a_killed_worker_is_taken_over(short_leases: Server) -> None:
    visitor = visitor_of(short_leases)
    stream = Stream(visitor)
    assert visitor.copy().get("/reject").status == 409
    assert stream.process != short_leases.process.pid
    began = time.monotonic()
    os.kill(stream.process, signal.SIGKILL)
    answer = visitor.copy().get(f"/wait?mark={new_mark()}")
    assert answer.status == 200
    assert time.monotonic() - began < PATIENCE / 2
    assert stream.mark not in answer.json()
    stream.abandon()


def test_a_request_that_does_not_wait_finds_out_that_the_holder_was_killed(
    short_leases: Server,
) -> None:
    visitor = visitor_of(short_leases)
    stream = Stream(visitor)
    os.kill(stream.process, signal.SIGKILL)
    eventually(
        lambda: visitor.copy().get("/reject").status == 200, "it is no longer answered with 409"
    )
    stream.abandon()


def suspend(server: Server, process: int) -> None:
    """Stop a process, but not in the middle of a transaction, in which the file is locked."""
    while True:
        os.kill(process, signal.SIGSTOP)
        files = [*server.folder.rglob("*.db")]
        try:
            for file in files:
                with closing(sqlite3.connect(file, timeout=0.2, isolation_level=None)) as other:
                    other.execute("BEGIN IMMEDIATE")
                    other.execute("ROLLBACK")
            return
        except sqlite3.OperationalError:
            os.kill(process, signal.SIGCONT)
            time.sleep(0.05)


def test_a_suspended_worker_that_resumes_saves_nothing(short_leases: Server) -> None:
    visitor = visitor_of(short_leases)
    stream = Stream(visitor)
    suspend(short_leases, stream.process)
    try:
        answer = visitor.copy().get(f"/wait?mark={(mark := new_mark())}")
    finally:
        os.kill(stream.process, signal.SIGCONT)
    assert answer.json() == [mark]
    stream.finish()
    assert events(short_leases, stream.mark) == ["arrived", "begin", "end"]
    assert visitor.copy().get("/free").json() == [mark]
    assert "was taken over by another request" in short_leases.log()
    # The worker that was suspended goes on to work.
    assert visitor.copy().get(f"/wait?mark={(later := new_mark())}").json() == [mark, later]
