"""A session: one request and its response within a thread."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any

from ..document import codec
from ..errors import StateNotSerializable
from .session_request import SessionRequest
from .thread import Thread, ThreadObserver, contents_of

logger = logging.getLogger("flask_agentuity.session")

Listener = Callable[[str, "Session"], Any]


def _make_random_id() -> str:
    return f"sess_{secrets.token_hex(16)}"


class Session:
    """One request and its response: ``g.session``. It is not Flask's ``session``.

    ``state`` is shared by the functions that handle the request, and is part of a session report;
    ``metadata`` describes the session. Both are plain dictionaries, and are not stored.
    """

    def __init__(
        self,
        thread: Thread,
        observer: ThreadObserver,
        *,
        request: SessionRequest,
        make_id: Callable[[], str] = _make_random_id,
    ) -> None:
        self.thread = thread
        #: The method, the path, the trigger and the beginning of the request.
        self.request = request
        #: The status of the response, once it is complete.
        self.status_code: int | None = None
        #: The exception that ended the request, once it has ended.
        self.error: BaseException | None = None
        self.state: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self._observer = observer
        self._make_id = make_id
        self._id: str | None = None
        self._listeners: list[Listener] | None = None
        self._completed = False

    @property
    def id(self) -> str:
        """The session's id: ``sess_`` and 32 hex digits, those of the trace if one is active."""
        if self._id is None:
            self._id = self._make_id()
        return self._id

    def serialize_user_data(self) -> str | None:
        """Return :attr:`state` as JSON; None if it is empty or cannot be reported.

        For a state over 1 MiB, or one that cannot be JSON, an error is logged and None returned.
        """
        if not self.state:
            return None
        try:
            encoded = codec.encode(self.state, "session.state")
        except StateNotSerializable as error:
            logger.error(  # noqa: TRY400 - the error names the path
                "The user data of session %s is not JSON: %s", self.id, error, extra=self._about()
            )
            return None
        if len(encoded) > codec.MAX_DOCUMENT_BYTES:
            logger.error(
                "The user data of session %s is %d bytes; the limit is %d.",
                self.id,
                len(encoded),
                codec.MAX_DOCUMENT_BYTES,
                extra=self._about(),
            )
            return None
        return encoded.decode()

    def add_event_listener(self, event: str, listener: Listener) -> None:
        """Register *listener*, which is called with the name of the event and the session.

        :param event: ``"completed"``: the response is complete, or the request has failed.
        :param listener: a function or a coroutine function. Exceptions that it raises are logged.
        :raises ValueError: for any other event.
        """
        _require_event(event)
        if self._listeners is None:
            self._listeners = []
        self._listeners.append(listener)

    def remove_event_listener(self, event: str, listener: Listener) -> None:
        """Remove a listener, if it is registered."""
        _require_event(event)
        if self._listeners and listener in self._listeners:
            self._listeners.remove(listener)

    def __repr__(self) -> str:
        return f"<Session {self.id}>"

    def _about(self) -> dict[str, str | None]:
        thread_id = contents_of(self.thread).source.known_id
        return {"thread_id": thread_id, "session_id": self.id}


def complete(session: Session, status: int | None, error: BaseException | None) -> None:
    """Note how *session* has ended, and call its listeners, once."""
    if session._completed:
        return
    session._completed = True
    session.status_code, session.error = status, error
    if session._listeners:
        for listener in list(session._listeners):
            session._observer.call_listener(listener, "completed", session)


def _require_event(event: str) -> None:
    if event != "completed":
        raise ValueError(f"A session has no event {event!r}. Allowed: 'completed'.")
