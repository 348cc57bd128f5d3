"""Reports of sessions to Agentuity, or to another service with the same interface."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..client.http import HTTPEndpoint, base_of
from ..client.sessions import Report, SessionReports
from ..thread.contents import is_known_empty
from ..thread.reporter import SessionReporter
from ..thread.session import Session
from ..thread.thread import contents_of

if TYPE_CHECKING:
    from .report_settings import ReportSettings

_OPTIONS = ("connect_timeout", "request_timeout", "ca_file")


class HTTPSessionReporter(SessionReporter):
    """Reports sessions over HTTP, in the background, as Agentuity's runtime does."""

    def __init__(self, settings: ReportSettings, reports: SessionReports) -> None:
        self._settings = settings
        self._reports = reports
        self._of_sessions: weakref.WeakKeyDictionary[Session, Report] = weakref.WeakKeyDictionary()

    def started(self, session: Session) -> None:
        settings, request = self._settings, session.request
        fields: dict[str, Any] = {
            "id": session.id,
            "threadId": session.thread.id,
            "orgId": settings.org_id,
            "projectId": settings.project_id,
        }
        if settings.deployment_id is not None:
            fields["deploymentId"] = settings.deployment_id
        fields.update(
            devmode=settings.dev_mode,
            trigger=request.trigger,
            routeId="",
            environment=settings.environment,
            url=request.path,
            method=request.method,
            timestamp=int(request.began * 1000),
        )
        self._of_sessions[session] = self._reports.start(fields, len(request.path))

    def completed(self, session: Session) -> None:
        report = self._of_sessions.pop(session, None)
        if report is None:
            return
        status = 500 if session.status_code is None else session.status_code
        fields: dict[str, Any] = {
            "id": session.id,
            "threadId": None if is_known_empty(contents_of(session.thread)) else session.thread.id,
            "statusCode": status,
        }
        if session.error is not None:
            fields["error"] = f"{type(session.error).__name__}: {session.error}"
        elif status >= 500:
            fields["error"] = f"HTTP {status}"
        user_data = session.serialize_user_data()
        if user_data is not None:
            fields["userData"] = user_data
        fields["timestamp"] = int(time.time() * 1000)
        self._reports.complete(report, fields, len(user_data or ""))


def make_reporter(settings: ReportSettings, options: Mapping[str, Any]) -> SessionReporter:
    """Return the reporter for *settings*, with the client's *options*. Nothing is connected yet.

    :raises ConfigurationError: if the URL or the key is wrong, or urllib3 is missing.
    """
    known = {name: options[name] for name in _OPTIONS if name in options}
    endpoint = HTTPEndpoint(base_of(settings.base), settings.key, **known)
    return HTTPSessionReporter(settings, SessionReports(endpoint))
