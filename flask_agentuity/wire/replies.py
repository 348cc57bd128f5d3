"""What a service sends: its answer to the authorization and its replies. Pure functions.

The answer to the authorization is ``{"success": true}`` and the extensions that the service
has, each with its version: ``{"success": true, "edits": 1}``. A reply is
``{"id": ..., "success": true, ...}`` or ``{"id": ..., "success": false, "error": "..."}``.

With the extension ``edits`` replies have more fields. Clients that do not know them ignore
them.

* ``restore``: ``version``, if the store has one, is that of the document in ``data``.
* ``merge`` that was applied: ``version``, the new one; ``preceding``, for each counted key
  the number of items in the list before the first one that was pushed; ``merged``, for each
  key whose edit the store merged itself, an object with ``value`` (left out if the key is
  gone), ``places`` (for each item of the client's list its index in the merged list, or
  null), ``dropped`` and ``overridden`` (lists of paths). What is empty is left out.
* ``merge`` with a conflict fails and has ``conflict``, an object with ``keys``,
  ``assigned`` (those of the keys that were assigned without reading) and ``metadata`` (true
  or left out). Nothing was applied.
* A ``save`` or ``merge`` of a thread that was deleted in the meantime fails and has
  ``"gone": true``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..document.merge import Merged
from ..document.messages import encode_message, fragment, parse_any_message
from ..errors import ServiceError
from .limits import MAX_DOCUMENT_BYTES, MAX_ERROR_LENGTH
from .requests import Frame, RequestId

#: The extensions that services of this package announce, with their versions.
FEATURES: Mapping[str, int] = {"edits": 1}


@dataclass(frozen=True, slots=True)
class Granted:
    """The service accepted the key.

    ``features`` are the protocol extensions that the service announced, with their versions.
    """

    features: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Denied:
    """The service refused the key, and says why."""

    error: str


@dataclass(frozen=True, slots=True)
class Success:
    """A request succeeded. ``data`` is the data of the reply, see :func:`document_of`.

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
    """A frame that is not a reply. It is counted and ignored."""

    reason: str


Reply = Granted | Denied | Success | Failure | Malformed


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of a merge, from its reply; see :class:`~.stores.writing.Written`."""

    version: int = 0
    preceding: Mapping[str, int] = field(default_factory=dict)
    merged: Mapping[str, Merged] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conflicting:
    """The conflict of a merge, from its reply; see :class:`~.stores.writing.Conflict`."""

    keys: tuple[str, ...] = ()
    assigned: tuple[str, ...] = ()
    metadata: bool = False


def encode_granted(features: Mapping[str, int] | None = None) -> bytes:
    """Return the service's answer to an accepted key; *features* are its extensions."""
    return encode_message({"success": True, **(features or {})})


def encode_denied(error: str) -> bytes:
    """Return the service's answer to a refused key; then it closes the socket."""
    return encode_message({"success": False, "error": _clean(error)})


def encode_success(id: str) -> bytes:
    """Return the reply to a save, merge or delete that was done."""
    return encode_message({"id": id, "success": True})


def encode_applied(id: str, applied: Applied) -> bytes:
    """Return the reply to a merge of the extension that was applied."""
    reply: dict[str, Any] = {"id": id, "success": True, "version": applied.version}
    if applied.preceding:
        reply["preceding"] = dict(applied.preceding)
    if applied.merged:
        reply["merged"] = {key: _merged_to_json(each) for key, each in applied.merged.items()}
    return encode_message(reply)


def encode_document(id: str, document: bytes | None, version: int = 0) -> bytes:
    """Return the reply to a restore; ``data`` is always a string, empty for no document.

    *version* is left out if it is 0.

    :raises ServiceError: if *document* is not UTF-8.
    """
    try:
        text = document.decode() if document else ""
    except UnicodeDecodeError as error:
        raise ServiceError(f"The stored document is not UTF-8: {error}") from None
    more = {"version": version} if version else {}
    return encode_message({"id": id, "success": True, "data": text, **more})


def encode_failure(id: RequestId | None, error: str) -> bytes:
    """Return the reply to a request that was not done; *error* says what is wrong.

    *id* is None for a request whose id cannot be repeated.
    """
    return encode_message(_failure(id, error))


def encode_conflict(id: str, error: str, conflict: Conflicting) -> bytes:
    """Return the reply to a merge that was not applied because of a conflict."""
    found: dict[str, Any] = {"keys": conflict.keys, "assigned": conflict.assigned}
    if conflict.metadata:
        found["metadata"] = True
    return encode_message({**_failure(id, error), "conflict": found})


def encode_gone(id: str, error: str) -> bytes:
    """Return the reply to a write of a thread that was deleted in the meantime."""
    return encode_message({**_failure(id, error), "gone": True})


def parse_reply(frame: Frame) -> Reply:
    """Read a frame of the service. No frame makes it raise."""
    try:
        message = parse_any_message(frame)
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


def document_of(data: object, limit: int = MAX_DOCUMENT_BYTES) -> bytes | None:
    """Return the document that came with the reply to a restore; None for an unknown thread.

    :param limit: the largest document to accept, in bytes.
    :raises ServiceError: if it is not text, which never means an empty thread, or is too large.
    """
    if data is None or data == "":
        return None
    if not isinstance(data, str):
        raise ServiceError(
            f"The service answered a restore with {type(data).__name__} instead of text."
        )
    document = data.encode()
    if len(document) > limit:
        raise ServiceError(
            f"The service answered a restore with a document of {len(document):,} bytes; the"
            f" limit is {limit:,}."
        )
    return document


def version_of(fields: Mapping[str, Any]) -> int:
    """Return the version in the *fields* of a reply; 0 if there is none."""
    version = fields.get("version")
    return version if type(version) is int and version > 0 else 0


def applied_of(fields: Mapping[str, Any]) -> Applied:
    """Return the result of a merge from the *fields* of a successful reply.

    Parts that cannot be understood are left out: the merge was applied, and an error would
    say that it was not.
    """
    preceding, merged = fields.get("preceding"), fields.get("merged")
    counts = preceding.items() if isinstance(preceding, dict) else ()
    results = merged.items() if isinstance(merged, dict) else ()
    return Applied(
        version_of(fields),
        {key: count for key, count in counts if type(count) is int and count >= 0},
        {key: _merged_of(each) for key, each in results if isinstance(each, dict)},
    )


def conflict_of(fields: Mapping[str, Any]) -> Conflicting | None:
    """Return the conflict in the *fields* of a failure; None if it failed for another reason."""
    conflict = fields.get("conflict")
    if not isinstance(conflict, dict):
        return None
    return Conflicting(
        _texts(conflict.get("keys")),
        _texts(conflict.get("assigned")),
        conflict.get("metadata") is True,
    )


def is_gone(fields: Mapping[str, Any]) -> bool:
    """Return whether the *fields* of a failure say that the thread was deleted."""
    return fields.get("gone") is True


def _failure(id: RequestId | None, error: str) -> dict[str, Any]:
    return {"id": id, "success": False, "error": _clean(error)}


def _merged_to_json(merged: Merged) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if merged.value is not None:
        fields["value"] = fragment(merged.value)
    if merged.places is not None:
        fields["places"] = merged.places
    if merged.dropped:
        fields["dropped"] = merged.dropped
    if merged.overridden:
        fields["overridden"] = merged.overridden
    return fields


def _merged_of(fields: dict[str, Any]) -> Merged:
    places = fields.get("places")
    try:
        value = encode_message(fields["value"]) if "value" in fields else None
    except TypeError:
        # It is more deeply nested than anything that was sent.
        value = None
    return Merged(
        value,
        tuple(place if type(place) is int else None for place in places)
        if isinstance(places, list)
        else None,
        _texts(fields.get("dropped")),
        _texts(fields.get("overridden")),
    )


def _texts(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else ()
    return tuple(item for item in items if isinstance(item, str))


def _features(message: dict[str, Any]) -> dict[str, int]:
    # A boolean is an int in Python, but it is not a version.
    return {name: value for name, value in message.items() if type(value) is int}


def _error_text(error: object) -> str:
    if isinstance(error, str) and error.strip():
        return error[:MAX_ERROR_LENGTH]
    return "the service gave no reason"


def _clean(error: str) -> str:
    return error[:MAX_ERROR_LENGTH].encode(errors="backslashreplace").decode()
