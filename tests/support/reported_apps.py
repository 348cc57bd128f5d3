"""A service for apps whose sessions are reported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flask_agentuity.client.http import HTTPEndpoint
from flask_agentuity.client.sessions import SessionReports
from flask_agentuity.web import reporting

from .report_service import ReportService


@contextmanager
def serving_apps(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportService]:
    """Run a service to which all apps that are created meanwhile report without delay."""
    made: list[SessionReports] = []

    def make(endpoint: HTTPEndpoint) -> SessionReports:
        # With the usual interval each report waits for a second.
        made.append(SessionReports(endpoint, interval=0.005))
        return made[-1]

    monkeypatch.setattr(reporting, "SessionReports", make)
    service = ReportService()
    try:
        yield service
    finally:
        service.close()
        for reports in made:
            reports.close()
