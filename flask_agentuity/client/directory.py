"""The threads of a service over HTTP: listing, describing and deleting them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from ..document.foreign_text import printable
from ..document.messages import encode_message, parse_message
from ..errors import (
    AuthenticationFailed,
    OutcomeUnknown,
    ServiceError,
    ServiceUnavailable,
    StoreError,
)
from .http import HTTPEndpoint, HTTPReply

ROUTE = "/thread"

#: The most threads that one call may ask for.
MAX_LIMIT = 100

# The longest first line of a request that servers commonly accept.
_LONGEST_PATH = 8_000


class NotOffered(StoreError):
    """The service does not have these routes."""


@dataclass(frozen=True, slots=True)
class FoundThread:
    """A thread as the service describes it; times in seconds since 1970, the size in bytes."""

    id: str
    metadata: dict[str, Any]
    created: float
    updated: float
    size: int
    deleted: bool
    #: The whole document, if the service is one of this package and was asked for one thread.
    document: bytes | None


@dataclass(frozen=True, slots=True)
class FoundThreads:
    """Some threads of a listing, and how to get those that follow.

    ``cursor`` is None if nothing follows. A service without cursors takes an offset instead.
    """

    threads: Sequence[FoundThread]
    has_cursors: bool
    cursor: str | None


class ThreadDirectory:
    """Finds the threads of a service over HTTP, beside the WebSocket::

        directory = ThreadDirectory(HTTPEndpoint("https://threads.example.com", key))
        directory.list({"user": "ada"}, limit=10)

    Every call raises a :exc:`~flask_agentuity.errors.StoreError` if the service does not offer
    it, refuses the key, or cannot be reached.
    """

    def __init__(self, endpoint: HTTPEndpoint) -> None:
        self._endpoint = endpoint

    def list(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 10,
        offset: int = 0,
        cursor: str | None = None,
    ) -> FoundThreads:
        """Return threads, the most recently updated first.

        :param metadata: only threads whose metadata has these keys and values.
        :param limit: at most 100.
        :param offset: how many threads to skip, unless a cursor is given.
        :raises ValueError: if the metadata is too long for a URL.
        """
        parameters: dict[str, Any] = {"limit": limit}
        if cursor is not None:
            parameters["cursor"] = cursor
        else:
            parameters.update(offset=offset, sort="updated", direction="desc")
        if metadata:
            parameters["metadata"] = encode_message(dict(metadata)).decode()
        path = f"{ROUTE}?{urlencode(parameters)}"
        if len(path) > _LONGEST_PATH:
            raise ValueError("The metadata to look for is too long to be sent in a URL.")
        answer = self._check(self._call("GET", path))
        data = answer.get("data")
        if not isinstance(data, list):
            raise self._nonsense("there is no list of threads in it")
        cursor = answer.get("cursor")
        if not isinstance(cursor, str | None):
            raise self._nonsense("its cursor is not text")
        return FoundThreads([self._thread(each) for each in data], "cursor" in answer, cursor)

    def get(self, thread_id: str) -> FoundThread | None:
        """Return one thread, or None if there is none."""
        reply = self._call("GET", _path(thread_id))
        if reply.status == 404 and "success" in _parse(reply):
            return None
        found = self._thread(self._check(reply).get("data"))
        return None if found.deleted else found

    def delete(self, thread_id: str) -> None:
        """Delete a thread. A missing one is no error."""
        reply = self._call("DELETE", _path(thread_id))
        if reply.status == 204 or (reply.status == 404 and "success" in _parse(reply)):
            return
        self._check(reply)

    def close(self) -> None:
        """Close the idle connections."""
        self._endpoint.close()

    def _call(self, method: str, path: str) -> HTTPReply:
        try:
            return self._endpoint.call(method, path)
        except OutcomeUnknown:
            # The service may have closed an idle connection, and a second attempt is harmless.
            try:
                return self._endpoint.call(method, path)
            except OutcomeUnknown as error:
                raise ServiceUnavailable(str(error)) from None

    def _check(self, reply: HTTPReply) -> dict[str, Any]:
        """Return the answer in *reply*.

        :raises StoreError: if the service did not do what was asked.
        """
        answer = _parse(reply)
        if reply.status == 200 and answer.get("success") is True:
            return answer
        words = answer.get("message")
        reason = printable(words) if isinstance(words, str) else f"status {reply.status}"
        where = f"The thread service at {self._endpoint.base}"
        match reply.status:
            case 401 | 403:
                return _raise(AuthenticationFailed(f"{where} refused the key: {reason}"))
            case 404 | 405 | 501:
                return _raise(NotOffered(f"{where} does not offer this over HTTP: {reason}"))
            case 429 | 502 | 503:
                return _raise(ServiceUnavailable(f"{where} cannot answer now: {reason}"))
            case _:
                return _raise(ServiceError(f"{where} answered with an error: {reason}"))

    def _thread(self, described: Any) -> FoundThread:
        if not isinstance(described, dict) or not isinstance(described.get("id"), str):
            raise self._nonsense("a thread in it has no id")
        metadata = described.get("metadata")
        if not isinstance(metadata, dict | None):
            raise self._nonsense("the metadata of a thread is not an object")
        size, document = described.get("size"), described.get("user_data")
        return FoundThread(
            id=described["id"],
            metadata=metadata or {},
            created=_time(described, "created"),
            updated=_time(described, "updated"),
            size=size if isinstance(size, int) and size >= 0 else 0,
            deleted=described.get("deleted") is True,
            # Only for this package's service is it known what the text contains.
            document=(
                document.encode() if isinstance(size, int) and isinstance(document, str) else None
            ),
        )

    def _nonsense(self, reason: str) -> ServiceError:
        return ServiceError(
            f"The thread service at {self._endpoint.base} gave an unusable answer: {reason}."
        )


def _raise(error: StoreError) -> dict[str, Any]:
    raise error


def _path(thread_id: str) -> str:
    return f"{ROUTE}/{quote(thread_id, safe='')}"


def _parse(reply: HTTPReply) -> dict[str, Any]:
    try:
        answer = parse_message(reply.body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _time(described: Mapping[str, Any], name: str) -> float:
    """Return a time, from the number of this package's service or from text; 0 if there is none."""
    number = described.get(name)
    if isinstance(number, int | float) and math.isfinite(number):
        return float(number)
    try:
        moment = datetime.fromisoformat(str(described.get(f"{name}_at")))
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
