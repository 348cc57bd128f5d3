"""The one thread that owns the socket, and what callers hand it.

Callers touch the queue, and read the state, under the lock; everything else belongs to the
I/O thread. Nothing here is shared with another process: after a fork it is left behind.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Mapping
from functools import partial
from typing import Any

from .. import wire
from ..errors import AuthenticationFailed, Overloaded, ServiceError, ServiceUnavailable, StoreError
from . import frames
from .address import proxy_warnings
from .backoff import Backoff
from .circuit import Admission, Circuit
from .connection import WRITE_BYTES, Connection, ConnectionLost
from .dialer import Dial, DialFailure
from .frames import FrameError, Message
from .heartbeat import Beat, Heartbeat
from .lifecycle import Lifecycle, State
from .notices import Notices
from .request import Progress, Request, ServiceRefusal
from .settings import Settings

logger = logging.getLogger("flask_agentuity.client")

#: After this many messages in a row that answer nothing the service is taken for broken.
MAX_NONSENSE = 1000

#: How many attempts that were left behind may still be alive when another begins.
MAX_ABANDONED_DIALS = 2

#: Seconds to wait at most for the other end's answer to a close frame.
CLOSE_TIMEOUT = 0.5

#: Seconds after which the clock is looked at again, however busy the connection is.
KEEP_TIME = 0.05

#: Seconds between two log lines about the same outage, once it is no news.
LOG_INTERVAL = 300.0

#: A close code of RFC 6455 that services use for a key they do not take.
_POLICY_VIOLATION = 1008

_clock = time.monotonic


class Engine:
    """The socket, its thread and its queue, in one process."""

    def __init__(self, settings: Settings, owner: object) -> None:
        self.settings = settings
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.lifecycle = Lifecycle(
            Backoff(
                settings.reconnect_base,
                settings.reconnect_max,
                settings.refused_base,
                settings.refused_max,
            ),
            connect_timeout=settings.connect_timeout,
            grace=settings.grace,
            stable_after=settings.stable_after,
        )
        self.circuit = Circuit()
        #: How many times the service let us in.
        self.connections = 0
        #: What the service announced on the current connection.
        self.features: Mapping[str, int] = {}
        self.connection: Connection | None = None
        self.dial: Dial | None = None
        self.thread: threading.Thread | None = None
        self._owner = weakref.ref(owner)
        self._counts: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self._queue: deque[Request] = deque()
        self._queued_bytes = 0
        self._outstanding = 0
        self._replies: wire.PendingReplies[Request] = wire.PendingReplies()
        self._trial: Request | None = None
        self._end = wire.ClientProtocol(settings.max_frame_bytes)
        self._heartbeat: Heartbeat | None = None
        self._abandoned: list[Dial] = []
        self._dialled: Dial | None = None
        self._selector: selectors.BaseSelector | None = None
        self._wake_in: socket.socket | None = None
        self._wake_out: socket.socket | None = None
        self._due = 0.0
        self._watching_write = False
        self._sleeping = False
        self._closing: float | None = None
        self._closing_frame_sent = False
        self._goodbye_timeout = 0.0
        self._answers = 0
        self._nonsense = 0
        self._ping_sent: float | None = None
        self._round_trip: float | None = None
        self._notices = Notices()
        self._logged_at = 0.0
        self._told_connected = False
        self._warned_of_proxy = False

    # What callers use.

    def refusal(self) -> StoreError | None:
        """Return the error a new request would get now, without any waiting."""
        return self.lifecycle.refusal(_clock()) if self._closing is None else _closed()

    def count_refusal(self) -> None:
        with self.lock:
            self._counts["fail_fast"] += 1

    def submit(self, request: Request) -> None:
        """Queue *request*; what stands against it becomes its answer at once."""
        error: StoreError | None
        with self.lock:
            now = _clock()
            error = _closed() if self._closing is not None else self.lifecycle.refusal(now)
            if error is not None:
                self._counts["fail_fast"] += 1
            else:
                error = self._admit(request, now)
            if error is None:
                self._queue.append(request)
                self._queued_bytes += len(request.frame)
                self._outstanding += 1
                error = self._ensure_running()
                if error is None:
                    self._wake()
                else:
                    self._queue.pop()
                    self._queued_bytes -= len(request.frame)
                    self._outstanding -= 1
        if error is not None:
            request.future.set_exception(error)

    def _admit(self, request: Request, now: float) -> StoreError | None:
        settings = self.settings
        if (
            self._outstanding >= settings.max_pending
            or self._queued_bytes + len(request.frame) > settings.max_queued_bytes
        ):
            self._counts["overloaded"] += 1
            return Overloaded(
                f"{self._outstanding:,} requests with {self._queued_bytes:,} bytes wait for"
                f" {settings.address.shown} already; nothing was sent."
            )
        if self.lifecycle.state is not State.READY:
            return None
        if request.requires is not None and request.requires not in self.features:
            return request.feature_missing(settings.address.shown)
        match self.circuit.admit(now):
            case Admission.NO:
                self._counts["fail_fast"] += 1
                return ServiceUnavailable(
                    f"{settings.address.shown} is connected but does not answer;"
                    " nothing was sent, and it is tried again soon."
                )
            case Admission.TRIAL:
                request.trial = True
                request.deadline = min(request.deadline, now + settings.trial_timeout)
                self._trial = request
        return None

    def is_io_thread(self) -> bool:
        return self.thread is not None and self.thread.ident == threading.get_ident()

    def close(self, timeout: float) -> None:
        """Send what waits, for at most *timeout* seconds, and end the thread."""
        with self.lock:
            if self._closing is None:
                self._closing = _clock() + timeout
                self._goodbye_timeout = min(timeout, CLOSE_TIMEOUT)
            if self.thread is None or not self.thread.is_alive():
                self.thread = None
                self.lifecycle.close()
                self.done.set()
            self._wake()
        if not self.is_io_thread():
            self.done.wait(max(timeout, 0.0) + CLOSE_TIMEOUT + 1.0)

    def leave_behind(self) -> None:
        """Close the copies of the parent's files, in a process that was forked.

        No lock is taken, as whoever held it is not in this process; and nothing but close
        is called: anything else would reach the parent's connection or its selector.
        """
        if self.dial is not None:
            self.dial.close()
        if self.connection is not None:
            self.connection.socket.close()
        for opened in (self._wake_in, self._wake_out, self._selector):
            if opened is not None:
                opened.close()

    def stats(self) -> dict[str, Any]:
        """Return what happened so far, and how things stand."""
        with self.lock:
            now = _clock()
            lifecycle, connection = self.lifecycle, self.connection
            return {
                "state": lifecycle.state.value,
                "error": type(lifecycle.error).__name__ if lifecycle.error else None,
                "failures": lifecycle.backoff.failures,
                "next_attempt_in": max(0.0, lifecycle.until - now)
                if lifecycle.state is State.BACKOFF
                else None,
                "circuit_open": self.circuit.is_open,
                "connections": self.connections,
                "pending": self._outstanding,
                "queued_bytes": self._queued_bytes,
                "round_trip": self._round_trip,
                "requests": dict(self._requests),
                "lost": dict(self._losses),
                "unknown_id": self._replies.unknown,
                "duplicate": self._replies.duplicate,
                "late": self._replies.late,
                "bytes_in": self._counts["bytes_in"] + (connection.bytes_in if connection else 0),
                "bytes_out": self._counts["bytes_out"]
                + (connection.bytes_out if connection else 0),
                **{
                    name: self._counts[name]
                    for name in (
                        "dials",
                        "fail_fast",
                        "overloaded",
                        "timeouts",
                        "repeated",
                        "outcome_unknown",
                        "malformed",
                        "pings",
                        "pongs",
                        "io_crashes",
                    )
                },
            }

    # Starting and waking; under the lock.

    def _ensure_running(self) -> StoreError | None:
        if self.thread is not None and self.thread.is_alive():
            return None
        if self._selector is None:
            self._wake_in, self._wake_out = socket.socketpair()
            self._wake_in.setblocking(False)
            self._wake_out.setblocking(False)
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._wake_in, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self._run, name="flask-agentuity I/O", daemon=True)
        try:
            self.thread.start()
        except RuntimeError as error:
            self.thread = None
            self._close_files()
            return ServiceUnavailable(f"The thread client cannot start its thread: {error}")
        return None

    def _close_files(self) -> None:
        for opened in (self._selector, self._wake_in, self._wake_out):
            if opened is not None:
                opened.close()
        self._selector = self._wake_in = self._wake_out = None

    def _wake(self) -> None:
        if self._sleeping and self._wake_out is not None:
            self._sleeping = False
            with contextlib.suppress(BlockingIOError):
                self._wake_out.send(b"\0")

    # The I/O thread.

    def _run(self) -> None:
        while True:
            try:
                if not self._turn():
                    break
            except Exception:
                logger.exception("The I/O thread of the thread client failed; it goes on.")
                self._counts["io_crashes"] += 1
                self._lose(
                    ServiceUnavailable("The thread client met a fault of its own."),
                    "crash",
                )
                # A fault that comes at every turn must not take a whole core.
                time.sleep(0.05)
        self._shut()

    def _turn(self) -> bool:
        """Wait for something and do it; return False at the end."""
        readable = self._sleep()
        now = _clock()
        if self._dialled is not None:
            self._take_dialled(now)
        connection = self.connection
        if connection is not None and (readable or connection.more):
            self._read(connection, now)
        self._keep_time(now)
        self._write(now)
        return not self._may_end(now)

    def _sleep(self) -> bool:
        selector, wake, connection = self._selector, self._wake_in, self.connection
        assert selector is not None and wake is not None
        with self.lock:
            now = _clock()
            if self._has_work():
                timeout = 0.0
            else:
                next_time = self._next_time()
                self._due = min(self._due, next_time)
                timeout = max(0.0, next_time - now)
                self._sleeping = True
        readable = False
        for key, _ in selector.select(timeout):
            if key.fileobj is wake:
                with contextlib.suppress(BlockingIOError):
                    wake.recv(4096)
            elif connection is not None and key.fileobj is connection.socket:
                readable = True
        # A caller that comes from here on is seen by this turn, or by the next _sleep().
        self._sleeping = False
        return readable

    def _has_work(self) -> bool:
        if self._dialled is not None:
            return True
        lifecycle, connection = self.lifecycle, self.connection
        if lifecycle.state is State.IDLE and self._queue:
            return True
        if connection is None:
            return self._closing is not None and not self._outstanding
        if connection.more:
            return True
        if lifecycle.state is State.READY and connection.idle:
            return bool(self._queue) or (
                self._closing is not None and not self._outstanding and not self._closing_frame_sent
            )
        return False

    def _next_time(self) -> float:
        """Return when something is to be done even if nothing comes."""
        lifecycle = self.lifecycle
        times = []
        if lifecycle.state in (State.CONNECTING, State.AUTHORIZING, State.BACKOFF):
            times.append(lifecycle.until)
            if self._queue and lifecycle.error is not None:
                times.append(lifecycle.grace_until)
        if self._queue:
            times.append(self._queue[0].deadline)
        if (oldest := self._replies.oldest()) is not None:
            times.append(oldest.deadline)
        if self._trial is not None:
            times.append(self._trial.deadline)
        if self._heartbeat is not None:
            times.append(self._heartbeat.due(owed=len(self._replies) > 0))
        if self._closing is not None:
            times.append(self._closing)
        return min(times, default=_clock() + self.settings.ping_interval)

    # Connecting.

    def _connect(self, now: float) -> None:
        self._abandoned = [dial for dial in self._abandoned if dial.thread.is_alive()]
        if len(self._abandoned) >= MAX_ABANDONED_DIALS:
            with self.lock:
                self.lifecycle.postpone(now)
            return
        if not self._warned_of_proxy:
            self._warned_of_proxy = True
            for warning in proxy_warnings(os.environ, self.settings.address):
                logger.warning("%s", warning)
        dial = Dial(self.settings, self._deliver)
        with self.lock:
            self._counts["dials"] += 1
            self.lifecycle.connect(now)
            self.dial = dial
        try:
            dial.start()
        except RuntimeError as error:
            self._lose(ServiceUnavailable(f"No thread could be started: {error}"), "dial")

    def _deliver(self, dial: Dial) -> None:
        """Take the outcome of an attempt, in its thread."""
        with self.lock:
            if self.dial is dial and not self.done.is_set():
                self._dialled = dial
                self._wake()
                return
        if isinstance(dial.outcome, socket.socket):
            dial.outcome.close()

    def _take_dialled(self, now: float) -> None:
        with self.lock:
            dial, self._dialled = self._dialled, None
            current = dial is self.dial
            if current:
                self.dial = None
        outcome = dial.outcome if dial is not None else None
        if isinstance(outcome, DialFailure):
            if current:
                self._lose(
                    outcome.error,
                    "dial",
                    refused=outcome.refused,
                    retry_after=outcome.retry_after,
                )
        elif outcome is not None and not current:
            outcome.close()
        elif outcome is not None:
            settings, selector = self.settings, self._selector
            assert selector is not None
            connection = Connection(outcome, settings.max_frame_bytes)
            selector.register(outcome, selectors.EVENT_READ)
            self._watching_write = False
            self._end = wire.ClientProtocol(settings.max_frame_bytes)
            self._answers = self._nonsense = 0
            self._heartbeat = Heartbeat(
                settings.ping_interval, settings.pong_timeout, settings.probe_after, now
            )
            connection.put_control(frames.text_frame(self._end.opening(settings.key)))
            with self.lock:
                self.connection = connection
                self.lifecycle.connected()

    def _abandon_dial(self) -> None:
        with self.lock:
            dial, self.dial = self.dial, None
        if dial is not None:
            dial.abandon()
            self._abandoned.append(dial)

    # Reading.

    def _read(self, connection: Connection, now: float) -> None:
        before = connection.bytes_in
        try:
            messages = connection.receive()
            if connection.bytes_in != before and self._heartbeat is not None:
                self._heartbeat.hear(now)
            for message in messages:
                if self.connection is not connection:
                    return
                self._take(connection, message, now)
        except ConnectionLost as lost:
            self._lose(self._gone(str(lost)), "lost")
        except FrameError as error:
            connection.put_control(frames.close_frame(error.code))
            with contextlib.suppress(ConnectionLost):
                connection.flush(now)
            self._lose(self._gone(f"it sent {error}"), "frame")

    def _take(self, connection: Connection, message: Message, now: float) -> None:
        match message.opcode:
            case frames.TEXT:
                self._take_text(message.data, now)
            case frames.PING:
                connection.replace_control(frames.control_frame(frames.PONG, message.data))
            case frames.PONG:
                self._counts["pongs"] += 1
                if self._ping_sent is not None:
                    self._round_trip = now - self._ping_sent
                    self._ping_sent = None
            case frames.CLOSE:
                connection.put_control(frames.control_frame(frames.CLOSE, message.data[:2]))
                with contextlib.suppress(ConnectionLost):
                    connection.flush(now)
                self._take_close(message.data)
            case _:
                self._pass_over("a binary message")

    def _take_close(self, data: bytes) -> None:
        code, words = frames.close_reason(data)
        said = f"it closed with {code}" if code is not None else "it closed"
        if words:
            said += f" ({self._clean(words)})"
        if self.lifecycle.state is State.AUTHORIZING and code == _POLICY_VIOLATION:
            self._lose(
                AuthenticationFailed(f"{self.settings.address.shown} refused the key: {said}."),
                "denied",
                refused=True,
            )
        else:
            self._lose(self._gone(said), "closed")

    def _take_text(self, data: bytes, now: float) -> None:
        match self._end.receive(data):
            case wire.Success() | wire.Failure() as reply:
                self._answer(reply)
            case wire.Granted(features):
                with self.lock:
                    self.connections += 1
                    self.features = features
                    self.lifecycle.granted(now)
                logger.info("Connected to %s.", self.settings.address.shown)
                self._told_connected = True
                if self.settings.on_connected is not None:
                    self._notices.give(self.settings.on_connected)
            case wire.Denied(words):
                self._lose(
                    AuthenticationFailed(
                        f"{self.settings.address.shown} refused the key: {self._clean(words)}"
                    ),
                    "denied",
                    refused=True,
                )
            case wire.Malformed(reason):
                self._pass_over(reason)

    def _answer(self, reply: wire.Success | wire.Failure) -> None:
        unknown = self._replies.unknown
        request = self._replies.answer(reply.id)
        if request is None:
            if self._replies.unknown != unknown:
                self._count_nonsense()
            logger.debug("A reply to nothing that is waited for was passed over.")
            return
        self._answers += 1
        self._nonsense = 0
        with self.lock:
            self.circuit.answered()
        if isinstance(reply, wire.Failure):
            words = self._clean(reply.error)
            about = f"The service did not {request.action} thread {request.thread_id}"
            self._finish(request, ServiceRefusal(f"{about}: {words}", words, reply.fields))
            return
        try:
            self._finish(request, None, request.convert(reply))
        except ServiceError as error:
            self._finish(request, error)

    def _pass_over(self, reason: str) -> None:
        self._counts["malformed"] += 1
        logger.debug("A frame of the service was passed over: %s", reason)
        self._count_nonsense()

    def _count_nonsense(self) -> None:
        self._nonsense += 1
        if self._nonsense >= MAX_NONSENSE:
            raise FrameError(
                frames.PROTOCOL_ERROR, f"{MAX_NONSENSE:,} messages in a row that answer nothing"
            )

    # The clock.

    def _keep_time(self, now: float) -> None:
        lifecycle = self.lifecycle
        if now < self._due and lifecycle.state is State.READY:
            return
        self._due = now + KEEP_TIME
        if self._owner() is None and self._closing is None:
            with self.lock:
                self._closing = now
                self._goodbye_timeout = CLOSE_TIMEOUT
        self._expire(now)
        if lifecycle.state in (State.CONNECTING, State.AUTHORIZING) and now >= lifecycle.until:
            seconds = self.settings.connect_timeout
            where = self.settings.address.shown
            self._lose(
                ServiceUnavailable(f"{where} did not let us in within {seconds:g} s."),
                "connect_timeout",
            )
        self._beat(now)
        if self._queue and lifecycle.refusal(now) is not None:
            self._fail_queued(now)
        if self._closing is None or self._outstanding:
            due = lifecycle.state is State.BACKOFF and now >= lifecycle.until
            if due or (lifecycle.state is State.IDLE and self._queue):
                self._connect(now)

    def _beat(self, now: float) -> None:
        connection, heartbeat = self.connection, self._heartbeat
        if connection is None or heartbeat is None or self.lifecycle.state is not State.READY:
            return
        match heartbeat.beat(now, owed=len(self._replies) > 0):
            case Beat.PING:
                connection.put_control(frames.control_frame(frames.PING))
                self._ping_sent = now
                self._counts["pings"] += 1
            case Beat.LOST:
                silence = now - heartbeat.heard
                self._lose(self._gone(f"it was silent for {silence:.1f} s"), "silent")

    def _expire(self, now: float) -> None:
        expired: list[Request] = []
        while (oldest := self._replies.oldest()) is not None and oldest.deadline <= now:
            self._replies.give_up(oldest.id)
            expired.append(oldest)
        trial = self._trial
        if trial is not None and trial.deadline <= now and self._replies.give_up(trial.id):
            expired.append(trial)
        unsent: list[Request] = []
        with self.lock:
            while self._queue and self._queue[0].deadline <= now:
                unsent.append(self._dequeue())
            if trial is not None and trial.deadline <= now and trial in self._queue:
                self._queue.remove(trial)
                self._queued_bytes -= len(trial.frame)
                unsent.append(trial)
        for request in unsent:
            self._counts["timeouts"] += 1
            if request.trial:
                with self.lock:
                    self.circuit.trial_lost()
            self._finish(request, request.unanswered("its time was up before it could be sent."))
        silent = False
        heard = self._heartbeat.heard if self._heartbeat is not None else now
        for request in expired:
            self._counts["timeouts"] += 1
            with self.lock:
                self.circuit.timed_out(now)
            silent = silent or (request.progress is Progress.SENT and heard < request.sent_at)
            where = self.settings.address.shown
            self._finish(request, request.unanswered(f"{where} took longer than allowed."))
        if silent and self.connection is not None:
            self._lose(self._gone("nothing came while a request waited for its answer"), "silent")

    # Writing.

    def _write(self, now: float) -> None:
        connection = self.connection
        if connection is None:
            return
        try:
            gone = connection.flush(now)
            while gone and self.lifecycle.state is State.READY and (chunk := self._chunk(now)):
                connection.put(chunk)
                gone = connection.flush(now)
        except ConnectionLost as lost:
            self._lose(self._gone(str(lost)), "lost")
            return
        selector = self._selector
        assert selector is not None
        if gone == self._watching_write:
            self._watching_write = not gone
            events = selectors.EVENT_READ | (0 if gone else selectors.EVENT_WRITE)
            selector.modify(connection.socket, events)

    def _chunk(self, now: float) -> list[Request]:
        """Take requests off the queue, as much as goes into one write."""
        chunk: list[Request] = []
        unsent: list[Request] = []
        size = 0
        heartbeat, features = self._heartbeat, self.features
        with self.lock:
            while self._queue and (not chunk or size + len(self._queue[0].frame) <= WRITE_BYTES):
                request = self._dequeue()
                if not request.frame or (
                    request.requires is not None and request.requires not in features
                ):
                    unsent.append(request)
                    continue
                if heartbeat is not None and not len(self._replies):
                    heartbeat.owe(now)
                self._replies.add(request.id, request)
                size += len(request.frame)
                chunk.append(request)
        for request in unsent:
            self._settle_unsent(request)
        return chunk

    def _settle_unsent(self, request: Request) -> None:
        """Answer a request that needs no reply of the service, or cannot get one."""
        if request.trial:
            with self.lock:
                self.circuit.trial_lost()
        if not request.frame:
            self._finish(request, None, self.features)
        else:
            self._finish(request, request.feature_missing(self.settings.address.shown))

    def _dequeue(self) -> Request:
        request = self._queue.popleft()
        self._queued_bytes -= len(request.frame)
        return request

    # The end of a request, of a connection, and of it all.

    def _finish(self, request: Request, error: StoreError | None, result: object = None) -> None:
        with self.lock:
            self._outstanding -= 1
            if self._trial is request:
                self._trial = None
            outcome = "ok" if error is None else type(error).__name__
            self._requests[f"{request.action} {outcome}"] += 1
            if outcome == "OutcomeUnknown":
                self._counts["outcome_unknown"] += 1
        if error is None:
            request.future.set_result(result)
        else:
            request.future.set_exception(error)

    def _fail_queued(self, now: float) -> None:
        with self.lock:
            queued = list(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
        reason = self.lifecycle.error
        for request in queued:
            if request.repeated:
                self._finish(request, request.unanswered(f"{reason}"))
            else:
                self._finish(request, self.lifecycle.refusal(now) or _closed())

    def _gone(self, how: str) -> StoreError:
        where = self.settings.address.shown
        return ServiceUnavailable(f"The connection to {where} was lost: {how}.")

    def _lose(
        self,
        error: StoreError,
        reason: str,
        *,
        refused: bool = False,
        retry_after: float | None = None,
    ) -> None:
        """The connection, or the attempt at one, is over: settle with everybody."""
        now = _clock()
        self._abandon_dial()
        connection = self.connection
        was_ready = self.lifecycle.state is State.READY
        under_way = self._replies.give_up_all()
        repeat: list[Request] = []
        failed: list[Request] = []
        with self.lock:
            self.connection = None
            self._heartbeat = None
            self._ping_sent = None
            self._losses[reason] += 1
            self.lifecycle.lost(
                now,
                error,
                refused=refused,
                retry_after=retry_after,
                answered=self._answers > 0,
            )
            may_wait = self.lifecycle.may_wait(now) and self._closing is None
            if self._trial is not None:
                self.circuit.trial_lost()
            for request in under_way:
                sent = request.progress is Progress.SENT
                if may_wait and (not sent or (request.repeatable and not request.repeated)):
                    request.repeated = request.repeated or sent
                    repeat.append(request)
                else:
                    failed.append(request)
            for request in reversed(repeat):
                request.progress = Progress.QUEUED
                self._queue.appendleft(request)
                self._queued_bytes += len(request.frame)
                self._counts["repeated"] += request.repeated
            if connection is not None:
                self._counts["bytes_in"] += connection.bytes_in
                self._counts["bytes_out"] += connection.bytes_out
        if connection is not None:
            if self._selector is not None:
                self._selector.unregister(connection.socket)
            connection.close()
        self._log_loss(error, was_ready=was_ready, refused=refused, now=now)
        for request in failed:
            if request.progress is Progress.BEGUN:
                # Cut off in the middle, so the service never had the whole of it.
                request.progress = Progress.QUEUED
            self._finish(request, request.unanswered(str(error)))
        if not may_wait:
            self._fail_queued(now)
        self._tell_disconnected(error)

    def _tell_disconnected(self, error: StoreError) -> None:
        if self._told_connected and self.settings.on_disconnected is not None:
            self._notices.give(partial(self.settings.on_disconnected, error))
        self._told_connected = False

    def _log_loss(self, error: StoreError, *, was_ready: bool, refused: bool, now: float) -> None:
        if self._closing is not None:
            return
        failures = self.lifecycle.backoff.failures
        # The first, then every doubling, then now and then: an outage is no news for ever.
        if failures & (failures - 1) and now - self._logged_at < LOG_INTERVAL:
            return
        self._logged_at = now
        seconds = self.lifecycle.until - now
        level = logging.ERROR if refused else logging.WARNING
        if was_ready and failures <= 1:
            level = logging.INFO
        logger.log(level, "%s Connecting again in %.1f s (failure %d).", error, seconds, failures)

    def _clean(self, words: str) -> str:
        """Return what the service said, without the key should it have said that."""
        return words.replace(self.settings.key, "<key>")[: wire.limits.MAX_ERROR_LENGTH]

    def _may_end(self, now: float) -> bool:
        closing = self._closing
        if closing is None:
            return False
        if self._outstanding and now < closing:
            return False
        connection = self.connection
        if connection is None or self.lifecycle.state is not State.READY:
            return True
        if not self._closing_frame_sent:
            self._closing_frame_sent = True
            connection.put_control(frames.close_frame(frames.NORMAL))
            with self.lock:
                self._closing = now + self._goodbye_timeout
            self._write(now)
            # The other end's close frame, or the time, ends it.
            return self.connection is None
        return now >= closing

    def _shut(self) -> None:
        self._abandon_dial()
        connection = self.connection
        with self.lock:
            self.connection = None
            self.lifecycle.close()
            self.done.set()
            stale, self._dialled = self._dialled, None
            queued = list(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
        if stale is not None and isinstance(stale.outcome, socket.socket):
            stale.outcome.close()
        for request in [*self._replies.give_up_all(), *queued]:
            self._finish(request, request.unanswered("the client was closed."))
        if connection is not None:
            connection.close()
        with self.lock:
            self._close_files()
        self._tell_disconnected(_closed())
        self._notices.end()


def _closed() -> StoreError:
    return ServiceUnavailable("The client of the thread service is closed.")


def wait(request: Request) -> Any:
    """Return the answer to *request*; a little more than its time is waited for it."""
    try:
        return request.future.result(max(0.0, request.deadline - _clock()) + 1.0)
    except TimeoutError:
        raise _stuck(request) from None


def _stuck(request: Request) -> StoreError:
    if request.progress is Progress.QUEUED:
        return ServiceUnavailable(
            "The I/O thread of the thread client does not run (uWSGI needs enable-threads)."
        )
    return request.unanswered("the I/O thread of the thread client is stuck.")
