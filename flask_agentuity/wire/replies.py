"""What a service sends: its answer to the authorization and its replies. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..errors import ServiceError
from .limits import MAX_ERROR_LENGTH
from .requests import Frame, RequestId


@dataclass(frozen=True, slots=True)
class Granted:
    """The service accepted the key.

    ``features`` are the protocol extensions that the service announced, with their versions.
    """

    features: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Denied:
    """The service did not take the key, and says why."""

    error: str


@dataclass(frozen=True, slots=True)
class Success:
    """A request succeeded. ``data`` is what came with it: see :func:`document_of`.

    ``fields`` is the whole decoded reply.
    """

    id: str
    data: Any = None
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """A request failed, or its reply says neither success nor failure.

    ``fields`` is the whole decoded reply.
    """

    id: str
    error: str
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame that says nothing to anybody; it is counted and passed over."""

    reason: str


Reply = Granted | Denied | Success | Failure | Malformed


def encode_granted() -> bytes:
    """Return the service's answer to a good key."""
    return b'{"success":true}'


def encode_denied(error: str) -> bytes:
    """Return the service's answer to a bad key; it closes the socket afterwards."""
    return orjson.dumps({"success": False, "error": _clean(error)})


def encode_success(id: str) -> bytes:
    """Return the reply to a save, merge or delete that was done."""
    return orjson.dumps({"id": id, "success": True})


def encode_document(id: str, document: bytes | None) -> bytes:
    """Return the reply to a restore; ``data`` is a string always, empty for no document.

    :raises ServiceError: when *document* is not UTF-8.
    """
    try:
        text = document.decode() if document else ""
    except UnicodeDecodeError as error:
        raise ServiceError(f"The stored document is not UTF-8: {error}") from None
    return orjson.dumps({"id": id, "success": True, "data": text})


def encode_failure(id: RequestId, error: str) -> bytes:
    """Return the reply to a request that was not done; *error* says what is wrong."""
    return orjson.dumps({"id": id, "success": False, "error": _clean(error)})


def parse_reply(frame: Frame) -> Reply:
    """Read a frame of the service. No frame makes it raise."""
    try:
        message = orjson.loads(frame)
    except ValueError as error:
        return Malformed(f"not JSON: {error}")
    if not isinstance(message, dict):
        return Malformed(f"not an object but {type(message).__name__}")
    id = message.get("id")
    success = message.get("success")
    if id is None:
        if success is True:
            return Granted(_features(message))
        if success is False:
            return Denied(_error_text(message.get("error")))
        return Malformed("neither id nor success")
    if not isinstance(id, str):
        return Malformed(f"the id is not text but {type(id).__name__}")
    if success is True:
        return Success(id, message.get("data"), message)
    if success is False:
        return Failure(id, _error_text(message.get("error")), message)
    return Failure(id, "the reply says neither success nor failure", message)


def document_of(data: object) -> bytes | None:
    """Return the document that came with the reply to a restore; None for an unknown thread.

    :raises ServiceError: when it is not text: that is never an empty thread.
    """
    if data is None or data == "":
        return None
    if not isinstance(data, str):
        raise ServiceError(
            f"The service answered a restore with {type(data).__name__} instead of text."
        )
    return data.encode()


def _features(message: dict[str, Any]) -> dict[str, int]:
    # A boolean is an int in Python, but it is not a version.
    return {name: value for name, value in message.items() if type(value) is int}


def _error_text(error: object) -> str:
    if isinstance(error, str) and error.strip():
        return error[:MAX_ERROR_LENGTH]
    return "the service gave no reason"


def _clean(error: str) -> str:
    return error[:MAX_ERROR_LENGTH].encode(errors="backslashreplace").decode()
