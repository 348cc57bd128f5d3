"""Spans and metrics, as the SDK's own exporters in memory receive them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, g

from flask_agentuity import StoreError, ThreadManager, service_connected, service_disconnected
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.errors import ConfigurationError
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Conflict, Write, Written
from flask_agentuity.web import events
from flask_agentuity.web.app_threads import threads_of

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flask_agentuity.integrations import otel_names as names
from flask_agentuity.integrations.otel import instrument

ID = "thrd_0123456789abcdef0123456789abcdef"


class Telemetry:
    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def instrument(self, app: Flask) -> None:
        instrument(app, tracer_provider=self.tracers, meter_provider=self.meters)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Return the attributes and the value of each point of a metric."""
        data = self.reader.get_metrics_data()
        return [
            (dict(point.attributes or {}), _value(point))
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


def _value(point: Any) -> Any:
    return point.value if hasattr(point, "value") else point.count


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def make_app(telemetry: Telemetry) -> Callable[..., Flask]:
    def make(store: ThreadStore | str = "memory://") -> Flask:
        app = Flask("traced")
        app.secret_key = "tested"
        ThreadManager(app, store=store)
        telemetry.instrument(app)

        @app.post("/turn")
        def turn() -> str:
            g.thread.state.setdefault("messages", []).append("hello")
            return str(g.thread.id)

        @app.get("/untouched")
        def untouched() -> str:
            return "untouched"

        @app.get("/session")
        def session() -> str:
            g.thread.id  # noqa: B018 - it is used
            return str(g.session.id)

        return app

    return make


def test_a_turn_has_two_spans(make_app: Callable[..., Flask], telemetry: Telemetry) -> None:
    client = make_app().test_client()
    client.post("/turn")
    telemetry.spans.clear()
    thread_id = client.post("/turn").text
    restore, merge = telemetry.spans.get_finished_spans()
    assert (restore.name, merge.name) == ("thread.restore", "thread.merge")
    for span in (restore, merge):
        assert span.attributes is not None
        assert span.attributes[names.CONVERSATION_ID] == thread_id
        assert span.attributes[names.SYSTEM] == "memory"
        assert span.kind is trace.SpanKind.CLIENT
        assert span.status.is_ok or span.status.is_unset
    assert restore.attributes and restore.attributes[names.FOUND] is True
    assert restore.attributes[names.SIZE] == len('["hello"]') + len("{}")
    assert merge.attributes and merge.attributes[names.SIZE] == len('"hello"')


def test_spans_are_children_of_the_current_one(
    make_app: Callable[..., Flask], telemetry: Telemetry
) -> None:
    app = make_app()
    tracer = telemetry.tracers.get_tracer("test")
    with tracer.start_as_current_span("request") as parent:
        app.test_client().post("/turn")
    (merge,) = telemetry.named("thread.merge")
    assert merge.parent is not None
    assert merge.parent.span_id == parent.get_span_context().span_id


def test_the_calls_are_measured(make_app: Callable[..., Flask], telemetry: Telemetry) -> None:
    client = make_app().test_client()
    client.post("/turn")
    client.post("/turn")
    by_operation = {each[names.OPERATION]: n for each, n in telemetry.points(names.CALLS)}
    assert by_operation == {"restore": 1, "merge": 2}
    durations = {each[names.OPERATION]: n for each, n in telemetry.points(names.DURATION)}
    assert durations == by_operation
    sizes = {each[names.DIRECTION]: size for each, size in telemetry.points(names.IO)}
    assert sizes["read"] > 0 and sizes["write"] > 0
    assert telemetry.points(names.FAILURES) == []


def test_reads_for_a_person_are_traced_and_measured(
    make_app: Callable[..., Flask], telemetry: Telemetry
) -> None:
    app = make_app()
    app.extensions["agentuity"].owner_loader(lambda: "ada")
    client = app.test_client()
    thread_id = client.post("/turn").text
    telemetry.spans.clear()
    client.post("/turn")
    spans = telemetry.named(names.SPAN_RESTORE)
    assert spans
    assert {(span.attributes or {})[names.CONVERSATION_ID] for span in spans} == {thread_id}
    calls = [value for about, value in telemetry.points(names.CALLS) if "restore" in about.values()]
    assert calls == [len(spans)]


def test_an_untouched_request_leaves_nothing(
    make_app: Callable[..., Flask], telemetry: Telemetry
) -> None:
    make_app().test_client().get("/untouched")
    assert telemetry.spans.get_finished_spans() == ()
    assert telemetry.points(names.CALLS) == []


def test_a_conflict_is_an_event(make_app: Callable[..., Flask], telemetry: Telemetry) -> None:
    app = make_app()
    threads = app.extensions["agentuity"]

    @app.post("/edit")
    def edit() -> str:
        g.thread.state["messages"][0] = "mine"
        with threads.open(g.thread.id) as other:
            other.state["messages"][0] = "theirs"
        return "edited"

    client = app.test_client()
    client.post("/turn")
    telemetry.spans.clear()
    client.post("/edit")
    conflicting = [
        (event.name, dict(event.attributes or {}))
        for span in telemetry.named("thread.merge")
        for event in span.events
    ]
    assert conflicting == [("thread.conflict", {names.KEYS: ("messages",)})]
    assert telemetry.points(names.CONFLICTS) == [({names.SYSTEM: "memory"}, 1)]


class DamagedStore(MemoryStore):
    edits = True

    def read(self, *arguments: Any, **named: Any) -> Snapshot | None:
        raise StoreError("The data is damaged.")

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        raise StoreError("The disk is full.")


def test_failures_and_degraded_threads(
    make_app: Callable[..., Flask], telemetry: Telemetry
) -> None:
    app = make_app(DamagedStore())
    app.test_client().post("/turn")
    tracer = telemetry.tracers.get_tracer("test")
    with tracer.start_as_current_span("request"):
        threads = app.extensions["agentuity"]
        with pytest.raises(StoreError), threads.open(ID) as thread:
            len(thread.state)
    (restore,) = telemetry.named("thread.restore")
    assert restore.status.status_code is trace.StatusCode.ERROR
    assert restore.attributes and restore.attributes[names.ERROR_TYPE] == "StoreError"
    assert [event.name for event in restore.events] == ["exception"]
    (request,) = telemetry.named("request")
    (event,) = request.events
    assert event.name == "thread.degraded"
    assert event.attributes and event.attributes[names.CONVERSATION_ID] == ID
    failed = {each[names.OPERATION]: n for each, n in telemetry.points(names.FAILURES)}
    assert failed == {"merge": 1, "restore": 1}
    assert telemetry.points(names.DEGRADED) == [({names.ERROR_TYPE: "StoreError"}, 1)]
    assert telemetry.points(names.SAVE_FAILURES) == [({names.ERROR_TYPE: "StoreError"}, 1)]


def test_the_connection_is_counted(make_app: Callable[..., Flask], telemetry: Telemetry) -> None:
    app, other = make_app(), Flask("other")
    service_connected.send(app, thread=None, session=None, error=None)
    service_connected.send(other, thread=None, session=None, error=None)
    assert telemetry.points(names.CONNECTIONS) == [({}, 1)]
    service_disconnected.send(app, thread=None, session=None, error=StoreError())
    assert telemetry.points(names.CONNECTIONS) == [({}, 0)]


def test_runs_are_counted_where_they_exist(
    make_app: Callable[..., Flask], telemetry: Telemetry
) -> None:
    signal = getattr(events, "thread_run_finished", None)
    if signal is None:
        pytest.skip("there are no runs yet")
    app = make_app()
    signal.send(app, thread=None, session=None, error=None, run=None, status="done")
    assert telemetry.points(names.RUNS) == [({names.STATUS: "done"}, 1)]


def test_the_store_stays_what_it_is(
    make_app: Callable[..., Flask], telemetry: Telemetry, tmp_path: Any
) -> None:
    app = make_app(f"sqlite:///{tmp_path / 'threads.db'}")
    store = threads_of(app).store
    assert isinstance(store, SQLiteStore) and isinstance(store, ThreadStore)
    assert not isinstance(store, MemoryStore)
    assert store.edits is True and store.path == tmp_path / "threads.db"
    client = app.test_client()
    thread_id = client.post("/turn").text
    with app.app_context():
        assert [each.id for each in app.extensions["agentuity"].list().threads] == [thread_id]
    assert telemetry.named("thread.merge")[0].attributes == {
        names.CONVERSATION_ID: thread_id,
        names.SYSTEM: "sqlite",
        names.SIZE: len('"hello"'),
    }
    store.close()


def test_instrumenting_twice_measures_once(
    make_app: Callable[..., Flask], telemetry: Telemetry
) -> None:
    app = make_app()
    telemetry.instrument(app)
    app.test_client().post("/turn")
    assert len(telemetry.named("thread.merge")) == 1


def test_an_app_without_threads_is_refused(telemetry: Telemetry) -> None:
    with pytest.raises(ConfigurationError, match="has no ThreadManager"):
        telemetry.instrument(Flask("bare"))


def test_without_providers_nothing_changes() -> None:
    app = Flask("untraced")
    app.secret_key = "tested"
    ThreadManager(app, store="memory://")
    instrument(app)

    @app.get("/")
    def view() -> str:
        return str(len(g.thread.state))

    assert app.test_client().get("/").text == "0"


def test_the_session_has_the_id_of_the_trace(
    make_app: Callable[..., Flask], telemetry: Telemetry
) -> None:
    client = make_app().test_client()
    with telemetry.tracers.get_tracer("test").start_as_current_span("request") as span:
        session_id = client.get("/session").text
    assert session_id == f"sess_{span.get_span_context().trace_id:032x}"
    assert client.get("/session").text != session_id


def test_threads_can_be_measured_at_once(
    make_app: Callable[..., Flask], telemetry: Telemetry
) -> None:
    app = make_app()
    workers = [threading.Thread(target=lambda: app.test_client().post("/turn")) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(telemetry.named("thread.merge")) == 8


def test_without_the_package_the_error_says_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\nimport flask_agentuity.integrations.otel"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install "flask-agentuity[otel]"' in done.stderr
