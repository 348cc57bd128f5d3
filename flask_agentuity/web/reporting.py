"""Reports of sessions to Agentuity, or to another service with the same interface."""

from __future__ import annotations

import time
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

# The attribute of a session that has its report.
_REPORT = "flask_agentuity.report"

_OPTIONS = ("connect_timeout", "request_timeout", "ca_file")


class HTTPSessionReporter(SessionReporter):
    """Reports sessions over HTTP, in the background, as Agentuity's runtime does."""

    def __init__(self, settings: ReportSettings, reports: SessionReports) -> None:
        self._reports = reports
        # The same in every report, in the order of the runtime.
        self._project = {"orgId": settings.org_id, "projectId": settings.project_id}
        if settings.deployment_id is not None:
            self._project["deploymentId"] = settings.deployment_id
        self._environment, self._dev_mode = settings.environment, settings.dev_mode

    def started(self, session: Session) -> None:
        request = session.request
        vars(session)[_REPORT] = self._reports.start(
            {
                "id": session.id,
                "threadId": session.thread.id,
                **self._project,
                "devmode": self._dev_mode,
                "trigger": request.trigger,
                "routeId": "",
                "environment": self._environment,
                "url": request.path,
                "method": request.method,
                "timestamp": int(request.began * 1000),
            }
        )

    def completed(self, session: Session) -> None:
        report: Report | None = vars(session).pop(_REPORT, None)
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
        self._reports.complete(report, fields)


def make_reporter(settings: ReportSettings, options: Mapping[str, Any]) -> SessionReporter:
    """Return the reporter for *settings*, with the client's *options*. Nothing is connected yet.

    :raises ConfigurationError: if the URL or the key is wrong, or urllib3 is missing.
    """
    known = {name: options[name] for name in _OPTIONS if name in options}
    endpoint = HTTPEndpoint(base_of(settings.base), settings.key, **known)
    return HTTPSessionReporter(settings, SessionReports(endpoint))
