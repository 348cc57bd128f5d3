"""The exceptions of the package.

All of them are subclasses of :exc:`AgentuityError`, and where Python has a fitting exception, for
example ``ValueError``, of that too.
"""

from __future__ import annotations

from typing import Any


class AgentuityError(Exception):
    """The base of every exception of this package."""


class ConfigurationError(AgentuityError, ValueError):
    """A setting is wrong, or the extension is used in a way that cannot work.

    For a setting, the message names the key, the value and what is allowed.
    """


class InvalidThreadId(AgentuityError, ValueError):
    """A thread id is not ``thrd_`` followed by ``[a-zA-Z0-9-]``, 32 to 64 characters in total."""


class ThreadNotFound(AgentuityError, LookupError):
    """The current user has no such thread: it does not exist, or belongs to another user.

    In a request, the response is 404 Not Found unless the app handles the exception. The message
    does not tell which of the two is the case.
    """

    def __init__(self, thread_id: object) -> None:
        super().__init__(f"There is no conversation {_shown(thread_id)}.")
        self.thread_id = thread_id

    def __reduce__(self) -> tuple[type[ThreadNotFound], tuple[object]]:
        return type(self), (self.thread_id,)


class InvalidArgument(AgentuityError, ValueError):
    """An argument that often comes from a client is wrong: a limit, a cursor, a filter, a number.

    In a request, the response is 400 Bad Request unless the app handles the exception. The message
    says what is allowed.
    """


class InvalidCursor(InvalidArgument):
    """The cursor did not come from a listing."""

    def __init__(self, cursor: object) -> None:
        super().__init__(f"{_shown(cursor)} is not the cursor of a listing.")
        self.cursor = cursor

    def __reduce__(self) -> tuple[type[InvalidCursor], tuple[object]]:
        return type(self), (self.cursor,)


class StateTooLarge(AgentuityError, ValueError):
    """The document would exceed the limit. What was stored before is unchanged."""

    def __init__(self, size: int, limit: int, thread_id: str | None = None) -> None:
        """*size* and *limit* are in UTF-8 bytes of the whole document."""
        where = f"thread {thread_id}" if thread_id else "the thread"
        super().__init__(
            f"The document of {where} would be {size:,} bytes; the limit is {limit:,}."
            " Keep less in the state: push(..., max_records=N) keeps the last N entries of a list."
        )
        self.size = size
        self.limit = limit
        self.thread_id = thread_id

    def __reduce__(self) -> tuple[type[StateTooLarge], tuple[Any, ...]]:
        return type(self), (self.size, self.limit, self.thread_id)


class TooManyKeys(StateTooLarge):
    """The thread's state would have too many keys; what was stored before stays whole.

    ``size`` and ``limit`` are numbers of keys.
    """

    def __init__(self, size: int, limit: int, thread_id: str | None = None) -> None:
        """*size* and *limit* are numbers of keys."""
        super().__init__(size, limit, thread_id)
        where = f"thread {thread_id}" if thread_id else "the thread"
        self.args = (
            f"The state of {where} would have {size:,} keys; the limit is {limit:,}. Keep what"
            " belongs together in one list or dictionary.",
        )


class TooManyChanges(StateTooLarge):
    """A request has changed more than the thread service takes at once. Nothing was stored.

    ``size`` and ``limit`` are numbers of operations, of lists and objects, or of values.
    """

    def __init__(
        self, size: int, limit: int, thread_id: str | None = None, what: str = "operations"
    ) -> None:
        """*size* and *limit* are numbers of *what* the service has counted."""
        super().__init__(size, limit, thread_id)
        where = f"thread {thread_id}" if thread_id else "the thread"
        self.args = (
            f"The changes of {where} have {size:,} {what}; the limit is {limit:,}. Change less in"
            " one request, or call save() in between.",
        )
        self.what = what

    def __reduce__(self) -> tuple[type[StateTooLarge], tuple[Any, ...]]:
        return type(self), (self.size, self.limit, self.thread_id, self.what)


class StateNotSerializable(AgentuityError, TypeError):
    """A value cannot be JSON. ``path`` says where it is, for example ``state["a"][3].b``."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} cannot be stored: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[StateNotSerializable], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class StateTypeError(AgentuityError, TypeError):
    """A push to a value that is not a list, or an increment of one that is not a number."""


class StoreError(AgentuityError):
    """The store failed: it is unavailable, busy or full, or the stored data is damaged."""


class ThreadGone(StoreError):
    """The thread was deleted or got another id after the request began. Its changes were dropped.

    :meth:`ThreadManager.claim` and :meth:`ThreadManager.rotate` change the id. Raised by
    :meth:`Thread.save` and :meth:`ThreadManager.open`. At the end of a request, a warning is logged
    instead, and the response is sent.
    """

    def __init__(self, thread_id: str) -> None:
        super().__init__(
            f"Thread {thread_id} was deleted, or got another id at a login, before its changes"
            " were saved."
        )
        self.thread_id = thread_id

    def __reduce__(self) -> tuple[type[ThreadGone], tuple[str]]:
        return type(self), (self.thread_id,)


class TurnLost(StoreError):
    """Another request has taken over the turn of this one. Its changes were dropped.

    A turn is taken over if it was not renewed for some seconds, because the process or the machine
    was suspended, or cut off from the store. See :meth:`ThreadManager.one_at_a_time`.
    """

    def __init__(self, thread_id: str) -> None:
        super().__init__(
            f"The turn on thread {thread_id} was taken over by another request, or ended, before"
            " this request saved its changes. They were dropped."
        )
        self.thread_id = thread_id

    def __reduce__(self) -> tuple[type[TurnLost], tuple[str]]:
        return type(self), (self.thread_id,)


class ServiceUnavailable(StoreError):
    """There is no connection to the service at the moment. Nothing was sent."""


class RequestTimeout(StoreError):
    """There was no reply in time. The call can be repeated safely."""


class OutcomeUnknown(StoreError):
    """The call was sent, but there was no reply. It may or may not have been applied."""


class Overloaded(StoreError):
    """Too much data is waiting to be sent. Nothing was sent."""


class AuthenticationFailed(StoreError):
    """The service rejected the key."""


class ServiceError(StoreError):
    """The service replied with an error, or with an invalid reply."""


def _shown(value: object) -> str:
    """Return the beginning of the representation of what may come from a client."""
    text = repr(value)
    return f"{text[:80]}{'...' * (len(text) > 80)}"


def invalid_argument(name: str, value: object, allowed: str) -> InvalidArgument:
    """Return the error for an argument; *allowed* says what it must be."""
    return InvalidArgument(f"{name}={_shown(value)} is wrong: it must be {allowed}.")
