"""Which sessions an app reports, when, and with what."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, abort, g
from flask.typing import ResponseReturnValue
from support import report_service
from support.report_service import Answer, ReportService
from support.reported_apps import serving_apps

from flask_agentuity import Session, StoreError, ThreadManager, session_completed
from flask_agentuity.errors import ConfigurationError
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.writing import Conflict, Write, Written

KEY = "a-key-for-reports"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportService]:
    with serving_apps(monkeypatch) as service:
        yield service


def configured(service: ReportService, **more: Any) -> dict[str, Any]:
    return {
        "SECRET_KEY": "tested",
        "AGENTUITY_THREAD_STORE": "memory://",
        "AGENTUITY_SDK_KEY": KEY,
        "AGENTUITY_CATALYST_URL": service.url,
        "AGENTUITY_CLOUD_ORG_ID": "org_1",
        "AGENTUITY_CLOUD_PROJECT_ID": "proj_1",
    } | more


def reporting_app(config: dict[str, Any], **options: Any) -> Flask:
    app = Flask("reporting")
    app.config.update(config)
    ThreadManager(app, **options)

    @app.get("/untouched")
    def untouched() -> str:
        return "untouched"

    @app.route("/touched", methods=["GET", "POST"])
    def touched() -> str:
        return str(g.thread.id)

    @app.post("/turn")
    def turn() -> str:
        g.thread.state.push("messages", "hello")
        return str(g.thread.id)

    @app.get("/read")
    def read() -> str:
        return str(len(g.thread.state))

    return app


@pytest.fixture
def app(service: ReportService) -> Flask:
    return reporting_app(configured(service))


def pair(service: ReportService) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the two messages of the only report."""
    first, second = service.wait_for(2)
    assert [first.method, second.method] == ["POST", "PUT"]
    assert first.body["id"] == second.body["id"]
    return first.body, second.body


def test_a_session_is_reported(service: ReportService, app: Flask) -> None:
    before = int(time.time() * 1000)
    thread_id = app.test_client().post("/turn?secret=1").text
    start, end = pair(service)
    assert before - 1 <= start.pop("timestamp") <= end.pop("timestamp") <= time.time() * 1000 + 1
    assert start.pop("id").startswith("sess_")
    assert start == {
        "threadId": thread_id,
        "orgId": "org_1",
        "projectId": "proj_1",
        "devmode": False,
        "trigger": "api",
        "routeId": "",
        "environment": "production",
        "url": "/turn",
        "method": "POST",
    }
    del end["id"]
    assert end == {"threadId": thread_id, "statusCode": 200}


def test_what_is_configured_is_reported(service: ReportService) -> None:
    app = reporting_app(
        configured(
            service,
            AGENTUITY_CLOUD_DEPLOYMENT_ID="deploy_1",
            AGENTUITY_ENVIRONMENT="staging",
            AGENTUITY_SDK_DEV_MODE="true",
        )
    )
    app.test_client().get("/touched", headers={"Upgrade": "websocket"})
    start, _ = pair(service)
    assert start["deploymentId"] == "deploy_1"
    assert start["environment"] == "staging"
    assert start["devmode"] is True
    assert start["trigger"] == "websocket"


def test_an_untouched_request_is_not_reported(service: ReportService, app: Flask) -> None:
    client = app.test_client()
    client.get("/untouched")
    client.get("/missing")
    client.get("/touched")
    start, _ = pair(service)
    assert start["url"] == "/touched"


def test_a_report_begins_when_the_request_began(service: ReportService, app: Flask) -> None:
    @app.get("/slow")
    def slow() -> str:
        g.before = time.time()
        while time.time() < g.before + 0.05:
            time.sleep(0.01)
        return str(g.thread.id) and str(g.before)

    before = float(app.test_client().get("/slow").text)
    assert pair(service)[0]["timestamp"] <= before * 1000


@pytest.mark.parametrize(
    ("path", "setup", "expected"),
    [
        ("/touched", False, False),
        ("/read", False, False),
        ("/turn", False, True),
        ("/touched", True, True),
        ("/read", True, True),
    ],
)
def test_an_empty_thread_is_null_at_the_end(
    service: ReportService, app: Flask, path: str, setup: bool, expected: bool
) -> None:
    client = app.test_client()
    if setup:
        client.post("/turn")
        service.wait_for(2)
        service.received.clear()
    client.post(path) if path == "/turn" else client.get(path)
    start, end = pair(service)
    assert start["threadId"].startswith("thrd_")
    assert end["threadId"] == (start["threadId"] if expected else None)


@pytest.mark.parametrize("way", ["clear", "destroy", "delete"])
def test_an_emptied_thread_is_null_at_the_end(service: ReportService, app: Flask, way: str) -> None:
    @app.post("/empty")
    def empty() -> str:
        if way == "destroy":
            g.thread.destroy()
        elif way == "clear":
            len(g.thread.state)
            g.thread.state.clear()
        else:
            del g.thread.state["messages"]
        return "emptied"

    client = app.test_client()
    client.post("/turn")
    service.wait_for(2)
    service.received.clear()
    client.post("/empty")
    assert pair(service)[1]["threadId"] is None


def test_finding_out_reads_nothing(service: ReportService) -> None:
    class CountingStore(MemoryStore):
        edits = True
        reads = 0

        def read(self, *arguments: Any, **named: Any) -> Any:
            self.reads += 1
            return super().read(*arguments, **named)

    store = CountingStore()
    app = reporting_app(configured(service), store=store)
    client = app.test_client()
    client.post("/turn")
    client.get("/touched")
    service.wait_for(4)
    assert store.reads == 0


def test_a_failed_request_is_reported_as_failed(service: ReportService, app: Flask) -> None:
    @app.get("/raise")
    def fail() -> str:
        g.thread.state["a"] = 1
        raise ValueError("broken")

    assert app.test_client().get("/raise").status_code == 500
    _, end = pair(service)
    assert (end["statusCode"], end["error"], end["threadId"]) == (500, "ValueError: broken", None)


@pytest.mark.parametrize(("status", "error"), [(404, None), (503, "HTTP 503")])
def test_the_status_is_that_of_the_response(
    service: ReportService, app: Flask, status: int, error: str | None
) -> None:
    @app.get("/abort")
    def fail() -> str:
        g.thread.state["a"] = 1
        abort(status)

    app.test_client().get("/abort")
    _, end = pair(service)
    assert (end["statusCode"], end.get("error")) == (status, error)


def test_a_replaced_response_is_reported(service: ReportService) -> None:
    class FullStore(MemoryStore):
        edits = True

        def write(self, thread_id: str, write: Write) -> Written | Conflict:
            raise StoreError("The disk is full.")

    config = configured(service, AGENTUITY_THREAD_ON_SAVE_ERROR="raise")
    app = reporting_app(config, store=FullStore())
    assert app.test_client().post("/turn").status_code == 503
    assert pair(service)[1]["statusCode"] == 503


def test_a_stream_is_reported_at_its_end(service: ReportService, app: Flask) -> None:
    @app.get("/stream")
    def stream() -> Response:
        thread, session = g.thread, g.session
        thread.id  # noqa: B018 - its cookie is sent

        def generate() -> Iterator[str]:
            yield "one"
            service.wait_for(1)
            assert len(service.received) == 1
            session.state["tokens"] = 2
            thread.state.push("messages", "one two")
            yield "two"

        return Response(generate())

    assert app.test_client().get("/stream").text == "onetwo"
    start, end = pair(service)
    assert end["userData"] == '{"tokens":2}'
    assert end["threadId"] == start["threadId"]


def test_a_first_use_in_a_stream_is_reported(service: ReportService, app: Flask) -> None:
    @app.get("/late")
    def late() -> Response:
        thread = g.thread

        def generate() -> Iterator[str]:
            yield str(thread.id)

        return Response(generate())

    thread_id = app.test_client().get("/late").text
    start, _ = pair(service)
    assert (start["threadId"], start["url"]) == (thread_id, "/late")


@pytest.mark.parametrize(
    ("value", "words"), [("x" * 1_048_576, "the limit is"), (object(), "is not JSON")]
)
def test_user_data_that_cannot_be_sent_is_left_out(
    service: ReportService,
    app: Flask,
    value: object,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    @app.get("/large")
    def large() -> str:
        g.session.state["value"] = value
        return str(g.thread.id)

    with caplog.at_level(logging.ERROR):
        app.test_client().get("/large")
    assert "userData" not in pair(service)[1]
    assert words in caplog.text


def test_user_data_of_a_mebibyte_is_sent(service: ReportService, app: Flask) -> None:
    @app.get("/large")
    def large() -> str:
        g.session.state["v"] = "x" * (1_048_576 - len('{"v":""}'))
        return str(g.thread.id)

    app.test_client().get("/large")
    assert len(pair(service)[1]["userData"]) == 1_048_576


def test_listeners_and_receivers_come_before_the_report(service: ReportService, app: Flask) -> None:
    @app.get("/listened")
    def listened() -> str:
        g.session.add_event_listener("completed", lambda event, s: s.state.update(a=s.status_code))
        return str(g.thread.id)

    def receive(sender: Flask, session: Session, **extra: Any) -> None:
        session.state["b"] = 2

    with session_completed.connected_to(receive, app):
        app.test_client().get("/listened")
    assert pair(service)[1]["userData"] == '{"a":200,"b":2}'


def test_another_conversation_is_the_same_session(service: ReportService, app: Flask) -> None:
    threads = app.extensions["agentuity"]

    @app.post("/new")
    def new() -> str:
        g.thread.state["a"] = 1
        threads.new().state["b"] = 2
        return str(g.thread.id)

    thread_id = app.test_client().post("/new").text
    start, end = pair(service)
    assert start["threadId"] != end["threadId"] == thread_id


def test_a_service_that_is_down_does_not_delay_a_request(
    service: ReportService, app: Flask
) -> None:
    service.default = Answer(act=report_service.hang)
    client = app.test_client()
    assert {client.post("/turn").status_code for _ in range(20)} == {200}


def test_paths_are_text(service: ReportService, app: Flask) -> None:
    @app.get("/<path:name>")
    def any_path(name: str) -> str:
        return str(g.thread.id)

    client = app.test_client()
    client.get("/gr%C3%BC%C3%9Fe")
    client.get("/%FF", environ_overrides={"SCRIPT_NAME": "/mounted"})
    starts = [each.body for each in service.wait_for(4) if each.method == "POST"]
    assert [start["url"] for start in starts] == ["/grüße", "/mounted/\ufffd"]


# When sessions are reported


@pytest.mark.parametrize(
    "missing",
    ["AGENTUITY_SDK_KEY", "AGENTUITY_CLOUD_ORG_ID", "AGENTUITY_CLOUD_PROJECT_ID"],
)
def test_reports_need_all_three_settings(service: ReportService, missing: str) -> None:
    config = configured(service)
    del config[missing]
    assert reporter_of(reporting_app(config)) is None


def test_reports_can_be_switched_on_without_a_project(service: ReportService) -> None:
    config = configured(service, AGENTUITY_SESSION_REPORTS="on")
    del config["AGENTUITY_CLOUD_ORG_ID"], config["AGENTUITY_CLOUD_PROJECT_ID"]
    reporting_app(config).test_client().get("/touched")
    start, _ = pair(service)
    assert (start["orgId"], start["projectId"]) == ("", "")


def test_reports_can_be_switched_off(
    service: ReportService, caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(
        service,
        AGENTUITY_SESSION_REPORTS="off",
        AGENTUITY_CLOUD_DEPLOYMENT_ID="deploy_1",
        AGENTUITY_ENVIRONMENT="staging",
        AGENTUITY_SDK_DEV_MODE=False,
    )
    assert reporter_of(reporting_app(config)) is None
    # No setting of reports is unknown because there are none.
    assert caplog.records == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"AGENTUITY_SESSION_REPORTS": "on", "AGENTUITY_SDK_KEY": None}, "AGENTUITY_SDK_KEY"),
        ({"AGENTUITY_SESSION_REPORTS": "sometimes"}, "auto, on, off"),
        ({"AGENTUITY_SDK_DEV_MODE": "perhaps"}, "on, off"),
        ({"AGENTUITY_SESSION_HEADER": "x"}, "on, off"),
        ({"AGENTUITY_CLOUD_ORG_ID": 5}, "text"),
    ],
)
def test_wrong_settings_are_refused(
    service: ReportService, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        reporting_app(configured(service, **config))


def test_without_urllib3_automatic_reports_warn(
    service: ReportService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        app = reporting_app(configured(service))
    (record,) = caplog.records
    assert 'pip install "flask-agentuity[reports]"' in record.getMessage()
    assert app.test_client().get("/touched").status_code == 200
    with pytest.raises(ConfigurationError, match=r'pip install "flask-agentuity\[reports\]"'):
        reporting_app(configured(service, AGENTUITY_SESSION_REPORTS="on"))


def test_without_reports_nothing_is_imported() -> None:
    code = (
        "import sys; from flask import Flask; import flask_agentuity;"
        "app = Flask('a'); app.secret_key = 'b'; flask_agentuity.ThreadManager(app);"
        "print([name for name in sys.modules if name.split('.')[0] in"
        " ('urllib3', 'opentelemetry') or '.client' in name and 'agentuity' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The header


@pytest.mark.parametrize("setting", [None, "on", "off"])
def test_the_session_header(service: ReportService, setting: str | None) -> None:
    app = reporting_app(configured(service, AGENTUITY_SESSION_HEADER=setting))
    response = app.test_client().get("/touched")
    start, _ = pair(service)
    expected = start["id"] if setting == "on" else None
    assert response.headers.get("x-session-id") == expected
    assert "x-session-id" not in app.test_client().get("/untouched").headers


def reporter_of(app: Flask) -> Callable[..., Any] | None:
    found: Callable[..., Any] | None = app.extensions["agentuity.app_threads"].reporting
    return found


def test_errors_have_their_handler(service: ReportService, app: Flask) -> None:
    @app.errorhandler(ValueError)
    def handle(error: ValueError) -> ResponseReturnValue:
        return "handled", 400

    @app.get("/raise")
    def fail() -> str:
        g.thread.id  # noqa: B018 - it is used
        raise ValueError("broken")

    assert app.test_client().get("/raise").status_code == 400
    _, end = pair(service)
    assert (end["statusCode"], end.get("error")) == (400, None)
