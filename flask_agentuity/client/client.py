"""The client that applications and stores use."""

from __future__ import annotations

import atexit
import random
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Unpack

from .. import wire
from ..document.operations import Operation
from ..errors import ServiceUnavailable
from ..per_process import PerProcess, after_fork_in_child
from . import calls, frames
from .address import parse_address
from .process_client import ProcessClient, wait
from .request import Call, PendingRequest
from .settings import ClientOptions, ClientSettings


class ThreadClient:
    """A client of a thread service: one WebSocket, shared by all threads of a process.

    The first call connects. While the service is down, calls fail at once and the client keeps
    reconnecting. After a healthy connection was lost, calls wait for a short time, so that a
    restart of the service is not noticed. A forked child makes its own connection.

    Every call raises a :exc:`~flask_agentuity.errors.StoreError`, or sets it on its future:

    - :exc:`~flask_agentuity.errors.ServiceUnavailable` or
      :exc:`~flask_agentuity.errors.Overloaded`: nothing was sent.
    - :exc:`~flask_agentuity.errors.RequestTimeout`: no reply arrived in time. The call can be
      repeated safely.
    - :exc:`~flask_agentuity.errors.OutcomeUnknown`: a merge was sent and not answered.
    - :exc:`~flask_agentuity.errors.AuthenticationFailed`: the service refused the key.
    - :exc:`~flask_agentuity.errors.ServiceError`: the service answered with an error.

    Done callbacks of the futures run in the I/O thread. They must be short, and must not make
    calls that wait.
    """

    def __init__(self, url: str, key: str, **options: Unpack[ClientOptions]) -> None:
        """Create a client without connecting.

        :param url: a ws, wss, http or https URL. Without a path it gets ``/thread/ws``.
        :param key: the service's key.
        :param options: see :class:`~flask_agentuity.client.settings.ClientSettings`.
        :raises ConfigurationError: if the URL, the key or an option is wrong.
        """
        self.settings = ClientSettings(parse_address(url), key, **options)
        self._closed = False
        # Without a reference to this object, which closes when it is no longer referenced.
        self._here = PerProcess(partial(ProcessClient, self.settings, weakref.ref(self)))
        _clients.add(self)

    def __repr__(self) -> str:
        return f"<ThreadClient {self.settings.address.shown}>"

    def restore(self, thread_id: str) -> bytes | None:
        """Return the document of a thread, or None if there is none.

        :raises StoreError: see the class.
        """
        document: bytes | None = self._wait(
            calls.restore(thread_id, self.settings.max_document_bytes)
        )
        return document

    def restore_reply(
        self,
        thread_id: str,
        encode: Callable[[str], bytes] | None = None,
        *,
        requires: str | None = None,
    ) -> wire.Success:
        """Return the service's whole reply to a restore; see :attr:`.wire.Success.fields`.

        :param encode: makes the content of the request's frame from its id, for requests that
            ask for more than a document. The request is sent twice if a connection is lost.
        :param requires: the feature that the service must have announced.
        :raises FeatureMissing: if it has not. Nothing was sent.
        :raises ServiceRefusal: if the service answered with an error.
        :raises StoreError: see the class.
        """
        reply: wire.Success = self._wait(calls.restore_reply(thread_id, encode, requires))
        return reply

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Replace the document of a thread, and its metadata unless that is None.

        An empty document leaves nothing.

        :raises StateTooLarge: if the document has more than 1,048,576 bytes.
        :raises StateNotSerializable: if it is not UTF-8, or the metadata is not JSON.
        :raises StoreError: see the class.
        """
        self._wait(calls.save(thread_id, document, metadata))

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Apply *operations* in order, and replace the metadata unless it is None.

        :raises OutcomeUnknown: if the merge was sent and not answered. It is never sent twice.
        :raises StateTooLarge: if it is larger than a service must accept.
        :raises StoreError: see the class.
        """
        self._wait(calls.merge(thread_id, operations, metadata))

    def merge_edits(self, thread_id: str, encode: Callable[[str], bytes]) -> wire.Success:
        """Send merged edits and return the service's whole reply.

        The request is sent only over a connection whose service announced ``edits``, and never
        twice.

        :param encode: makes the content of the request's frame from its id.
        :raises FeatureMissing: if the service does not support edits. Nothing was sent.
        :raises ServiceRefusal: if the service answered with an error. Its ``fields`` are the
            whole reply.
        :raises OutcomeUnknown: if the request was sent and not answered.
        :raises StoreError: see the class.
        """
        reply: wire.Success = self._wait(calls.merge_edits(thread_id, encode))
        return reply

    def delete(self, thread_id: str, encode: Callable[[str], bytes] | None = None) -> None:
        """Delete a thread. A missing thread is not an error.

        :param encode: makes the content of the request's frame from its id, for a deletion by the
            extension ``edits``.
        :raises FeatureMissing: if the service has not announced it. Nothing was sent.
        :raises StoreError: see the class.
        """
        self._wait(calls.delete(thread_id, encode))

    def submit_restore(self, thread_id: str) -> Future[bytes | None]:
        """Like :meth:`restore`, but return a future at once."""
        return self._submit(calls.restore(thread_id, self.settings.max_document_bytes)).future

    def submit_save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> Future[None]:
        """Like :meth:`save`, but return a future at once."""
        return self._submit(calls.save(thread_id, document, metadata)).future

    def submit_merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> Future[None]:
        """Like :meth:`merge`, but return a future at once."""
        return self._submit(calls.merge(thread_id, operations, metadata)).future

    def submit_delete(self, thread_id: str) -> Future[None]:
        """Like :meth:`delete`, but return a future at once."""
        return self._submit(calls.delete(thread_id)).future

    def features(self) -> Mapping[str, int]:
        """Return the features that the service announced on the current connection.

        Waits for a connection like any other call. The values are versions. A service that
        speaks the basic protocol only has no features.

        :raises StoreError: see the class.
        """
        features = self._process().features
        return features if features is not None else self._wait(calls.connect())

    @property
    def connection_number(self) -> int:
        """How often the service accepted the key in this process."""
        process = self._here.made()
        return process.connections if process is not None else 0

    def stats(self) -> dict[str, Any]:
        """Return the current state, and counts since the first call in this process."""
        process = self._here.made() or ProcessClient(self.settings, weakref.ref(self))
        return process.stats()

    def close(self, timeout: float = 1.0) -> None:
        """Finish the calls in progress for at most *timeout* seconds, and disconnect.

        Any thread may call this, more than once. A closed client cannot be opened again.
        """
        self._closed = True
        process = self._here.made()
        if process is not None:
            process.close(timeout)

    def _wait(self, call: Call) -> Any:
        process = self._here.made()
        if process is not None and process.is_io_thread:
            raise RuntimeError(
                "A call that waits was made in a done callback of a future. It would never end."
            )
        return wait(self._submit(call))

    def _submit(self, call: Call) -> PendingRequest:
        process = self._process()
        deadline = time.monotonic() + self.settings.request_timeout
        request = PendingRequest(_new_id(), call, deadline)
        # Running from the start: a request that may have been sent cannot be cancelled.
        request.future.set_running_or_notify_cancel()
        error = process.refusal()
        if error is not None:
            request.future.set_exception(error)
            return request
        # Encoded and masked in the caller's thread, because the I/O thread is shared.
        content = call.encode(request.id)
        request.frame = frames.text_frame(content) if content else b""
        process.submit(request)
        return request

    def _process(self) -> ProcessClient:
        process = self._here.made()
        if process is None:
            if self._closed:
                raise ServiceUnavailable("The thread client is closed.")
            process = self._here.get()
        return process


def _new_id() -> str:
    """Return a UUID of version 4. It need not be secret, and differs after a fork."""
    digits = f"{random.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


_clients: weakref.WeakSet[ThreadClient] = weakref.WeakSet()


@after_fork_in_child
def _abandon_inherited() -> None:
    for client in list(_clients):
        for process in client._here.inherited():
            process.abandon()


def _at_exit() -> None:
    for client in list(_clients):
        client.close()


atexit.register(_at_exit)
