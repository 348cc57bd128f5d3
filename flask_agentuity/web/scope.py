"""One request: its thread and session, when they are saved, and what its response says."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from flask import Response

from ..per_process import PerProcess
from ..thread.session import Session, complete
from ..thread.session_request import SessionRequest
from ..thread.thread import Thread, contents_of
from . import events as signals
from .flask_internals import current_request
from .identity import RequestIdentity
from .observer import RequestObserver
from .request_turn import RequestTurn
from .response_headers import write_headers
from .saving import (
    is_event_of_a_socket,
    report_at_exit,
    save_all,
    save_unanswered,
    settle_late_changes,
)
from .session_ids import make_session_id
from .streaming import SavingBody

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ..stores.runs import RunStatus
    from .app_threads import AppThreads
    from .events import Reporting
    from .runs.starting import RequestRun


logger = logging.getLogger("flask_agentuity.signals")

_creating_session = PerProcess(lambda: threading.Lock())


class RequestScope:
    """The thread and session of one request, until the last byte of its response."""

    #: The turn of the thread, once the request has asked for it.
    turn: RequestTurn | None = None
    #: What the view has passed to ``threads.stream()``.
    run: RequestRun | None = None
    #: The threads that :meth:`replace_thread` has replaced; they are saved as well.
    earlier: tuple[Thread, ...] = ()
    #: The exception that ended the request.
    error: BaseException | None = None
    #: Whether the response is an error of the server, so that nothing was saved.
    failed = False
    _session: Session | None = None
    _streaming = False
    _body: weakref.ref[SavingBody] | None = None
    _ended = False
    _status: int | None = None
    _is_reported = False

    def __init__(
        self,
        threads: AppThreads,
        identify: Callable[[], tuple[str, bool]],
        identity: RequestIdentity | None,
        *,
        environ: WSGIEnvironment,
        answered: bool,
    ) -> None:
        """Begin the scope of a request.

        :param identify: returns the id of the request's thread, and whether it was generated
            for this request.
        :param identity: what *identify* belongs to; None if only a signed id can name a thread.
        :param environ: the WSGI environment. It contains when the request began: the request
            does not write a thread that is deleted later, even if it first uses the thread
            after the deletion.
        :param answered: whether the response exists already: the scope begins in the request's
            teardown.
        """
        self.threads = threads
        self._environ = environ
        #: When the request began, by time.monotonic(); None for now.
        self.began = began = environ.get(threads.began_key)
        self.observer = observer = RequestObserver(threads, self, answered=answered)
        self.identity = identity
        #: The request's thread; :meth:`replace_thread` replaces it.
        self.thread: Thread = Thread(
            threads.store,
            identify,
            observer,
            restore_policy=threads.settings.on_restore_error,
            began=began,
            guard=identity if threads.owner_loader is not None else None,
        )
        self._worker = threading.get_ident()
        if began is None:
            report_at_exit(self.thread)

    @property
    def session(self) -> Session:
        """The request and its response. It is created at its first use."""
        if self._session is None:
            # Copied contexts may use it at the same time.
            with _creating_session.get():
                if self._session is None:
                    self._session = Session(
                        self.thread,
                        self.observer,
                        request=SessionRequest(self._environ, self.began),
                        make_id=make_session_id,
                    )
        return self._session

    def report_started(self, reporting: Reporting) -> None:
        """Report the session, which has used its thread for the first time."""
        if not (self._is_reported or self._ended):
            self._is_reported = True
            _report(reporting.started, self.session)

    def acquire_turn(self, timeout: float, most_waiting: int) -> bool:
        """Take the turn of the thread until this request has ended.

        :param timeout: how long to wait for the turn, in seconds.
        :param most_waiting: do not wait if more others do.
        :returns: False on timeout.
        :raises StoreError: if the store cannot be reached.
        """
        if self.turn is None:
            self.turn = RequestTurn(self.threads)
        return self.turn.acquire(self.thread, timeout, most_waiting)

    def make_thread(self, thread_id: str, *, is_new: bool, **options: Any) -> Thread:
        """Return another thread of this request, which :meth:`replace_thread` may begin to use.

        :param options: *guard* and *owner* of :class:`.Thread`.
        """
        return Thread(
            self.threads.store,
            lambda: (thread_id, is_new),
            self.observer,
            restore_policy=self.threads.settings.on_restore_error,
            began=self.began,
            **options,
        )

    def replace_thread(self, thread: Thread) -> None:
        """Make *thread* the one of the request. The earlier one is saved as well."""
        threads = (*self.earlier, self.thread)
        self.earlier = tuple(each for each in threads if each is not thread)
        self.thread = thread
        if self._session is not None:
            self._session.thread = thread
        contents_of(thread).source.touch()  # its cookie replaces that of the earlier one

    def answer(self, response: Response) -> Response:
        """Save, and add the headers to the response of a request that used its thread."""
        if self.error is not None and self._body and (replaced := self._body()):
            # Nothing else closes a stream that an error page replaces, and its generator may
            # hold the request's context.
            self._streaming = False
            replaced.close()
        self.failed = self.error is not None or response.status_code >= 500
        touched = contents_of(self.thread).source.known_id is not None or bool(self.earlier)
        if touched:
            failure = None if self.failed else save_all(self)
            if failure is not None:
                response = self._replace(response, failure)
            if self.run is not None:
                response, self.failed = self.run.answer(response, self.failed)
            write_headers(self, response)
        # A file is passed through to the server, which has faster ways of sending it.
        self._streaming = (
            response.response.__class__ is not list
            and response.is_streamed
            and (not response.direct_passthrough or isinstance(response.response, Generator))
        )
        self.observer.answered = True
        self._status = response.status_code
        # A run saves the thread by itself, and the request ends with it.
        if self._streaming and not (self.run is not None and self.run.is_under_way):
            if not touched:
                caches, provider = self.threads.shared_caches, self.threads.provider
                caches.exclude_stream(response, current_request(), provider)
            if self.identity is not None:
                # The generator may be the first to use the thread, without a context.
                self.identity.prepare_stream()
            body = SavingBody(response.response, self._finish_stream, response.content_length)
            self._body = weakref.ref(body)
            response.response = body
        return response

    def tear_down(self, error: BaseException | None) -> None:
        """End the request, unless a stream continues or only a copied context ends."""
        if self._streaming:
            return
        # An exception in a copied context does not end the request, nor does one that ends the
        # worker (SystemExit, a timeout of gevent), except in the request's own thread.
        interrupted = (
            error is not None
            and not isinstance(error, Exception)
            and threading.get_ident() == self._worker
        )
        if self.observer.answered or self.error is not None or interrupted:
            self._end(self.error or error)
        elif self.began is None or is_event_of_a_socket(current_request()):
            save_unanswered(self, error)
            self._end_turn()

    def end_run(self, error: BaseException | None, status: RunStatus | None) -> None:
        """End the request after its run and the reader have ended.

        :param status: the status with which the run has ended.
        """
        # What a failed run has changed is not saved, which is reported.
        self._streaming = False
        self._end(error)

    def _replace(self, response: Response, failure: Exception) -> Response:
        """Return the response for a failed save instead of *response*."""
        self.failed = True
        response.close()
        threads = self.threads
        return threads.app.make_response(threads.app.handle_user_exception(failure))

    def is_gone(self, thread: Thread) -> bool:
        """Return whether nothing can be saved: another request deleted it, or it is refused."""
        source, gone = contents_of(thread).source, self.observer.gone
        return source.is_refused or (bool(gone) and source.known_id in gone)

    def _finish_stream(self, error: BaseException | None) -> None:
        if not self._streaming:
            return
        try:
            failure = save_all(self) if error is None and not self.failed else None
            if failure is not None:
                raise failure
        finally:
            self._streaming = False
            self._end(error or self.error)

    def _end(self, error: BaseException | None) -> None:
        ended_before, self._ended = self._ended, True
        failed_before = self.failed
        if not ended_before:
            self.failed = failed_before or error is not None
        # Its traceback references the request, and thereby this scope.
        self.error = None
        if not ended_before:
            completed, session = signals.session_completed, self._session
            if session is None and completed.receivers:
                session = self.session
            if session is not None:
                complete(session, self._status, error)
            if self.run is not None or self.turn is not None:
                self._end_turn()
            if completed.receivers:
                self.threads.send(completed, self.thread, session, error)
            if self._is_reported and (reporting := self.threads.reporting) and session:
                _report(reporting.completed, session)
        contents = contents_of(self.thread)
        if contents.used or contents.metadata.used or self.earlier:
            settle_late_changes(
                self,
                error,
                failed_before=failed_before,
                is_copy=ended_before,
                had_turn=self.run is not None or (self.turn is not None and self.turn.was_taken),
            )

    def _end_turn(self) -> None:
        if self.run is not None:
            self.run.cancel()
        if self.turn is not None:
            self.turn.end((*self.earlier, self.thread))


def _report(report: Callable[[Session], object], session: Session) -> None:
    try:
        report(session)
    except Exception:
        logger.exception("The session reporter raised an exception; the response is not affected.")
