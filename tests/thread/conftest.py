"""An app whose store notes the turns that are taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from support.leasing import ID, Leasing, is_renewing
from support.waiting import eventually

from flask_agentuity import ThreadManager
from flask_agentuity.stores import leases
from flask_agentuity.testing.client import ThreadTestClient


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Leasing]:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.5)
    store = Leasing()
    yield store
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.05)
    eventually(lambda: not is_renewing(store), "no turn is kept any more")


@pytest.fixture
def app(store: Leasing, tmp_path: Path) -> Flask:
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
