"""Translate errors of Redis and of redis-py into errors of a store."""

from __future__ import annotations

from ...document import codec
from ...document.foreign_text import printable
from ...errors import (
    AuthenticationFailed,
    OutcomeUnknown,
    RequestTimeout,
    ServiceUnavailable,
    StoreError,
)
from ..subjects import subject
from .client import exceptions

#: What redis-py raises. The second is no subclass of the first.
ERRORS = (exceptions.RedisError, exceptions.RedisClusterException)

#: Replies of a Redis that has applied nothing, and may accept the command later.
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
    """Return whether Redis refused the credentials, not the command."""
    # Redis calls a long command without authentication a protocol error.
    return isinstance(error, _REFUSALS) or "unauthenticated" in str(error)


def is_answer(error: Exception) -> bool:
    """Return whether Redis refused a command but can serve others."""
    return (is_refusal(error) or isinstance(error, exceptions.ResponseError)) and not _is_unready(
        error
    )


def not_sent(thread_id: str, error: Exception) -> StoreError:
    """Return the error for a call that was not sent, because there was no connection."""
    if is_refusal(error):
        return _refused(thread_id, error)
    about, words = subject(thread_id), _words(error)
    return ServiceUnavailable(
        f"There is no connection to Redis; nothing was sent for {about}: {words}"
    )


def failed(name: bytes, thread_id: str, error: Exception, *, changes: bool) -> StoreError:
    """Return the error for a call that was sent.

    :param name: the key that the call was for.
    :param changes: whether the caller must know if the call took effect.
    """
    if is_refusal(error):
        return _refused(thread_id, error)
    if _is_unready(error):
        return ServiceUnavailable(
            f"Redis cannot serve {subject(thread_id)} now; nothing was changed: {_words(error)}"
        )
    if isinstance(error, exceptions.ResponseError):
        if "DAMAGED" in str(error):
            return codec.damaged(thread_id, "a part is missing or invalid")
        # The name of the script and a line number follow.
        words = _words(error).partition(" script: ")[0].rstrip(".")
        return StoreError(
            f"Redis refused {subject(thread_id)}; nothing was changed: {words}."
            f"{_remedy(words, name)}"
        )
    if changes:
        return OutcomeUnknown(
            f"Redis did not answer; whether {subject(thread_id)} was changed is unknown:"
            f" {_words(error)}"
        )
    if isinstance(error, exceptions.TimeoutError):
        return RequestTimeout(f"Redis did not answer for {subject(thread_id)}: {_words(error)}")
    return StoreError(f"The connection to Redis broke, for {subject(thread_id)}: {_words(error)}")


def _is_unready(error: Exception) -> bool:
    # Before version 7, Redis wraps the error of a command in one of the script.
    text = str(error)
    return isinstance(error, _UNREADY) or text.startswith("NOREPLICAS") or " -READONLY " in text


def _refused(thread_id: str, error: Exception) -> StoreError:
    remedy = (
        "Give its user these permissions: ~* &* +@all -@dangerous +info."
        if isinstance(error, exceptions.NoPermissionError)
        else "Give user and password in the URL: redis://USER:PASSWORD@HOST, percent-encoded."
    )
    words = _words(error).rstrip(".")
    return AuthenticationFailed(f"Redis refused to serve {subject(thread_id)}: {words}. {remedy}")


def _remedy(words: str, name: bytes) -> str:
    if "'maxmemory'" in words:
        return " Raise its maxmemory, or delete threads."
    if words.startswith("WRONGTYPE"):
        # The keys of the thread, its index and its strings begin with the same text.
        shown = name.partition(b"}")[0].decode(errors="replace")
        return (
            f" Another program uses a key that begins with {shown}}}. Give threads another prefix"
            " (?prefix=), or remove that key."
        )
    return ""


def _words(error: Exception) -> str:
    # A server, or something in between, can answer with anything.
    return printable(str(error))
