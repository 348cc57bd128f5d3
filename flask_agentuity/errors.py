"""Every exception the package raises.

All of them are :exc:`AgentuityError`, so one ``except`` clause catches what this
package can do to a request; where Python has a word for the fault (a wrong type, a
wrong value) they are that as well.
"""

from __future__ import annotations


class AgentuityError(Exception):
    """The base of every exception of this package."""


class ConfigurationError(AgentuityError, ValueError):
    """A setting is wrong, or the extension is used in a way that cannot work.

    Raised by :meth:`~flask_agentuity.ThreadManager.init_app`; the message names the
    key, the value and what is allowed.
    """


class InvalidThreadId(AgentuityError, ValueError):
    """A thread id breaks the rule: ``thrd_``, then only ``[a-zA-Z0-9-]``, 32 to 64 characters."""


class ThreadNotFound(AgentuityError, LookupError):
    """There is no such thread for this person: it does not exist, or belongs to someone else.

    In a request it is answered with 404 Not Found, unless the app handles it. The message is the
    same in all cases, also for what is not a thread id.
    """

    def __init__(self, thread_id: object) -> None:
        super().__init__(f"There is no conversation {_shown(thread_id)}.")
        self.thread_id = thread_id

    def __reduce__(self) -> tuple[type[ThreadNotFound], tuple[object]]:
        return type(self), (self.thread_id,)


class InvalidArgument(AgentuityError, ValueError):
    """An argument that often comes from a client is wrong: a limit, a cursor, a filter, a number.

    In a request it is answered with 400 Bad Request, unless the app handles it. The message says
    what is allowed.
    """


class InvalidCursor(InvalidArgument):
    """The cursor is not one that a listing has returned.

    In a request it is answered with 400 Bad Request, unless the app handles it.
    """

    def __init__(self, cursor: object) -> None:
        super().__init__(f"{_shown(cursor)} is not the cursor of a listing.")
        self.cursor = cursor

    def __reduce__(self) -> tuple[type[InvalidCursor], tuple[object]]:
        return type(self), (self.cursor,)


class StateTooLarge(AgentuityError, ValueError):
    """The thread's document would be over the limit; what was stored before stays whole."""

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

    def __reduce__(self) -> tuple[type[StateTooLarge], tuple[int, int, str | None]]:
        return type(self), (self.size, self.limit, self.thread_id)


class StateNotSerializable(AgentuityError, TypeError):
    """A value that JSON cannot hold; :attr:`path` says where it is, e.g. ``state["a"][3].b``."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} cannot be stored: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[StateNotSerializable], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class StateTypeError(AgentuityError, TypeError):
    """A push onto a value that is not a list."""


class StoreError(AgentuityError):
    """The store could not do what was asked: it is down, busy, refuses, or holds damaged data."""


class ThreadGone(StoreError):
    """The thread was deleted, or got another id, after this request began; the write was dropped.

    A thread gets another id by :meth:`ThreadManager.claim` and :meth:`ThreadManager.rotate`.
    Raised by :meth:`Thread.save` and :meth:`ThreadManager.open`. A response is never
    replaced because of it: the request logs a warning instead.
    """

    def __init__(self, thread_id: str) -> None:
        super().__init__(
            f"Thread {thread_id} was deleted, or got another id at a login, before its changes"
            " were saved. They were dropped."
        )
        self.thread_id = thread_id

    def __reduce__(self) -> tuple[type[ThreadGone], tuple[str]]:
        return type(self), (self.thread_id,)


class TurnLost(StoreError):
    """Another request has taken over the turn of this one; the write was dropped.

    A turn is taken over if its holder did not renew it for some seconds, because its process
    or its machine was suspended or cut off from the store. See
    :meth:`ThreadManager.one_at_a_time`.
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
    """There is no connection to the service now; nothing was sent."""


class RequestTimeout(StoreError):
    """No answer came in time, and repeating the call can do no harm."""


class OutcomeUnknown(StoreError):
    """The call was sent and not answered: it may have been applied, so repeat nothing blindly."""


class Overloaded(StoreError):
    """Too much is waiting to be sent already; nothing was sent."""


class AuthenticationFailed(StoreError):
    """The service refused the key."""


class ServiceError(StoreError):
    """The service answered with an error, or with something that is no answer."""


def _shown(value: object) -> str:
    """Return the beginning of the representation of what may come from a client."""
    text = repr(value)
    return f"{text[:80]}{'...' * (len(text) > 80)}"


def invalid_argument(name: str, value: object, allowed: str) -> InvalidArgument:
    """Return the error for an argument; *allowed* says what it must be."""
    return InvalidArgument(f"{name}={_shown(value)} is wrong: it must be {allowed}.")
