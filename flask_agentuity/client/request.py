"""One request, from the call to its end."""

from __future__ import annotations

import enum
from concurrent.futures import Future
from dataclasses import dataclass, field

from ..errors import OutcomeUnknown, RequestTimeout, ServiceError, ServiceUnavailable, StoreError


class ServiceRefusal(ServiceError):
    """The service answered that it did not do it; :attr:`words` is what it said, unchanged."""

    def __init__(self, message: str, words: str) -> None:
        super().__init__(message)
        self.words = words

    def __reduce__(self) -> tuple[type[ServiceRefusal], tuple[str, str]]:
        return type(self), (str(self), self.words)


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
    future: Future[bytes | None] = field(default_factory=Future)
    progress: Progress = Progress.QUEUED
    sent_at: float = 0.0
    #: It was sent over a connection that was lost, and is to be sent once more.
    repeated: bool = False
    trial: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether doing it twice is the same as doing it once; a merge can hold a push."""
        return self.action != "merge"

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
