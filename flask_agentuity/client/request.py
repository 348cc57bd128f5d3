"""One request, from the call to its result."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .. import wire
from ..errors import OutcomeUnknown, RequestTimeout, ServiceError, ServiceUnavailable, StoreError


class ServiceRefusal(ServiceError):
    """The service answered a request with an error.

    :attr:`words` is the text of the error, with control characters escaped. :attr:`fields` is
    the whole decoded reply.
    """

    def __init__(self, message: str, words: str, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.words = words
        self.fields: Mapping[str, Any] = fields if fields is not None else {}

    def __reduce__(self) -> tuple[type[ServiceRefusal], tuple[str, str, Mapping[str, Any]]]:
        return type(self), (str(self), self.words, self.fields)


class FeatureMissing(ServiceError):
    """The service does not support the feature that a request requires. Nothing was sent."""

    def __init__(self, message: str, feature: str) -> None:
        super().__init__(message)
        self.feature = feature

    def __reduce__(self) -> tuple[type[FeatureMissing], tuple[str, str]]:
        return type(self), (str(self), self.feature)


class Call(NamedTuple):
    """What a request asks of the service.

    ``encode`` makes the content of the frame from the request's id; an empty content is not
    sent. ``convert`` makes the caller's result from the reply. ``repeatable``: doing it twice
    has the same effect as doing it once. ``requires``: the feature that the service must have
    announced. ``thread_id`` is None for a call that concerns the connection only.
    """

    action: str
    thread_id: str | None
    encode: Callable[[str], bytes]
    convert: Callable[[wire.Success], Any]
    repeatable: bool = True
    requires: str | None = None

    @property
    def description(self) -> str:
        """The call as the subject of an error message."""
        return f"The {self.action} of thread {self.thread_id}"


class Progress(enum.Enum):
    """How much of the frame was handed to the socket of the current connection."""

    QUEUED = "queued"
    BEGUN = "begun"
    SENT = "sent"


@dataclass(eq=False, slots=True)
class PendingRequest:
    """A call that was made and has no result yet."""

    id: str
    call: Call
    #: When the caller stops waiting, on the monotonic clock.
    deadline: float
    frame: bytes = field(default=b"", repr=False)
    future: Future[Any] = field(default_factory=Future)
    progress: Progress = Progress.QUEUED
    sent_at: float = 0.0
    #: It was sent over a connection that was lost, and is sent a second time.
    repeated: bool = False
    #: It probes a service that had stopped answering.
    trial: bool = False

    def begin(self) -> None:
        """Record that the frame is being written."""
        self.progress = Progress.BEGUN

    def sent(self, now: float) -> None:
        """Record that the socket took the whole frame."""
        self.progress = Progress.SENT
        self.sent_at = now

    def connection_lost(self, *, may_wait: bool) -> bool:
        """Record that the connection was lost. Return whether to send the request again."""
        was_sent = self.progress is Progress.SENT
        if not was_sent:
            # The service never had the whole frame.
            self.progress = Progress.QUEUED
            return may_wait
        if not may_wait or not self.call.repeatable or self.repeated:
            return False
        self.progress = Progress.QUEUED
        self.repeated = True
        return True

    def is_supported(self, features: Mapping[str, int]) -> bool:
        """Return whether a service with *features* can answer."""
        return self.call.requires is None or self.call.requires in features

    def unsupported(self, where: str) -> StoreError:
        """Return the error if the service at *where* lacks the required feature."""
        feature = str(self.call.requires)
        if self.repeated:
            return self.unanswered(f"{where} no longer supports {feature!r}.")
        return FeatureMissing(
            f"{self.call.description} was not sent: {where} does not support {feature!r}.", feature
        )

    def unanswered(self, reason: str) -> StoreError:
        """Return the error for a caller who gets no reply."""
        if self.call.thread_id is None:
            return ServiceUnavailable(f"There is no connection: {reason}")
        about = self.call.description
        # The first of two attempts to send it may have succeeded.
        if self.progress is Progress.QUEUED and not self.repeated:
            return ServiceUnavailable(f"{about} was not sent: {reason}")
        if self.call.repeatable:
            return RequestTimeout(f"{about} was not answered: {reason}")
        return OutcomeUnknown(
            f"{about} was sent but not answered, so it may or may not have been applied: {reason}"
        )
