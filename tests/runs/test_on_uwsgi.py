"""Streamed answers on uWSGI: cut, resumed, stopped, ended.

Set FLASK_AGENTUITY_LONG_TESTS=1 for all tests.
"""

from __future__ import annotations

import http.client
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest
from support.servers import Server, Visitor, running, uwsgi
from support.waiting import eventually

from flask_agentuity.web.runs import uwsgi as uwsgi_module

from .clients import APP, answers, ask, is_prefix, last, resume, until_gone, wait_for_workers
from .served import text_of

OPTIONS = {
    "threads": ["--lazy-apps", "--threads", "8"],
    "gevent": ["--gevent", "100", "--gevent-early-monkey-patch"],
}
GRACE = "0.5"
LONG = bool(os.environ.get("FLASK_AGENTUITY_LONG_TESTS"))


@pytest.fixture(scope="module", params=OPTIONS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    if request.param == "gevent":
        pytest.importorskip("gevent")
    folder = tmp_path_factory.mktemp("uwsgi")
    command = uwsgi(APP + "()", *OPTIONS[request.param])
    with running(folder, command, AGENTUITY_RUN_GRACE=GRACE) as server:
        yield server
        # A worker that is starting does not hear that it is to end.
        wait_for_workers(server)
        assert "Traceback" not in server.log()


def test_an_answer_is_cut_resumed_and_stopped(server: Server) -> None:
    wait_for_workers(server)
    visitor = Visitor(server)
    reading = ask(visitor, count=100, pause=0.005)
    run, data = reading.run, b""
    while reading.status == 200:
        data += reading.until(50).data
        reading.leave()
        reading = resume(visitor, run, len(data))
    assert reading.status == 204
    assert data == text_of(100).encode()
    assert answers(visitor) == [text_of(100)]
    stopped = Visitor(server)
    reading = ask(stopped, count=10_000, pause=0.01).until(20)
    assert stopped.copy().post("/chat/stop").status == 202
    said = reading.all().decode()
    assert answers(stopped) == [said]
    assert last(stopped) == {"status": "stopped", "text": said}


@pytest.mark.parametrize("reads", [True, False])
def test_a_worker_is_asked_to_end(server: Server, reads: bool) -> None:
    wait_for_workers(server)
    visitor = Visitor(server)
    reading = ask(visitor, count=10_000, pause=0.01).until(20)
    process = reading.worker
    if not reads:
        reading.leave()
    os.kill(process, signal.SIGHUP)
    said = reading.all().decode() if reads else ""
    require_interrupted(server, visitor, process)
    assert not reads or answers(visitor) == [said]


@pytest.mark.skipif(not LONG, reason="set FLASK_AGENTUITY_LONG_TESTS=1 for tests that take long")
def test_the_server_is_asked_to_end(server: Server) -> None:
    wait_for_workers(server)
    visitor = Visitor(server)
    reading = ask(visitor, count=10_000, pause=0.01).until(20)
    process = reading.worker
    server.process.send_signal(signal.SIGTERM)
    reading.all()
    server.process.wait(30)
    server.start()
    require_interrupted(server, visitor, process)


def require_interrupted(server: Server, visitor: Visitor, process: int) -> None:
    """Wait until a worker has ended, and check that its run has ended well before."""
    until_gone(process)
    wait_for_answers(server)
    (saved,) = answers(visitor)
    assert is_prefix(saved) and len(saved) >= 20
    assert last(visitor) == {"status": "interrupted", "text": saved}


def wait_for_answers(server: Server) -> None:
    """Wait while the server takes connections that no worker answers."""

    def answered() -> bool:
        with suppress(OSError, http.client.HTTPException):
            return Visitor(server).get("/worker").status == 200
        return False

    eventually(answered, "the server answers")


def test_what_uwsgi_says(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A fake stands for its module, which only its own processes have."""
    calls: list[str] = []
    module = SimpleNamespace(
        worker_id=lambda: 2,
        has_threads=0,
        opt={"worker-reload-mercy": b"20"},
        atexit=lambda: calls.append("app"),
    )
    assert uwsgi_module.uwsgi_probe(29.0) is None
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    is_stopping = uwsgi_module.uwsgi_probe(29.0)
    assert is_stopping is not None and not is_stopping()
    assert "Set enable-threads." in caplog.text
    assert "Set worker-reload-mercy = 30." in caplog.text
    # What the app has set is called as well.
    uwsgi_module.end_with_uwsgi(lambda: calls.append("runs"))
    module.atexit()
    assert calls == ["runs", "app"]
    # The master process serves nothing.
    module.worker_id = lambda: 0
    assert uwsgi_module.uwsgi_probe(29.0) is None
