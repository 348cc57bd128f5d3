"""The run of a request: it begins when the response has been saved."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING

from flask import Response, copy_current_request_context
from werkzeug.exceptions import Conflict, ServiceUnavailable

from ...errors import StoreError, ThreadGone, TurnLost
from ...stores.runs import NewRun, RunKey, RunStatus, StoredRun
from ...thread.runs.formats import FORMATS
from ...thread.runs.log import LiveLog
from ...thread.runs.process import TooManyRuns
from ...thread.runs.run import Run
from ...thread.runs.runner import Output, Runner, require_output
from ...thread.thread import Thread, contents_of, end_turn
from .. import events as signals
from ..flask_internals import current_request
from ..request_turn import RequestTurn
from .reading import RunBody, make_response

if TYPE_CHECKING:
    from ...thread.turns import Turn
    from ..app_threads import AppThreads
    from ..scope import RequestScope

logger = logging.getLogger("flask_agentuity.runs")

#: Seconds in which the end of a run must be stored, before its thread gives up.
PATIENCE = 60.0


class RequestRun:
    """The output that a view has passed to ``threads.stream()``, and its run.

    It is *planned* until the response is saved. Then it *runs*, and has the turn of the request;
    or it is *cancelled*, because there is another response. The request ends when both the run
    and its reader have ended.
    """

    def __init__(
        self,
        threads: AppThreads,
        scope: RequestScope,
        turn: Turn,
        request_turn: RequestTurn,
        output: Output,
        format: str,
    ) -> None:
        """Plan a run in the thread of *scope*.

        :param turn: the turn of the thread, perhaps that of the request.
        :param request_turn: the turn of the request.
        """
        self._threads = threads
        self._scope = scope
        self._thread: Thread = scope.thread
        self._output = output
        self._format = format
        self._key = RunKey(self._thread.id, secrets.token_hex(8))
        self._here = threads.runs.here
        #: The turn of the thread, which becomes that of the run.
        self.turn = turn
        self._request_turn = request_turn
        self._body = RunBody(format, self._reader_has_gone)
        #: The response that the view returns.
        self.response = make_response(self._body, format, self._key.run_id)
        self._lock = threading.Lock()
        self._is_planned = True
        # What the end of the request waits for: the end of the run and of the reader.
        self._under_way = 0
        self._error: BaseException | None = None
        self._status: RunStatus | None = None

    @property
    def thread_id(self) -> str:
        """The thread that the run belongs to."""
        return self._key.thread_id

    @property
    def is_under_way(self) -> bool:
        """Whether the run or its reader has not ended."""
        return self._under_way > 0

    def answer(self, response: Response, failed: bool) -> tuple[Response, bool]:
        """Begin to run if *response*, which was saved, is the one that the view was given.

        :param failed: whether the request has failed.
        :returns: the response, or that of an error, and whether the request has failed.
        """
        if failed:
            self.cancel()
            # An error page has replaced the response that nothing has read yet.
            self._body.close()
            return response, True
        try:
            self._begin(response)
        except StoreError as error:
            self.cancel()
            response.close()
            app = self._threads.app
            return app.make_response(app.handle_user_exception(error)), True
        return response, False

    def _begin(self, response: Response) -> None:
        ours = response is self.response or response.response is self._body
        # Werkzeug neither reads nor closes the body of a HEAD request.
        ours = ours and current_request().method != "HEAD"
        if not self._is_planned or response.status_code >= 400 or not ours:
            self.cancel()
            return
        source = contents_of(self._thread).source
        if source.destroyed or self._scope.is_gone(self._thread):
            raise ThreadGone(self.thread_id)
        if source.has_lost_turn:
            raise TurnLost(self.thread_id)
        options = self._here.options
        holder = self.turn.lease.holder
        new = NewRun(self._key, self._format, holder, time.time(), options.keep)
        log = self._here.begin(new, self.turn.end)
        self._is_planned = False
        self._request_turn.hand_over(self.turn)
        self._under_way = 2
        self._body.open(log)
        run = copy_current_request_context(self._run)
        name = f"flask_agentuity-run-{self._key.run_id}"
        try:
            threading.Thread(target=run, args=(log,), name=name, daemon=True).start()
        except RuntimeError as error:
            # The process may have no more threads.
            self._under_way = 0
            self._here.abandon(log)
            self.turn.end()
            raise StoreError(f"The run could not be started: {error}") from error

    def cancel(self) -> None:
        """Do not run: the request has failed, or has another response."""
        with self._lock:
            was_planned, self._is_planned = self._is_planned, False
        if was_planned:
            self._here.release()
            self.turn.end()
            if close := getattr(self._output, "close", None):
                close()

    def _run(self, log: LiveLog) -> None:
        try:
            runner = Runner(self._output, log, self._here.note, self._save)
            try:
                runner.run()
                if not self._here.finish(log, PATIENCE):
                    logger.error(
                        "The end of run %s of thread %s could not be stored within %g s.",
                        *(self._key.run_id, self._key.thread_id, PATIENCE),
                        extra={"thread_id": self._key.thread_id},
                    )
            finally:
                # Given back before a reader can see the end, and sends the next message.
                self.turn.end()
                end_turn(self._thread)
                self._here.show_end(log)
            # Another process may have ended it, or the thread was deleted.
            self._error, self._status = runner.error, log.status or "interrupted"
            if log.status is None and self._error is None:
                self._error = ThreadGone(self.thread_id)
            self._send_finished(log, self._status)
            self._end_one()
        finally:
            self._here.leave(log)

    def _save(self) -> None:
        turn = self.turn
        # A store of threads that does not know the turn cannot refuse the write.
        if turn.is_lost or (self._threads.runs.has_own_store and turn.is_taken_over()):
            raise TurnLost(self._key.thread_id)
        self._thread.save()

    def _send_finished(self, log: LiveLog, status: RunStatus) -> None:
        signal = signals.thread_run_finished
        if not signal.receivers:
            return
        new = log.new
        stored = StoredRun(
            new.key, new.format, new.holder, new.started, status, log.length, False, log.truncated
        )
        run = Run(stored, self._here.store)
        session = self._scope.session
        self._threads.send(signal, self._thread, session, self._error, run=run, status=status)

    def _reader_has_gone(self) -> None:
        if self._under_way:
            self._end_one()

    def _end_one(self) -> None:
        with self._lock:
            self._under_way -= 1
            if self._under_way:
                return
        self._scope.end_run(self._error, self._status)


def plan_run(threads: AppThreads, output: Output, format: str) -> Response:
    """Plan a run for the current request; return the response for the view to return.

    :raises Conflict: if another request has the turn of the thread.
    :raises ServiceUnavailable: if this process has too many runs.
    :raises TypeError: if *output* cannot be run.
    :raises ValueError: for an unknown format.
    """
    require_output(output)
    if format not in FORMATS:
        raise ValueError(f"format={format!r} is wrong. Allowed: {', '.join(FORMATS)}.")
    scope = threads.scope()
    if scope.run is not None:
        raise RuntimeError("threads.stream() was called before in this request.")
    here = threads.runs.here
    try:
        here.reserve()
    except TooManyRuns:
        raise ServiceUnavailable(
            "This server is already streaming as many answers as it can.", retry_after=5
        ) from None
    try:
        request_turn = scope.turn or RequestTurn(threads)
        turn = request_turn.find_for_run(scope.thread)
        if turn is None:
            raise Conflict("This conversation is busy with another request.")
        run = RequestRun(threads, scope, turn, request_turn, output, format)
    except BaseException:
        here.release()
        raise
    scope.run = run
    return run.response
