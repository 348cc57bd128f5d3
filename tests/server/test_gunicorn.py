"""Many processes on one file, killed and started again."""

from __future__ import annotations

import http.client
import threading
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from support.servers import Server, Visitor, gunicorn, running, together
from support.waiting import eventually

from . import app as served

CLIENTS, TURNS = 8, 25


def order_of(messages: list[str]) -> dict[str, list[int]]:
    """Return the numbers of each client's messages as they are stored."""
    parted = sorted((message.split() for message in messages), key=lambda parts: parts[0])
    return {
        client: [int(number) for _, number in numbers]
        for client, numbers in groupby(parted, key=lambda parts: parts[0])
    }


@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_two_tabs_lose_nothing(tmp_path: Path, worker: str) -> None:
    if worker == "gevent":
        pytest.importorskip("gevent")
    with running(tmp_path, gunicorn(worker, workers=2)) as server:
        browser = Visitor(server)
        browser.post("/state", {"begun": True})

        def post(name: int) -> None:
            tab = browser.copy()
            for turn in range(TURNS):
                assert tab.post("/push", f"{name} {turn}").status == 200

        together(*(partial(post, name) for name in range(CLIENTS)))
        state = browser.state()
        assert state.pop("begun")
        assert len(state["messages"]) == CLIENTS * TURNS
        assert order_of(state["messages"]) == {
            str(name): list(range(TURNS)) for name in range(CLIENTS)
        }

        # There are two of them indeed; the kernel says which one gets a connection.
        workers: set[bytes] = set()

        def ask() -> None:
            workers.add(browser.copy().get("/worker").body)

        def both() -> bool:
            together(*[ask] * CLIENTS)
            return len(workers) == 2

        eventually(both, "both workers answer")


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    server = Server(tmp_path, gunicorn("gthread", workers=2))
    server.start()
    try:
        browser = Visitor(server)
        browser.post("/state", {"begun": True})
        for _ in range(2):
            answered = post_until_killed(server, browser)
            server.start()
            messages = browser.state()["messages"]
            stored = order_of(messages)
            for name, numbers in answered.items():
                # One that was under way may be there or not, and nothing else.
                under_way = numbers[-1] + 1
                assert stored[name] in (
                    list(range(under_way)),
                    list(range(under_way + 1)),
                )
            browser.post("/state", {"messages": []})
    except BaseException:
        print(server.log())
        raise
    finally:
        server.kill()


def post_until_killed(server: Server, browser: Visitor) -> dict[str, list[int]]:
    """Return the numbers of each client's messages that were answered."""
    answered: dict[str, list[int]] = {str(name): [] for name in range(CLIENTS)}
    killed = threading.Event()

    def post(name: str) -> None:
        tab = browser.copy()
        number = 0
        while True:
            try:
                assert tab.post("/push", f"{name} {number}").status == 200
            except (OSError, http.client.HTTPException):
                assert killed.is_set()
                return
            answered[name].append(number)
            number += 1

    def kill() -> None:
        eventually(lambda: all(len(numbers) > 5 for numbers in answered.values()), "all post")
        killed.set()
        server.kill()

    together(kill, *(partial(post, name) for name in answered))
    return answered


@pytest.mark.parametrize("options", [[], ["--no-sendfile"]], ids=["sendfile", "no sendfile"])
def test_a_file_is_sent_as_fast_as_the_server_can(tmp_path: Path, options: list[str]) -> None:
    with running(tmp_path, gunicorn("gthread", 1, *options)) as server:
        visitor = Visitor(server)
        content = (served.HERE / "app.py").read_bytes()
        for turn in range(2):
            assert visitor.get(f"/file?mark={turn}").body == content
            assert visitor.state() == {"mark": str(turn)}
            part = visitor.get("/file?mark=part", Range="bytes=5-")
            assert (part.status, part.body) == (206, content[5:])
            assert visitor.state() == {"mark": "part"}
            assert visitor.get("/static/app.py").body == content
        # It is the server's own wrapper that the server was given.
        seen: Any = visitor.get("/wrapped").json()
        assert seen == {"/file": True, "/file?mark=1": True, "/stream?mark=1": False}
