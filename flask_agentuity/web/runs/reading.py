"""The responses that readers of a run get."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

from flask import Request, Response, current_app
from werkzeug.exceptions import BadRequest, TooManyRequests

from ...errors import StoreError
from ...stores import leases
from ...stores.runs import StoredRun
from ...thread.runs.following import StoredLog
from ...thread.runs.formats import END, FORMATS
from ...thread.runs.log import Log
from ...thread.runs.process import ProcessRuns
from ...thread.runs.readers import TooManyReaders

logger = logging.getLogger("flask_agentuity.runs")

#: Seconds without output after which a reader of events gets a comment.
HEARTBEAT_SECONDS = 15.0
#: Seconds after which a reader of events is asked to come again.
READER_SECONDS = 60.0

# Seconds before a read that failed is repeated.
_RETRY_SECONDS = 0.2

#: The response's header that names the run.
RUN_HEADER = "X-Run-ID"

_RUN_ID = re.compile(r"[a-z0-9]{1,40}", re.ASCII)
_OFFSET = re.compile(r"[0-9]{1,15}", re.ASCII)


def catch_up_seconds() -> float:
    """Return how long to wait for output that a reader has had from another process.

    It is longer than it takes to find out that this process was killed before it stored it.
    """
    return 2 * leases.LEASE_SECONDS


class RunBody:
    """The body of a response: what a log contains after an offset, until the run has ended."""

    def __init__(self, format: str, leave: Callable[[], object]) -> None:
        """Make a body that is empty until :meth:`open`.

        :param leave: is called once, when the reader has received everything or has gone.
        """
        self._format = FORMATS[format]
        self._leave: Callable[[], object] | None = leave
        self._log: Log | None = None
        self._after = 0
        self._until: float | None = None
        self._begun = False
        self._has_ended = False

    def open(self, log: Log, after: int = 0, *, seconds: float | None = None) -> None:
        """Begin to read.

        :param after: how many bytes of the log the reader has already.
        :param seconds: the response ends after this time, even if the run continues.
        """
        self._log, self._after = log, after
        self._until = None if seconds is None else time.monotonic() + seconds

    def __iter__(self) -> RunBody:
        return self

    def __next__(self) -> bytes:
        if self._log is None or self._has_ended:
            self.close()
            raise StopIteration
        if not self._begun:
            self._begun = True
            # Even if it is empty: servers then send the headers, before there is any output.
            return self._format.beginning
        chunk = self._next_chunk(self._log)
        if chunk is None:
            self.close()
            raise StopIteration
        return chunk

    def close(self) -> None:
        """The reader has received everything, or has gone."""
        self._has_ended = True
        if (leave := self._leave) is not None:
            self._leave = None
            if self._log is not None:
                self._log.close()
            leave()

    def _next_chunk(self, log: Log) -> bytes | None:
        while True:
            log.wait(self._after, self._patience())
            # The status is read first, so that everything is there if the run has ended.
            status = log.status
            is_behind = log.length > self._after
            data = self._read(log) if is_behind else b""
            if data:
                self._after += len(data)
                return data
            if data is not None and status != "running":
                self._has_ended = True
                # The rest was deleted, or is no longer kept.
                shown = "interrupted" if is_behind or status is None else status
                return self._format.end(log.key.run_id, shown) or None
            if log.is_cut or (self._until is not None and time.monotonic() >= self._until):
                return None
            if is_behind:
                time.sleep(_RETRY_SECONDS)
            elif self._format.heartbeat:
                return self._format.heartbeat

    def _read(self, log: Log) -> bytes | None:
        """Return the next bytes; None if the store cannot be asked."""
        try:
            return log.read(self._after)
        except StoreError as error:
            logger.warning(
                "Run %s of thread %s cannot be read now: %s",
                log.key.run_id,
                log.key.thread_id,
                error,
                extra={"thread_id": log.key.thread_id},
            )
            return None

    def _patience(self) -> float:
        if self._until is None:
            return HEARTBEAT_SECONDS
        return max(0.0, min(HEARTBEAT_SECONDS, self._until - time.monotonic()))


def make_response(body: RunBody, format: str, run_id: str) -> Response:
    """Return the response with a body that reads a run."""
    known = FORMATS[format]
    response = current_app.response_class(body, mimetype=known.mimetype, headers=known.headers)
    response.headers[RUN_HEADER] = run_id
    response.headers["Cache-Control"] = "no-store"
    # Otherwise nginx collects the response before it passes it on.
    response.headers["X-Accel-Buffering"] = "no"
    # Without it, Chromium waits for the first kilobyte of a text to find out what it is.
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def requested_place(current: Request) -> tuple[str | None, int | None]:
    """Return the run and the offset that a request asks for; an offset of None is the end.

    :raises BadRequest: if they are not what a run has sent.
    """
    event = current.headers.get("Last-Event-ID")
    if event:
        run_id, separator, offset = event.partition(".")
        if not separator:
            raise BadRequest("Last-Event-ID is not one of a run.")
    else:
        run_id, offset = current.args.get("run", ""), current.args.get("after", "0")
        if not run_id and "after" in current.args:
            raise BadRequest("after= needs run= with the run's id.")
        if not run_id:
            return None, 0
    if not _RUN_ID.fullmatch(run_id):
        raise BadRequest("This is not the id of a run.")
    if offset == END:
        return run_id, None
    if not _OFFSET.fullmatch(offset):
        raise BadRequest("This is not an offset in a run.")
    return run_id, int(offset)


def read_run(runs: ProcessRuns, stored: StoredRun, after: int | None) -> Response:
    """Return the response for a reader who has *after* bytes of a run; None for everything.

    :raises BadRequest: if the run has never sent this offset.
    :raises TooManyRequests: if the thread has too many readers.
    :raises StoreError: if the store cannot be asked.
    """
    if after is None:
        return Response(status=204)
    try:
        leave = runs.readers.count(stored.key.thread_id)
    except TooManyReaders:
        raise TooManyRequests("This conversation has too many readers.", retry_after=5) from None
    try:
        log = runs.open(stored.key)
        if log is None or (after := _valid_offset(log, after)) is None:
            if log is not None:
                log.close()
            leave()
            return Response(status=204)
    except BaseException:
        leave()
        raise
    body = RunBody(log.format, leave)
    body.open(log, after, seconds=READER_SECONDS if log.format == "sse" else None)
    return make_response(body, log.format, log.key.run_id)


def _valid_offset(log: Log, after: int) -> int | None:
    """Return from where to read; None if there is nothing to read.

    :raises BadRequest: if the run has never sent this offset.
    """
    if after > log.length and log.status == "running" and isinstance(log, StoredLog):
        # The process that runs it has sent what it has not stored yet.
        _catch_up(log, after)
    if after > log.length:
        if log.is_cut:
            # The response is empty, and the reader comes again to another process.
            return after
        if log.status not in ("interrupted", None):
            log.close()
            raise BadRequest("The run has not sent that much.")
        # What its process had not stored was lost with it.
        after = log.length
    known = FORMATS[log.format]
    if after == log.length and log.status != "running" and not known.end(log.key.run_id, "done"):
        return None
    if after and not known.is_boundary(log.read(max(0, after - 2))[: min(after, 2)]):
        log.close()
        raise BadRequest("This is not an offset that the run has sent.")
    return after


def _catch_up(log: Log, length: int) -> None:
    """Wait until a log has this length, its run has ended, or it is clear that it never will."""
    left = catch_up_seconds()
    while left > 0 and log.length < length and log.status == "running" and not log.is_cut:
        # As when turns are watched, a pause counts only once, however long this process stood
        # still: on a busy machine, what finds out that the other process was killed is late too.
        pause = min(left, leases.renewal_seconds())
        log.wait(length - 1, pause)
        left -= pause
