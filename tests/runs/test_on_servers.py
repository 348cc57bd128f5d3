"""Streamed answers on gunicorn with two workers: cut, resumed, stopped, killed, ended.

Set FLASK_AGENTUITY_LONG_TESTS=1 for the long forms.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.servers import Server, Visitor, together
from support.waiting import eventually

from .clients import (
    Reading,
    answers,
    ask,
    events_in,
    is_prefix,
    last,
    resume,
    serving,
    until_gone,
    wait_for_workers,
)
from .served import text_of

LONG = bool(os.environ.get("FLASK_AGENTUITY_LONG_TESTS"))


#: Worker and store of servers that several tests use.
SHARED = ["gthread SQLite", "gevent Redis", *(["gthread Redis", "gevent SQLite"] if LONG else [])]


def environment_of(store: str, folder: Path, stack: ExitStack) -> dict[str, str]:
    if store == "SQLite":
        return {}
    redis_server = pytest.importorskip("support.redis_server")
    return {"RUNS_STORE": stack.enter_context(redis_server.running(folder)).url}


@pytest.fixture(scope="module", params=SHARED)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    worker, store = request.param.split()
    if worker == "gevent":
        pytest.importorskip("gevent")
    folder = tmp_path_factory.mktemp("runs")
    with ExitStack() as stack:
        environment = environment_of(store, folder, stack)
        yield stack.enter_context(serving(folder, worker, **environment))


def test_cut_and_resumed_at_random_places(server: Server) -> None:
    """No byte is lost or doubled, whichever worker answers."""
    rng = random.Random(1)
    cuts = 0
    while cuts < (500 if LONG else 24):
        visitor = Visitor(server)
        count = rng.randrange(200, 400)
        reading = ask(visitor, count=count, pause=0.001)
        run, data = reading.run, reading.until(rng.randrange(1, 200)).data
        reading.leave()
        expected = text_of(count).encode()
        while True:
            assert expected.startswith(data)
            reading = resume(visitor, run, len(data))
            if reading.status == 204:
                break
            cuts += 1
            data += reading.until(rng.randrange(1, 300)).data
            reading.leave()
        assert data == expected
        assert answers(visitor) == [text_of(count)]


def test_two_readers_on_events(server: Server) -> None:
    visitor = Visitor(server)
    first = ask(visitor, count=50, pause=0.005, format="sse")
    place = ""
    found: list[bytes] = []
    others = [threading.Thread(target=lambda: found.append(stream_of(visitor))) for _ in range(4)]
    for other in others:
        other.start()
    while not place:
        first.more()
        place = next((event[1] for event in events_in(first.data)), "")
    data = first.all()
    for other in others:
        other.join()
    items = [event[2] for event in events_in(data) if event[0] == "message"]
    assert "".join(items) == text_of(50)
    for each in found:
        # Later readers may have come after the end.
        assert each in (data, b"")
    assert events_in(data)[-1][0] == "end"
    assert visitor.get("/chat/stream", Last_Event_ID=events_in(data)[-1][1]).status == 204


def stream_of(visitor: Visitor) -> bytes:
    return visitor.copy().get("/chat/stream").body


def test_stop_from_any_worker(server: Server) -> None:
    for number in range(6):
        visitor = Visitor(server)
        reading = ask(visitor, count=10_000, pause=0.01).until(20)
        assert visitor.copy().post("/chat/stop").status == 202
        said = reading.all().decode()
        assert is_prefix(said) and len(said) < 20_000, number
        assert answers(visitor) == [said]
        assert last(visitor) == {"status": "stopped", "text": said}


def test_an_asynchronous_answer_stops_at_once(server: Server) -> None:
    visitor = Visitor(server)
    reading = ask(visitor, count=2, pause=3_600, **{"async": 1}).until(2)
    assert visitor.copy().post("/chat/stop").status == 202
    assert reading.all() == b"0 "
    assert answers(visitor) == ["0 "]


def test_several_asynchronous_answers(server: Server) -> None:
    """In gevent's workers too, where all greenlets share one thread."""
    visitors = [Visitor(server) for _ in range(50 if LONG else 6)]

    def run(visitor: Visitor) -> None:
        reading = ask(visitor, count=50, pause=0.005, **{"async": 1})
        assert reading.all() == text_of(50).encode()
        assert answers(visitor) == [text_of(50)]

    together(*(lambda visitor=visitor: run(visitor) for visitor in visitors))


def test_a_busy_conversation(server: Server) -> None:
    visitor = Visitor(server)
    reading = ask(visitor, count=1_000, pause=0.01).until(10)
    assert ask(visitor.copy(), count=1).status == 409
    visitor.post("/chat/stop")
    reading.all()
    # At once, whichever worker it reaches.
    for _ in range(4):
        again = ask(visitor, count=1)
        assert again.status == 200
        assert again.all() == b"0 "


def test_a_deleted_thread_ends_its_run(server: Server) -> None:
    visitor = Visitor(server)
    reading = ask(visitor, count=1_000, pause=0.01, format="sse").until(100)
    old = visitor.copy()
    visitor.post("/delete")
    data = reading.all()
    assert events_in(data)[-1][2] == {"status": "interrupted"}
    assert old.get("/chat/status").status == 204
    assert answers(old) == []


def test_many_runs_at_once(server: Server) -> None:
    visitors = [Visitor(server) for _ in range(50 if LONG else 8)]

    def run(visitor: Visitor) -> None:
        reading = ask(visitor, count=100, pause=0.002)
        assert reading.status == 200
        assert reading.all() == text_of(100).encode()
        assert answers(visitor) == [text_of(100)]

    together(*(lambda visitor=visitor: run(visitor) for visitor in visitors))


# These end workers, so each has a separate server.

ALL_SERVERS = ["gthread SQLite", "gevent Redis"]
SERVERS = ALL_SERVERS if LONG else ["gthread SQLite"]
ALL_WAYS = ["TERM to the worker", "HUP", "TERM"]
WAYS = ALL_WAYS if LONG else ["HUP"]
WAYS_AND_READERS = [(way, reads) for way in ALL_WAYS for reads in (True, False)]
WAYS_AND_READERS = WAYS_AND_READERS if LONG else [("HUP", True)]
#: Seconds of a lease; the tests wait for it.
LEASE = 5.0 if LONG else 1.0
GRACE = 1.0


@pytest.fixture(params=SERVERS)
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    worker, store = request.param.split()
    if worker == "gevent":
        pytest.importorskip("gevent")
    with ExitStack() as stack:
        environment = environment_of(store, tmp_path, stack)
        environment |= {
            "AGENTUITY_RUN_GRACE": str(GRACE),
            "RUNS_ON_BUSY": "wait",
            "RUNS_LEASE": str(LEASE),
        }
        server = stack.enter_context(serving(tmp_path, worker, **environment))
        yield server
        # gunicorn tells a worker to end only once, and one that is starting does not hear it.
        wait_for_workers(server)


def test_a_killed_worker(own_server: Server) -> None:
    """What was flushed stays, and readers wait as long as the next message does."""
    wait_for_workers(own_server)
    visitor = Visitor(own_server)
    reading = ask(visitor, count=10_000, pause=0.01, format="sse").until(500)
    other = visitor.copy()
    # It reads in the other worker, if it gets that one.
    follower = threading.Thread(target=lambda: Reading(other, "/chat/stream").all())
    follower.start()
    time.sleep(0.2)
    began = time.monotonic()
    os.kill(reading.worker, signal.SIGKILL)
    waited = visitor.copy().post("/wait")
    took = time.monotonic() - began
    assert waited.status == 200
    assert LEASE * 0.6 < took < LEASE + 25, took
    follower.join()
    found = last(visitor)
    assert found["status"] == "interrupted"
    assert is_prefix(found["text"]) and found["text"]
    # Nothing of the answer was saved; the next message was.
    assert answers(visitor) == []
    received = events_in(reading.data)
    rest = visitor.get("/chat/stream", Last_Event_ID=received[-1][1])
    assert [event[0] for event in events_in(rest.body)][-2:] == ["error", "end"]
    items = [event[2] for event in (*received, *events_in(rest.body)) if event[0] == "message"]
    # At most the last flush is lost; this client has had it.
    assert "".join(items).startswith(found["text"]) or found["text"].startswith("".join(items))
    # It can be tried again.
    assert ask(visitor, count=3).all() == b"0 1 2 "


def test_readers_learn_that_a_worker_was_killed(own_server: Server) -> None:
    wait_for_workers(own_server)
    visitor = Visitor(own_server)
    reading = ask(visitor, count=10_000, pause=0.01, format="sse").until(500)
    process = reading.worker
    reading.leave()
    os.kill(process, signal.SIGKILL)
    began = time.monotonic()
    data = visitor.get("/chat/stream").body
    took = time.monotonic() - began
    *_, error, end = events_in(data)
    assert (error[0], end[2]) == ("error", {"status": "interrupted"})
    assert LEASE * 0.6 < took < LEASE + 25, took


def test_no_reader_sees_an_end_that_was_not_saved(own_server: Server) -> None:
    """Workers are killed just about when an answer ends."""
    rng = random.Random(2)
    for _ in range(60 if LONG else 4):
        wait_for_workers(own_server)
        visitor = Visitor(own_server)
        count = 30
        reading = ask(visitor, count=count, pause=0.002, format="sse").until(100)
        delay = max(0.0, rng.gauss(0.06, 0.02))
        killer = threading.Timer(delay, os.kill, (reading.worker, signal.SIGKILL))
        killer.start()
        data = reading.all()
        killer.join()
        if any(event[0] == "end" for event in events_in(data)):
            assert answers(visitor) == [text_of(count)]
            assert visitor.get("/chat/status").json()["status"] == "done"
        else:
            assert answers(visitor) in ([], [text_of(count)])


def test_a_suspended_worker_saves_nothing(own_server: Server) -> None:
    wait_for_workers(own_server)
    visitor = Visitor(own_server)
    reading = ask(visitor, count=300, pause=0.01).until(20)
    os.kill(reading.worker, signal.SIGSTOP)
    try:
        # It may reach the suspended worker's queue first, so several are asked.
        waiting = Visitor(own_server)
        eventually(lambda: waiting.get("/worker").body, "a worker answers")
        assert visitor.copy().post("/wait").status == 200
    finally:
        os.kill(reading.worker, signal.SIGCONT)
    reading.all()
    eventually(
        lambda: [each for each in own_server.events() if each[0] == "interrupted"],
        "the run has ended",
    )
    assert answers(visitor) == []
    assert last(visitor)["status"] == "interrupted"


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_ends_within_the_grace_period(own_server: Server, way: str) -> None:
    wait_for_workers(own_server)
    visitor = Visitor(own_server)
    reading = ask(visitor, count=40, pause=0.01).until(20)
    end(own_server, reading.worker, way)
    assert reading.all() == text_of(40).encode()
    until_gone(reading.worker)
    assert [each[0] for each in own_server.events()] == ["done"]
    if way == "TERM":
        own_server.process.wait(30)
        own_server.start()
    assert answers(visitor) == [text_of(40)]
    assert last(visitor)["status"] == "done"


@pytest.mark.parametrize("own_server", ALL_SERVERS, indirect=True)
@pytest.mark.parametrize(("way", "reads"), WAYS_AND_READERS)
def test_a_run_that_is_longer_than_the_grace_period(
    own_server: Server, way: str, reads: bool
) -> None:
    wait_for_workers(own_server)
    visitor = Visitor(own_server)
    reading = ask(visitor, count=10_000, pause=0.01).until(20)
    if not reads:
        reading.leave()
    end(own_server, reading.worker, way)
    said = reading.all().decode() if reads else ""
    until_gone(reading.worker)
    assert [each[0] for each in own_server.events()] == ["interrupted"]
    if way == "TERM":
        own_server.process.wait(30)
        own_server.start()
    (saved,) = answers(visitor)
    assert is_prefix(saved) and len(saved) >= 20
    assert not reads or said == saved
    assert last(visitor) == {"status": "interrupted", "text": saved}
    assert "Traceback" not in own_server.log()


def end(server: Server, worker: int, way: str) -> None:
    match way:
        case "TERM to the worker":
            os.kill(worker, signal.SIGTERM)
        case "HUP":
            server.process.send_signal(signal.SIGHUP)
        case _:
            server.process.send_signal(signal.SIGTERM)


def test_max_requests(tmp_path: Path) -> None:
    options = ("--max-requests", "3")
    with serving(tmp_path, "gthread", *options, AGENTUITY_RUN_GRACE="20") as server:
        wait_for_workers(server)
        visitor = Visitor(server)
        reading = ask(visitor, count=100, pause=0.01).until(20)
        run, process = reading.run, reading.worker
        reading.leave()
        for _ in range(12):
            Visitor(server).get("/worker")
        until_gone(process)
        assert visitor.get(f"/chat/stream?run={run}").body == text_of(100).encode()
        assert answers(visitor) == [text_of(100)]


@pytest.mark.skipif(not LONG, reason="set FLASK_AGENTUITY_LONG_TESTS=1 for tests that take long")
@pytest.mark.parametrize("store", ["SQLite", "Redis"])
def test_a_store_that_blocks_for_three_seconds(tmp_path: Path, store: str) -> None:
    with ExitStack() as stack:
        redis = None
        environment: dict[str, str] = {}
        if store == "Redis":
            redis_server = pytest.importorskip("support.redis_server")
            redis = stack.enter_context(redis_server.running(tmp_path))
            environment["RUNS_STORE"] = redis.url
        server = stack.enter_context(serving(tmp_path, "gthread", **environment))
        visitor = Visitor(server)
        reading = ask(visitor, count=400, pause=0.01).until(20)
        if redis is not None:
            redis.client().client_pause(3_000)
        else:
            path = server.instance / "agentuity_threads.db"
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                time.sleep(3)
                connection.execute("ROLLBACK")
        assert reading.all() == text_of(400).encode()
        assert answers(visitor) == [text_of(400)]
        assert last(visitor) == {"status": "done", "text": text_of(400)}
