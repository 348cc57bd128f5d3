"""Reports of sessions to Agentuity, or to another service with the same interface."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..client.http import HTTPEndpoint, base_of
from ..client.sessions import Report, SessionReports
from ..thread.contents import is_known_empty
from ..thread.reporter import SessionReporter
from ..thread.session import Session, SessionRequest
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
        fields = partial(self._start, session.id, session.thread.id, session.request)
        vars(session)[_REPORT] = self._reports.start(fields)

    def completed(self, session: Session) -> None:
        report: Report | None = vars(session).pop(_REPORT, None)
        if report is None:
            return
        contents = contents_of(session.thread)
        thread_id = None if is_known_empty(contents) else contents.source.known_id
        # The state may change later, so it is serialized here.
        user_data = session.serialize_user_data() if session.state else None
        error = None if session.error is None else _describe(session.error)
        fields = partial(
            _end, session.id, thread_id, session.status_code, error, user_data, time.time()
        )
        self._reports.complete(report, fields, len(user_data) if user_data else 0)

    def _start(self, session_id: str, thread_id: str, request: SessionRequest) -> dict[str, Any]:
        return {
            "id": session_id,
            "threadId": thread_id,
            **self._project,
            "devmode": self._dev_mode,
            "trigger": request.trigger,
            "routeId": "",
            "environment": self._environment,
            "url": request.path,
            "method": request.method,
            "timestamp": int(request.began * 1000),
        }


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _end(
    session_id: str,
    thread_id: str | None,
    status: int | None,
    error: str | None,
    user_data: str | None,
    ended: float,
) -> dict[str, Any]:
    status = 500 if status is None else status
    fields: dict[str, Any] = {"id": session_id, "threadId": thread_id, "statusCode": status}
    if error is not None or status >= 500:
        fields["error"] = error or f"HTTP {status}"
    if user_data is not None:
        fields["userData"] = user_data
    return fields | {"timestamp": int(ended * 1000)}


def make_reporter(settings: ReportSettings, options: Mapping[str, Any]) -> SessionReporter:
    """Return the reporter for *settings*, with the client's *options*. Nothing is connected yet.

    :raises ConfigurationError: if the URL or the key is wrong, or urllib3 is missing.
    """
    known = {name: options[name] for name in _OPTIONS if name in options}
    endpoint = HTTPEndpoint(base_of(settings.base), settings.key, **known)
    return HTTPSessionReporter(settings, SessionReports(endpoint))
