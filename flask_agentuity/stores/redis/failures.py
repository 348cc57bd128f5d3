"""What an error of Redis or of redis-py means for the caller of a store."""

from __future__ import annotations

from ...document import codec
from ...errors import (
    AuthenticationFailed,
    OutcomeUnknown,
    RequestTimeout,
    ServiceUnavailable,
    StoreError,
)
from .client import exceptions

#: What redis-py raises; the second is for a cluster that it cannot find its way in.
ERRORS = (exceptions.RedisError, exceptions.RedisClusterException)

#: Answers of a Redis that has applied nothing, and may do so later.
_UNREADY = (
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.AskError,
)
_REFUSALS = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
)


def is_refusal(error: Exception) -> bool:
    """Return whether Redis refused who asked, not what was asked."""
    # A longer command without authentication is a fault of the protocol for Redis.
    return isinstance(error, _REFUSALS) or "unauthenticated" in str(error)


def is_answer(error: Exception) -> bool:
    """Return whether Redis refused a command, and is able to serve others."""
    return (is_refusal(error) or isinstance(error, exceptions.ResponseError)) and not _is_unready(
        error
    )


def not_sent(thread_id: str, error: Exception) -> StoreError:
    """Return the error for a call for which there was no connection."""
    if is_refusal(error):
        return _refused(thread_id, error)
    return ServiceUnavailable(
        f"There is no connection to Redis; nothing was sent for thread {thread_id}: {error}"
    )


def failed(name: bytes, thread_id: str, error: Exception, *, changes: bool) -> StoreError:
    """Return the error for a call that was sent.

    :param name: the key that was asked for.
    :param changes: whether it matters to the caller if the call was done.
    """
    if is_refusal(error):
        return _refused(thread_id, error)
    if _is_unready(error):
        return ServiceUnavailable(
            f"Redis cannot serve thread {thread_id} now; nothing was changed: {error}"
        )
    if isinstance(error, exceptions.ResponseError):
        if "DAMAGED" in str(error):
            return codec.damaged(thread_id, "a part is missing, or not what it should be")
        # What follows is the name of the script and a line in it.
        words = str(error).partition(" script: ")[0].rstrip(".")
        return StoreError(
            f"Redis refused thread {thread_id}; nothing was changed: {words}.{_remedy(words, name)}"
        )
    if changes:
        return OutcomeUnknown(
            f"Redis did not answer; whether thread {thread_id} was changed is unknown: {error}"
        )
    if isinstance(error, exceptions.TimeoutError):
        return RequestTimeout(f"Redis did not answer for thread {thread_id}: {error}")
    return StoreError(f"The connection to Redis broke, thread {thread_id}: {error}")


def _is_unready(error: Exception) -> bool:
    return isinstance(error, _UNREADY) or str(error).startswith("NOREPLICAS")


def _refused(thread_id: str, error: Exception) -> StoreError:
    remedy = (
        "Allow its user all that threads need: ~* +@all -@dangerous +info."
        if isinstance(error, exceptions.NoPermissionError)
        else "Give user and password in the URL: redis://USER:PASSWORD@HOST, percent-encoded."
    )
    words = str(error).rstrip(".")
    return AuthenticationFailed(f"Redis refused to serve thread {thread_id}: {words}. {remedy}")


def _remedy(words: str, name: bytes) -> str:
    if "'maxmemory'" in words:
        return " Raise its maxmemory, or delete threads."
    if words.startswith("WRONGTYPE"):
        # The thread's, its index's or a part's: all begin alike.
        shown = name.partition(b"}")[0].decode(errors="replace")
        return (
            f" Another program uses a key that begins with {shown}}}. Give threads another prefix"
            " (?prefix=), or remove that key."
        )
    return ""
