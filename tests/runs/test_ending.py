"""Runs at the end of a process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.waiting import eventually

from flask_agentuity.stores.sqlite import SQLiteStore
from flask_agentuity.thread.runs import process
from flask_agentuity.web.runs import ending

from .answers import Answer, Chat

SCRIPT = """
import asyncio, sys, time
from flask import Flask, g
from flask_agentuity import ThreadManager
from flask_agentuity.thread.runs import process

process.CLOSING_SECONDS = 0.5
app = Flask("ending", instance_path={folder!r})
app.config.update(SECRET_KEY="x", AGENTUITY_RUN_GRACE={grace})
threads = ThreadManager(app)

def blocked(state):
    yield "a"
    time.sleep(60)

def quick(state):
    for number in range(5):
        time.sleep(0.05)
        yield str(number)
    state["said"] = "all"

def endless(state):
    number = 0
    try:
        while True:
            time.sleep(0.01)
            yield "x"
    finally:
        state["said"] = "until closed"

async def in_threads(state):
    # The default executor of asyncio ends early with the interpreter.
    for number in range(5):
        yield await asyncio.to_thread(lambda: str(number))
        await asyncio.sleep(0.05)
    state["said"] = "all"

@app.post("/")
def run():
    g.thread.state["asked"] = True
    return threads.stream(globals()[sys.argv[1]](g.thread.state))

client = app.test_client()
response = client.post("/", buffered=False)
print(response.headers["Set-Cookie"].partition("=")[2][:37])
next(filter(None, response.iter_encoded()))
"""


def run_script(tmp_path: Path, answer: str, grace: float) -> tuple[Any, str | None, str, float]:
    """Return the state, the run's status and the log after the process has ended, and its time."""
    script = tmp_path / "ending.py"
    script.write_text(SCRIPT.format(folder=str(tmp_path), grace=grace))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script), answer],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    store = SQLiteStore(tmp_path / "agentuity_threads.db")
    thread_id = done.stdout.strip()
    snapshot = store.read(thread_id)
    stored = store.runs.latest(thread_id) if store.runs else None
    store.close()
    assert snapshot is not None
    status = None if stored is None else stored.status
    return snapshot.encoded.get("said"), status, done.stderr, took


@pytest.mark.parametrize("answer", ["quick", "in_threads"])
def test_the_interpreter_waits_for_runs(tmp_path: Path, answer: str) -> None:
    assert run_script(tmp_path, answer, 20)[:3] == (b'"all"', "done", "")


def test_a_generator_is_closed_after_the_grace_period(tmp_path: Path) -> None:
    said, status, log, took = run_script(tmp_path, "endless", 0.3)
    assert (said, status, log) == (b'"until closed"', "interrupted", "")
    assert took < 20


def test_a_generator_that_blocks_is_cut_off(tmp_path: Path) -> None:
    said, status, log, took = run_script(tmp_path, "blocked", 0.3)
    assert (said, status) == (None, "interrupted")
    assert "was cut off" in log and "Traceback" not in log
    assert took < 20


def test_runs_are_closed_when_the_server_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = threading.Event()
    monkeypatch.setattr(
        "flask_agentuity.web.runs.app_runs.server_probe", lambda grace: stopping.is_set
    )
    chat = Chat(AGENTUITY_RUN_GRACE=0.2)
    answer = Answer().say("a")
    response = chat.ask(answer)
    eventually(lambda: answer.asked == 2)
    stopping.set()
    log = next(iter(chat.runs.here._live.values()))
    eventually(lambda: log.reason == "interrupted")
    answer.say("b")
    assert response.data == b"ab"
    chat.client.finish_runs()
    assert chat.status() == "interrupted"
    assert chat.messages() == ["hello", "ab"]


def test_readers_do_not_wait_for_a_generator_that_blocks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server may wait for its requests before it lets the interpreter end."""
    stopping = threading.Event()
    monkeypatch.setattr(
        "flask_agentuity.web.runs.app_runs.server_probe", lambda grace: stopping.is_set
    )
    monkeypatch.setattr(process, "CLOSING_SECONDS", 0.2)
    chat = Chat(AGENTUITY_RUN_GRACE=0.1)
    answer = Answer().say("a")
    response = chat.ask(answer, "sse")
    eventually(lambda: answer.asked == 2)
    stopping.set()
    assert b"".join(response.iter_encoded()).endswith(b'data: {"status":"interrupted"}\n\n')
    assert "was cut off" in caplog.text
    thread_id = chat.client.thread_id or ""
    # The next worker need not wait until the lease is over.
    eventually(lambda: chat.runs.turns.lease_turn(thread_id, "another").holder == "another")
    # Nor need the interpreter wait for it.
    eventually(lambda: not chat.runs.here._at_work)
    answer.finish()
    name = f"flask_agentuity-run-{response.headers['X-Run-ID']}"
    eventually(lambda: name not in [each.name for each in threading.enumerate()])
    assert chat.messages() == ["hello"]


def test_gunicorn_is_asked_and_its_timeout_compared(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base = pytest.importorskip("gunicorn.workers.base")
    worker = base.Worker.__new__(base.Worker)
    worker.cfg, worker.alive = SimpleNamespace(graceful_timeout=30), True
    handlers = {signal.SIGTERM: worker.handle_exit}
    monkeypatch.setattr(signal, "getsignal", lambda number: handlers.get(number))
    is_stopping = ending.server_probe(25.0)
    assert not is_stopping()
    assert caplog.text == ""
    worker.alive = False
    assert is_stopping()
    ending.server_probe(27.0)
    assert "Set --graceful-timeout 32." in caplog.text
    # Another library has put its own handler before that of gunicorn.
    handlers = {signal.SIGTERM: print, signal.SIGUSR1: worker.handle_usr1}
    assert ending.find_gunicorn_worker() is worker
    handlers.clear()
    assert ending.find_gunicorn_worker() is None
    assert process.CLOSING_SECONDS > 0
