"""The client that applications and stores use: calls that wait, and their twins that do not."""

from __future__ import annotations

import atexit
import os
import random
import time
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from .. import wire
from ..document.operations import Operation
from ..errors import ServiceUnavailable, StoreError
from ..wire import limits
from . import frames
from .address import parse_address
from .engine import Engine, wait
from .lifecycle import State
from .request import Request
from .settings import Settings


class ThreadClient:
    """A thread service at the other end of one WebSocket, shared by all threads of a process.

    Nothing happens before the first call, which connects. While the service is away calls
    fail at once, and it is tried again for ever; right after a good connection was lost
    they wait a moment, so that a restart of the service is not seen. After a fork the
    child makes a connection of its own.

    Every call raises, or sets on its future, a :exc:`~flask_agentuity.errors.StoreError`:
    :exc:`~flask_agentuity.errors.ServiceUnavailable` and
    :exc:`~flask_agentuity.errors.Overloaded` when nothing was sent,
    :exc:`~flask_agentuity.errors.RequestTimeout` when no answer came and repeating does no
    harm, :exc:`~flask_agentuity.errors.OutcomeUnknown` for a merge that was sent and not
    answered, :exc:`~flask_agentuity.errors.AuthenticationFailed`, and
    :exc:`~flask_agentuity.errors.ServiceError` for what the service answered.

    Done callbacks of the futures run in the I/O thread: they must be short, and a call that
    waits is refused there.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        connect_timeout: float = limits.CONNECT_TIMEOUT,
        request_timeout: float = limits.REQUEST_TIMEOUT,
        reconnect_base: float = 1.0,
        reconnect_max: float = 30.0,
        refused_base: float = 30.0,
        refused_max: float = 300.0,
        grace: float = 2.0,
        ping_interval: float = 20.0,
        pong_timeout: float = 10.0,
        probe_after: float = 2.0,
        trial_timeout: float = 3.0,
        stable_after: float = 10.0,
        max_pending: int = 1000,
        max_queued_bytes: int = 64 * 1024 * 1024,
        max_frame_bytes: int = limits.MAX_FRAME_BYTES,
        ca_file: str | None = None,
        on_connected: Callable[[], object] | None = None,
        on_disconnected: Callable[[StoreError], object] | None = None,
    ) -> None:
        """Take a ws, wss, http or https *url*; without a path it gets ``/thread/ws``.

        All times are in seconds.

        :param connect_timeout: for everything from resolving the name to being let in.
        :param request_timeout: for a call, with the wait for a connection.
        :param reconnect_base: the longest wait before the first new attempt; it doubles
            with each failure.
        :param reconnect_max: where the doubling ends.
        :param refused_base: the shortest wait after a refusal that waiting does not mend (a
            wrong key, a wrong certificate); it doubles too.
        :param refused_max: where that doubling ends.
        :param grace: how long calls wait for a new connection after a good one was lost.
        :param ping_interval: the silence after which a sign of life is asked for; below the
            minute after which proxies cut idle connections.
        :param pong_timeout: how long it may take to come; half of it while an answer is owed.
        :param probe_after: the silence, while an answer is owed, after which it is asked for.
        :param trial_timeout: for the one call that tries a service that had stopped answering.
        :param stable_after: how long a connection must live to count as a good end of an
            outage, so that the waits begin small again.
        :param max_pending: how many calls may wait at once.
        :param max_queued_bytes: how many bytes may wait to be sent.
        :param max_frame_bytes: the largest message that is taken from the service.
        :param ca_file: certificates (PEM) to trust instead of the system's.
        :param on_connected: called, in a thread of its own, when the service let us in.
        :param on_disconnected: called there with the reason, when that connection was lost.
        :raises ConfigurationError: when the URL or an option is wrong.
        """
        self.settings = Settings(
            parse_address(url),
            key,
            connect_timeout=connect_timeout,
            request_timeout=request_timeout,
            reconnect_base=reconnect_base,
            reconnect_max=reconnect_max,
            refused_base=refused_base,
            refused_max=refused_max,
            grace=grace,
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
            probe_after=probe_after,
            trial_timeout=trial_timeout,
            stable_after=stable_after,
            max_pending=max_pending,
            max_queued_bytes=max_queued_bytes,
            max_frame_bytes=max_frame_bytes,
            ca_file=ca_file,
            on_connected=on_connected,
            on_disconnected=on_disconnected,
        )
        self._closed = False
        # One for each process: a forked child finds no entry of its own.
        self._engines: dict[int, Engine] = {}
        _clients.add(self)

    def __repr__(self) -> str:
        return f"<ThreadClient {self.settings.address.shown}>"

    def restore(self, thread_id: str) -> bytes | None:
        """Return a thread's document, None when there is none.

        :raises StoreError: see the class.
        """
        self._require_waiting()
        document: bytes | None = wait(self._restore(thread_id))
        return document

    def restore_reply(
        self,
        thread_id: str,
        encode: Callable[[str], bytes] | None = None,
        *,
        requires: str | None = None,
    ) -> wire.Success:
        """Return the service's whole reply to a restore; see :attr:`.wire.Success.fields`.

        :param encode: makes the request's frame from its id, for requests that ask for more
            than a document. It may be sent twice if a connection is lost.
        :param requires: the feature that the service must have announced.
        :raises FeatureMissing: if it has not; nothing was sent.
        :raises ServiceRefusal: if the service answered with an error.
        :raises StoreError: see the class.
        """
        self._require_waiting()
        make = encode or (lambda id: wire.encode_restore(id, thread_id))
        reply: wire.Success = wait(
            self._call("restore", thread_id, make, convert=_whole, requires=requires)
        )
        return reply

    def merge_edits(self, thread_id: str, encode: Callable[[str], bytes]) -> wire.Success:
        """Send merged edits and return the service's whole reply.

        The request is sent only over a connection whose service announced ``edits``, and
        never twice.

        :param encode: makes the request's frame from its id.
        :raises FeatureMissing: if the service does not know edits; nothing was sent.
        :raises ServiceRefusal: if the service answered with an error; its ``fields`` are the
            whole reply.
        :raises OutcomeUnknown: if the request was sent and not answered.
        :raises StoreError: see the class.
        """
        self._require_waiting()
        reply: wire.Success = wait(
            self._call(
                "merge", thread_id, encode, convert=_whole, repeatable=False, requires="edits"
            )
        )
        return reply

    def features(self) -> Mapping[str, int]:
        """Return what the service announced on the current connection, with versions.

        Waits for a connection as any other call does. An empty mapping means that the service
        speaks the basic protocol only.

        :raises StoreError: see the class.
        """
        self._require_waiting()
        engine = self._engine()
        if engine.lifecycle.state is State.READY:
            return engine.features
        features: Mapping[str, int] = wait(
            self._call("lookup", "(none)", lambda id: b"", convert=_nothing)
        )
        return features

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Replace a thread's document (``b""``: nothing is left), and its metadata unless None.

        :raises StateTooLarge: when the document is over 1,048,576 bytes.
        :raises StateNotSerializable: when it is not UTF-8, or the metadata not JSON.
        :raises StoreError: see the class.
        """
        self._require_waiting()
        wait(self._save(thread_id, document, metadata))

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Apply *operations* in order, and replace the metadata unless None.

        :raises OutcomeUnknown: when it was sent and not answered; it is never sent twice.
        :raises StateTooLarge: when it is larger than every service must take.
        :raises StoreError: see the class.
        """
        self._require_waiting()
        wait(self._merge(thread_id, operations, metadata))

    def delete(self, thread_id: str) -> None:
        """Remove a thread; one that is not there is no error.

        :raises StoreError: see the class.
        """
        self._require_waiting()
        wait(self._delete(thread_id))

    def submit_restore(self, thread_id: str) -> Future[bytes | None]:
        """Like :meth:`restore`, but return a future at once."""
        return self._restore(thread_id).future

    def submit_save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> Future[bytes | None]:
        """Like :meth:`save`, but return a future at once; its result is None."""
        return self._save(thread_id, document, metadata).future

    def submit_merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> Future[bytes | None]:
        """Like :meth:`merge`, but return a future at once; its result is None."""
        return self._merge(thread_id, operations, metadata).future

    def submit_delete(self, thread_id: str) -> Future[bytes | None]:
        """Like :meth:`delete`, but return a future at once; its result is None."""
        return self._delete(thread_id).future

    @property
    def connection_number(self) -> int:
        """How many times this process was let in by the service; it tells connections apart."""
        engine = self._engines.get(os.getpid())
        return engine.connections if engine is not None else 0

    def stats(self) -> dict[str, Any]:
        """Return how things stand in this process, and counts since it began."""
        engine = self._engines.get(os.getpid()) or Engine(self.settings, self)
        return engine.stats()

    def close(self, timeout: float = 1.0) -> None:
        """Finish what is under way, for at most *timeout* seconds, and disconnect.

        It may be called from any thread and more than once. A closed client stays closed.
        """
        self._closed = True
        engine = self._engines.get(os.getpid())
        if engine is not None:
            engine.close(timeout)

    def _require_waiting(self) -> None:
        engine = self._engines.get(os.getpid())
        if engine is not None and engine.is_io_thread():
            raise RuntimeError(
                "A call that waits was made in a done callback of a future; it would wait for ever."
            )

    def _restore(self, thread_id: str) -> Request:
        return self._call(
            "restore",
            thread_id,
            lambda id: wire.encode_restore(id, thread_id),
            convert=_document,
        )

    def _save(self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None) -> Request:
        return self._call(
            "save",
            thread_id,
            lambda id: wire.encode_save(id, thread_id, document, metadata),
            convert=_nothing,
        )

    def _merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None,
    ) -> Request:
        return self._call(
            "merge",
            thread_id,
            lambda id: wire.encode_merge(id, thread_id, operations, metadata),
            convert=_nothing,
            # A merge can contain a push.
            repeatable=False,
        )

    def _delete(self, thread_id: str) -> Request:
        return self._call(
            "delete", thread_id, lambda id: wire.encode_delete(id, thread_id), convert=_nothing
        )

    def _call(
        self,
        action: str,
        thread_id: str,
        encode: Callable[[str], bytes],
        *,
        convert: Callable[[wire.Success], Any],
        repeatable: bool = True,
        requires: str | None = None,
    ) -> Request:
        engine = self._engine()
        deadline = time.monotonic() + self.settings.request_timeout
        request = Request(
            _new_id(), action, thread_id, b"", deadline, convert, repeatable, requires
        )
        # Running from the start: what may be on its way cannot be cancelled.
        request.future.set_running_or_notify_cancel()
        # While the service is down nothing is encoded in vain.
        if error := engine.refusal():
            engine.count_refusal()
            request.future.set_exception(error)
        else:
            # Encoded and masked here, in the caller's thread: the I/O thread is shared.
            content = encode(request.id)
            request.frame = frames.text_frame(content) if content else b""
            engine.submit(request)
        return request

    def _engine(self) -> Engine:
        pid = os.getpid()
        engine = self._engines.get(pid)
        if engine is None:
            if self._closed:
                raise ServiceUnavailable("The client of the thread service is closed.")
            self._leave_others_behind(pid)
            # setdefault is atomic: two threads get one engine.
            engine = self._engines.setdefault(pid, Engine(self.settings, self))
        return engine

    def _leave_others_behind(self, pid: int) -> None:
        for other in [each for each in self._engines if each != pid]:
            if (engine := self._engines.pop(other, None)) is not None:
                engine.leave_behind()


def _document(reply: wire.Success) -> bytes | None:
    return wire.document_of(reply.data)


def _nothing(reply: wire.Success) -> None:
    return None


def _whole(reply: wire.Success) -> wire.Success:
    return reply


def _new_id() -> str:
    """Return a UUID of version 4; the dice need not be secret, and are new after a fork."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


_clients: weakref.WeakSet[ThreadClient] = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        # No process has this number: all that is there is the parent's.
        client._leave_others_behind(-1)


def _at_exit() -> None:
    for client in list(_clients):
        client.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
