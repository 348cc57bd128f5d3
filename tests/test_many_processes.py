"""Eight processes that serve the same few conversations at once, as workers of one site do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from flask_agentuity.stores import ThreadStore, open_store

WORKERS, TURNS, THREADS = 8, 100, 5

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

#: Seconds after which a worker that gets nowhere fails the test, not what it takes.
PATIENCE = 300.0

# A client of each worker's own takes its turns one after the other, each in a thread drawn by
# chance; it writes down what was answered. Half of the views append in place, half push.
# The workers are forks of one process, so that modules are imported once.
PROGRAM = """
import json, os, random, signal, sys, tempfile
from flask import Flask, g, request
from flask_agentuity import ThreadManager
from flask_agentuity.web.app_threads import threads_of

url, folder, workers, turns, ids = sys.argv[1:]
ids, turns = ids.split(","), int(turns)
if url.startswith("redis:"):
    import redis
children = set()
for worker in range(int(workers)):
    child = os.fork()
    if not child:
        break
    children.add(child)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        while children:
            child, code = os.wait()
            children.remove(child)
            if code:
                sys.exit("a worker has failed")
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    sys.exit()

worker = str(worker)
output = open(f"{folder}/{worker}.answers", "w")
app = Flask("worker", instance_path=tempfile.mkdtemp())
app.config.update(SECRET_KEY="shared", AGENTUITY_THREAD_STORE=url,
                  AGENTUITY_THREAD_ON_SAVE_ERROR="raise",
                  AGENTUITY_THREAD_ON_RESTORE_ERROR="raise")
ThreadManager(app)

@app.post("/append")
def append():
    g.thread.state.setdefault("turns", []).append(request.json)
    return ""

@app.post("/push")
def push():
    g.thread.state.push("turns", request.json)
    return ""

provider = threads_of(app).signed_provider
chance = random.Random(worker)
client = app.test_client(use_cookies=False)
number = 0
while number < turns:
    number += 1
    thread_id = chance.choice(ids)
    answer = client.post(
        chance.choice(["/append", "/push"]),
        json=[worker, number],
        headers={"Cookie": "atid=" + provider.cookie_value(thread_id)},
    )
    print(json.dumps([answer.status_code, thread_id, number]), file=output, flush=True)
"""


def thread_ids() -> list[str]:
    return [f"thrd_{number:032x}" for number in range(THREADS)]


class Crowd:
    """The workers, and what each client was answered so far."""

    def __init__(self, folder: Path, url: str, turns: int) -> None:
        self._files = [folder / f"{worker}.answers" for worker in range(WORKERS)]
        for file in self._files:
            file.touch()
        command = [sys.executable, "-c", PROGRAM, url, str(folder), str(WORKERS), str(turns)]
        self.process = subprocess.Popen([*command, ",".join(thread_ids())])

    def answers(self, worker: int) -> list[Any]:
        # The last line may be cut.
        lines = self._files[worker].read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def wait_for(self, count: int) -> None:
        """Wait until each client has had so many answers."""
        deadline = time.monotonic() + PATIENCE
        while min(len(self.answers(worker)) for worker in range(WORKERS)) < count:
            assert time.monotonic() < deadline
            assert self.process.poll() is None
            time.sleep(0.01)

    def finish(self) -> None:
        assert self.process.wait(PATIENCE) == 0

    def kill(self) -> None:
        """Have the process kill its workers."""
        self.process.terminate()
        self.process.wait(PATIENCE)


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """The URL of a store that several processes share, and the Redis behind it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'threads.db'}?timeout=60", None
        return
    redis_server = pytest.importorskip("support.redis_server")
    with ExitStack() as stack:
        # What it has acknowledged is on the disk.
        server = stack.enter_context(
            redis_server.running(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
        )
        yield f"{server.url}?timeout=60", server


def stored(store: ThreadStore) -> dict[str, list[list[Any]]]:
    found = {}
    for thread_id in thread_ids():
        document = json.loads(store.restore(thread_id) or b"{}")
        found[thread_id] = document.get("state", {}).get("turns", [])
    return found


def require_all_that_was_answered(crowd: Crowd, found: dict[str, list[list[Any]]]) -> int:
    """Check each client's turns in each thread, and return how many were not answered as saved."""
    unsaved = 0
    for worker in range(WORKERS):
        answers = crowd.answers(worker)
        unsaved += sum(status != 200 for status, _, _ in answers)
        for thread_id, turns in found.items():
            there = [number for name, number in turns if name == str(worker)]
            # In the order of the client, and none twice.
            assert there == sorted(set(there))
            asked = {number for _, name, number in answers if name == thread_id}
            saved = {
                number for status, name, number in answers if (status, name) == (200, thread_id)
            }
            assert saved <= set(there) <= asked
    return unsaved


def test_every_turn_is_there_once_and_in_order(place: tuple[str, Any], tmp_path: Path) -> None:
    url, _ = place
    crowd = Crowd(tmp_path, url, TURNS)
    try:
        crowd.finish()
    finally:
        crowd.kill()
    with closing(open_store(url)) as store:
        found = stored(store)
    assert require_all_that_was_answered(crowd, found) == 0
    assert sum(map(len, found.values())) == WORKERS * TURNS
    # They were really at it at once: no client had a thread to itself.
    for turns in found.values():
        names = [name for name, _ in turns]
        assert sum(one != other for one, other in pairwise(names)) > WORKERS


def test_every_answered_turn_is_there_when_redis_restarts(tmp_path: Path) -> None:
    redis_server = pytest.importorskip("support.redis_server")
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with redis_server.running(tmp_path, *options) as server:
        # Its end is waited for, not its number: it has to go on until Redis is back.
        crowd = Crowd(tmp_path, server.url, 1_000_000)
        try:
            crowd.wait_for(TURNS // 2)
            # Killed, with calls under way whose outcome is unknown.
            server.stop()
            server.start()
            back = [len(crowd.answers(worker)) for worker in range(WORKERS)]
            deadline = time.monotonic() + PATIENCE
            while not all(
                sum(status == 200 for status, _, _ in crowd.answers(worker)[answered:])
                >= TURNS // 2
                for worker, answered in enumerate(back)
            ):
                assert time.monotonic() < deadline
                assert crowd.process.poll() is None
                time.sleep(0.05)
        finally:
            crowd.kill()
        with closing(open_store(server.url)) as store:
            found = stored(store)
        # The turn under way when a worker was killed was not answered.
        last = {str(worker): len(crowd.answers(worker)) for worker in range(WORKERS)}
        known = {
            thread_id: [[name, number] for name, number in turns if number <= last[name]]
            for thread_id, turns in found.items()
        }
        assert require_all_that_was_answered(crowd, known) > 0
