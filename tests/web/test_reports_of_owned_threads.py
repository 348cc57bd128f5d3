"""Reports of an app with an owner loader."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from flask import Flask, g, request
from support.report_service import ReportService
from support.reported_apps import serving_apps

from flask_agentuity import ThreadManager
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.stores.memory import MemoryStore


class CountingStore(MemoryStore):
    """Counts the reads."""

    reads = 0

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        self.reads += 1
        return super().read(thread_id, keys)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportService]:
    with serving_apps(monkeypatch) as service:
        yield service


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


def owned_app(service: ReportService, store: MemoryStore, reports: str) -> Flask:
    app = Flask("owned")
    app.config.update(
        SECRET_KEY="tested",
        AGENTUITY_SESSION_REPORTS=reports,
        AGENTUITY_SDK_KEY="a-key-for-reports",
        AGENTUITY_CATALYST_URL=service.url,
    )
    threads = ThreadManager(app, store=store)

    @threads.owner_loader
    def name_person() -> str | None:
        return request.headers.get("X-Person")

    @app.post("/turn")
    def turn() -> str:
        g.thread.state.setdefault("messages", []).append("hello")
        return str(g.thread.id)

    @app.get("/read/<thread:name>")
    def read(name: str) -> str:
        return str(len(g.thread.state))

    return app


def as_person(name: str) -> dict[str, Any]:
    return {"headers": {"X-Person": name}}


@pytest.mark.parametrize("way", ["cookie", "url"])
def test_a_report_reads_nothing(service: ReportService, store: CountingStore, way: str) -> None:
    reads = {}
    for reports in ("off", "on"):
        client = owned_app(service, store, reports).test_client()
        thread_id = client.post("/turn", **as_person("ada")).text
        store.reads = 0
        if way == "cookie":
            client.post("/turn", **as_person("ada"))
        else:
            client.get(f"/read/{thread_id}", **as_person("ada"))
        reads[reports] = store.reads
    assert reads["on"] == reads["off"] > 0


def test_a_thread_of_another_person_is_not_reported(
    service: ReportService, store: CountingStore, caplog: pytest.LogCaptureFixture
) -> None:
    app = owned_app(service, store, "on")
    thread_id = app.test_client().post("/turn", **as_person("ada")).text
    with caplog.at_level(logging.WARNING):
        answer = app.test_client().get(f"/read/{thread_id}", **as_person("eve"))
    assert answer.status_code == 404
    assert caplog.messages == []
    app.test_client().post("/turn", **as_person("eve"))
    # Reports are sent in their order.
    starts = [each.body for each in service.wait_for(4) if each.method == "POST"]
    assert [each["url"] for each in starts] == ["/turn", "/turn"]


def test_the_new_thread_is_reported_instead(service: ReportService, store: CountingStore) -> None:
    client = owned_app(service, store, "on").test_client()
    client.post("/turn", **as_person("ada"))
    service.wait_for(2)
    thread_id = client.post("/turn", **as_person("eve")).text
    start, end = service.wait_for(4)[2:]
    assert start.body["threadId"] == end.body["threadId"] == thread_id
