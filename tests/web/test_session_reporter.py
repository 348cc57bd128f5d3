"""A session reporter of an app's own."""

from __future__ import annotations

import logging

import pytest

from flask_agentuity import Session, SessionReporter

from .test_session_reports import reporting_app

CONFIG = {
    "SECRET_KEY": "tested",
    "AGENTUITY_THREAD_STORE": "memory://",
    "AGENTUITY_SDK_KEY": "a-key-for-reports",
    "AGENTUITY_CLOUD_ORG_ID": "org_1",
    "AGENTUITY_CLOUD_PROJECT_ID": "proj_1",
    # Nothing listens there.
    "AGENTUITY_CATALYST_URL": "http://127.0.0.1:1",
}


class Recorder(SessionReporter):
    def __init__(self) -> None:
        self.told: list[tuple[str, str, int | None]] = []

    def started(self, session: Session) -> None:
        self.told.append(("started", session.request.path, session.status_code))

    def completed(self, session: Session) -> None:
        self.told.append(("completed", session.request.method, session.status_code))


def test_an_app_may_have_its_own_reporter() -> None:
    recorder = Recorder()
    app = reporting_app(CONFIG, session_reporter=recorder)
    app.test_client().get("/untouched")
    app.test_client().get("/touched")
    assert recorder.told == [("started", "/touched", None), ("completed", "GET", 200)]


def test_a_reporter_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SessionReporter):
        def started(self, session: Session) -> None:
            raise RuntimeError("started")

        def completed(self, session: Session) -> None:
            raise RuntimeError("completed")

    app = reporting_app(CONFIG, session_reporter=Broken())
    with caplog.at_level(logging.ERROR):
        assert app.test_client().post("/turn").status_code == 200
    assert len(caplog.records) == 2


def test_a_reporter_may_be_async() -> None:
    pytest.importorskip("asgiref")
    told: list[str] = []

    class Async(SessionReporter):
        async def started(self, session: Session) -> None:  # type: ignore[override]
            told.append(session.request.path)

        async def completed(self, session: Session) -> None:  # type: ignore[override]
            told.append(str(session.status_code))

    reporting_app(CONFIG, session_reporter=Async()).test_client().get("/touched")
    assert told == ["/touched", "200"]
