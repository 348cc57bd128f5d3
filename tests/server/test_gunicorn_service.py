"""Gunicorn's workers, preloaded, with their threads in a thread service."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from support.servers import Visitor, gunicorn, running, together

from flask_agentuity.service import ThreadService
from flask_agentuity.stores.memory import MemoryStore

from .test_gunicorn import order_of

CLIENTS, TURNS = 8, 25


@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_two_preloaded_workers_share_a_service(tmp_path: Path, worker: str) -> None:
    if worker == "gevent":
        pytest.importorskip("gevent")
    with (
        ThreadService(MemoryStore(), keys=["a key of the tests"]) as service,
        running(
            tmp_path,
            gunicorn(worker, 2, "--preload"),
            AGENTUITY_THREAD_STORE=service.url,
            AGENTUITY_SDK_KEY="a key of the tests",
        ) as server,
    ):
        browser = Visitor(server)
        browser.post("/state", {"begun": True})

        def post(name: int) -> None:
            tab = browser.copy()
            for turn in range(TURNS):
                assert tab.post("/push", f"{name} {turn}").status == 200

        together(*(partial(post, name) for name in range(CLIENTS)))
        assert order_of(browser.state()["messages"]) == {
            str(name): list(range(TURNS)) for name in range(CLIENTS)
        }
        assert not list(tmp_path.glob("instance/*.db"))
