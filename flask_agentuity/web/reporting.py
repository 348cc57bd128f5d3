"""Reports of sessions to Agentuity, or to another service with the same interface."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..client.http import HTTPEndpoint, base_of
from ..client.sessions import Report, SessionReports, Stage
from ..thread.contents import is_known_empty
from ..thread.reporter import SessionReporter
from ..thread.session import Session
from ..thread.thread import contents_of

if TYPE_CHECKING:
    from ..thread.source import Source
    from .report_settings import ReportSettings

# The attribute of a session that has its report.
_REPORT = "_flask_agentuity_report"

_OPTIONS = ("connect_timeout", "request_timeout", "ca_file")


class HTTPSessionReporter(SessionReporter):
    """Reports sessions over HTTP, in the background, as Agentuity's runtime does."""

    def __init__(self, settings: ReportSettings, reports: SessionReports) -> None:
        self._settings = settings
        self._reports = reports

    def started(self, session: Session) -> None:
        report = _SessionReport(session, self._settings)
        setattr(session, _REPORT, report)
        self._reports.start(report)

    def completed(self, session: Session) -> None:
        report: _SessionReport | None = getattr(session, _REPORT, None)
        if report is not None:
            report.note_end(session)
            self._reports.complete(report)


class _SessionReport(Report):
    """The report of one session. It does not keep the contents of its thread alive."""

    __slots__ = (
        "_ended",
        "_error",
        "_id",
        "_last_thread_id",
        "_request",
        "_settings",
        "_source",
        "_status",
        "_thread_id",
        "_user_data",
    )

    def __init__(self, session: Session, settings: ReportSettings) -> None:
        # Not by super(), which would take a tenth of the time of a report.
        self.stage, self.has_ended, self.size = Stage.STARTED, False, 0
        self._settings = settings
        self._id = session.id
        self._request = session.request
        # Whether the request may use the thread is perhaps not known yet, and to find out
        # would take a read.
        self._source: Source | None = contents_of(session.thread).source
        self._thread_id: str | None = None

    def note_end(self, session: Session) -> None:
        """Note what the message about the end contains."""
        self._thread_id, self._source = self._find_thread_id(), None
        contents = contents_of(session.thread)
        self._last_thread_id = None if is_known_empty(contents) else contents.source.known_id
        self._status, self._error = session.status_code, None
        if session.error is not None:
            self._error = f"{type(session.error).__name__}: {session.error}"
        self._user_data = None
        # The state may change later, so it is serialized here.
        if session.state and (data := session.serialize_user_data()):
            self._user_data, self.size = data, len(data)
        self._ended = time.time()

    def compose_start(self) -> dict[str, Any] | None:
        settings, request = self._settings, self._request
        if (thread_id := self._find_thread_id()) is None:
            return None
        message = {
            "id": self._id,
            "threadId": thread_id,
            "orgId": settings.org_id,
            "projectId": settings.project_id,
        }
        if settings.deployment_id is not None:
            message["deploymentId"] = settings.deployment_id
        return message | {
            "devmode": settings.dev_mode,
            "trigger": request.trigger,
            "routeId": "",
            "environment": settings.environment,
            "url": request.path,
            "method": request.method,
            "timestamp": int(request.began * 1000),
        }

    def compose_end(self) -> dict[str, Any]:
        status = 500 if self._status is None else self._status
        message: dict[str, Any] = {
            "id": self._id,
            "threadId": self._last_thread_id,
            "statusCode": status,
        }
        if self._error is not None or status >= 500:
            message["error"] = self._error or f"HTTP {status}"
        if self._user_data is not None:
            message["userData"] = self._user_data
        return message | {"timestamp": int(self._ended * 1000)}

    def _find_thread_id(self) -> str | None:
        """Return the id of the thread at the start; None if the request may not use it."""
        # Another thread may note the end now: it sets the id before it forgets the source.
        source = self._source
        if source is None:
            return self._thread_id
        return None if source.is_refused else source.known_id


def make_reporter(settings: ReportSettings, options: Mapping[str, Any]) -> SessionReporter:
    """Return the reporter for *settings*, with the client's *options*. Nothing is connected yet.

    :raises ConfigurationError: if the URL or the key is wrong, or urllib3 is missing.
    """
    known = {name: options[name] for name in _OPTIONS if name in options}
    endpoint = HTTPEndpoint(base_of(settings.base), settings.key, **known)
    return HTTPSessionReporter(settings, SessionReports(endpoint))
