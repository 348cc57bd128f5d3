"""One request, from the call to its end."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from .. import wire
from ..errors import OutcomeUnknown, RequestTimeout, ServiceError, ServiceUnavailable, StoreError


class ServiceRefusal(ServiceError):
    """The service answered a request with an error.

    :attr:`words` is the text of the error, :attr:`fields` the whole decoded reply.
    """

    def __init__(self, message: str, words: str, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.words = words
        self.fields: Mapping[str, Any] = fields if fields is not None else {}

    def __reduce__(self) -> tuple[type[ServiceRefusal], tuple[str, str, Mapping[str, Any]]]:
        return type(self), (str(self), self.words, self.fields)


class FeatureMissing(ServiceError):
    """The service does not support the feature that a request requires; nothing was sent."""

    def __init__(self, message: str, feature: str) -> None:
        super().__init__(message)
        self.feature = feature

    def __reduce__(self) -> tuple[type[FeatureMissing], tuple[str, str]]:
        return type(self), (str(self), self.feature)


class Progress(enum.Enum):
    """How much of the frame the socket has taken."""

    QUEUED = "queued"
    BEGUN = "begun"
    SENT = "sent"


@dataclass(eq=False, slots=True)
class Request:
    """A frame on its way, and who waits for the answer."""

    id: str
    action: str
    thread_id: str
    frame: bytes = field(repr=False)
    #: When the caller stops waiting, on the monotonic clock.
    deadline: float
    #: What the caller gets of a successful reply.
    convert: Callable[[wire.Success], Any]
    #: Whether doing it twice has the same effect as doing it once.
    repeatable: bool
    #: The feature that a connection must have for this request to be sent over it.
    requires: str | None = None
    future: Future[Any] = field(default_factory=Future)
    progress: Progress = Progress.QUEUED
    sent_at: float = 0.0
    #: It was sent over a connection that was lost, and is to be sent once more.
    repeated: bool = False
    trial: bool = False

    def feature_missing(self, where: str) -> StoreError:
        """Return the error for a request that the service at *where* does not support."""
        if self.repeated:
            return self.unanswered(f"{where} no longer supports {self.requires!r}.")
        return FeatureMissing(
            f"The {self.action} of thread {self.thread_id} was not sent: {where} does not"
            f" support {self.requires!r}.",
            str(self.requires),
        )

    def unanswered(self, why: str) -> StoreError:
        """Return the error for a caller who gets no answer, because of *why*."""
        about = f"The {self.action} of thread {self.thread_id}"
        # What was sent before a repetition may have been done as well.
        if self.progress is Progress.QUEUED and not self.repeated:
            return ServiceUnavailable(f"{about} was not sent: {why}")
        if self.repeatable:
            return RequestTimeout(f"{about} was not answered: {why}")
        return OutcomeUnknown(
            f"{about} was sent and not answered, so it may have been done or not: {why}"
        )
