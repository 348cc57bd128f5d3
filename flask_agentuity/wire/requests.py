"""What a client sends: the authorization and the requests, written and read. Pure functions.

A request is ``{"id": ..., "action": ..., "data": {"thread_id": ..., ...}}``. The JavaScript
runtime sends the actions ``restore``, ``save``, ``merge`` and ``delete`` with these fields:

* ``save``: ``user_data``, the document as a string, and ``metadata`` if it is to be replaced;
* ``merge``: ``operations`` (see :mod:`~flask_agentuity.document.operation_json`), and
  ``metadata`` if it is to be replaced.

The extension ``edits`` may only be used on a connection whose service announced it. It has
two frames, which are recognised by the field ``age``, the seconds since the client's own
request began:

* ``restore`` with ``age``. The client merges by itself, so the service need not remember
  its answer.
* ``merge`` with ``age``, ``operations`` of the extension, ``version`` (that of the restore
  that the client's request began with; left out if there was none), and ``counted`` (the keys
  for which the reply must say how many items were before the pushed ones; left out if empty).

These frames are checked strictly: a field, an operation or a value that is not known is
refused. The replies are described in :mod:`~flask_agentuity.wire.replies`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..document import codec
from ..document.messages import encode_message, fragment
from ..document.operation_json import operation_to_json
from ..document.operations import Clear, Delete, Operation, Push, Set
from ..errors import InvalidThreadId, StateNotSerializable, StateTooLarge
from .limits import (
    MAX_DOCUMENT_BYTES,
    MAX_REQUEST_BYTES,
    MAX_THREAD_ID_LENGTH,
)

#: A text frame's content: UTF-8, or already decoded.
Frame = bytes | bytearray | memoryview | str

#: The id of a request. Clients send a string; a number can be repeated in a reply as well.
RequestId = str | int | float


@dataclass(frozen=True, slots=True)
class Authorization:
    """The first frame of a connection."""

    key: str

    def __repr__(self) -> str:
        return "Authorization(key=<hidden>)"


@dataclass(frozen=True, slots=True)
class Began:
    """When the client's own request began: ``age`` seconds before the frame was made.

    ``at`` is when it was made, by the client's clock; None if the client does not say.
    Requests have it with the extension only.
    """

    age: float
    at: float | None = None


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """Asks for a thread's document."""

    id: str
    thread_id: str
    began: Began | None = None


@dataclass(frozen=True, slots=True)
class SaveRequest:
    """Replaces a thread's document (``b""``: nothing is left), and its metadata unless None."""

    id: str
    thread_id: str
    document: bytes
    metadata: dict[str, Any] | None = None
    began: Began | None = None


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """Applies operations in order, and replaces the metadata unless it is None.

    With the extension, changes to the metadata are among the operations. ``version`` and
    ``counted`` belong to the extension.
    """

    id: str
    thread_id: str
    operations: list[Operation]
    metadata: dict[str, Any] | None = None
    began: Began | None = None
    version: int = 0
    counted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """Removes a thread.

    With the extension, ``version`` is what the client has read: a thread that began later stays.
    """

    id: str
    thread_id: str
    version: int = 0


ThreadRequest = RestoreRequest | SaveRequest | MergeRequest | DeleteRequest


@dataclass(frozen=True, slots=True)
class Refusal:
    """A frame that is not a valid request, and why.

    ``id`` is that of the request to answer. It is None if the frame has none, and then no
    reply is expected, or if it has one that cannot be repeated, such as a list; then
    ``has_id`` is true, and the id of the reply is null.
    """

    id: RequestId | None
    error: str
    has_id: bool = False

    @property
    def expects_reply(self) -> bool:
        """Whether the client waits for a reply."""
        return self.has_id or self.id is not None


def encode_authorization(key: str) -> bytes:
    """Return the first frame of a connection.

    :raises ValueError: if *key* cannot be written as UTF-8.
    """
    try:
        return encode_message({"authorization": key})
    except TypeError:
        raise ValueError("The key is not valid Unicode text.") from None


def encode_restore(id: str, thread_id: str, began: Began | None = None) -> bytes:
    """Return the frame that asks for a document; with *began*, that of the extension.

    :raises InvalidThreadId: if *thread_id* cannot be sent.
    """
    return _encode_request(id, "restore", thread_id, _began_to_json(began))


def encode_save(
    id: str,
    thread_id: str,
    document: bytes,
    metadata: Mapping[str, Any] | None = None,
    began: Began | None = None,
) -> bytes:
    """Return the frame that replaces a document, which is sent as a string of JSON text.

    With *began* it is that of the extension.

    :raises StateTooLarge: if *document* is over 1,048,576 bytes.
    :raises StateNotSerializable: if *document* is not UTF-8, or the metadata not JSON.
    :raises InvalidThreadId: if *thread_id* cannot be sent.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise StateTooLarge(len(document), MAX_DOCUMENT_BYTES, thread_id)
    try:
        text = document.decode()
    except UnicodeDecodeError as error:
        raise StateNotSerializable("the document", f"it is not UTF-8: {error}") from None
    data = {"user_data": text, **_began_to_json(began)}
    return _encode_request(id, "save", thread_id, data, metadata)


def encode_merge(
    id: str,
    thread_id: str,
    changes: Sequence[Operation],
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the frame that applies operations, as the JavaScript runtime sends it.

    A ``Set`` that is a default is sent as a plain one.

    :raises ValueError: for an operation that the runtime does not have.
    :raises StateTooLarge: if the frame would be larger than every service must take.
    :raises StateNotSerializable: if the metadata, or a key, is not JSON.
    :raises InvalidThreadId: if *thread_id* cannot be sent.
    """
    wired = _operations_to_json([_basic(change) for change in changes])
    return _encode_request(id, "merge", thread_id, {"operations": wired}, metadata)


def encode_edits(
    id: str,
    thread_id: str,
    changes: Sequence[Operation],
    *,
    began: Began,
    version: int = 0,
    counted: Collection[str] = (),
) -> bytes:
    """Return the frame that applies operations, in the form of the extension ``edits``.

    :raises ValueError: for an edit with a function.
    :raises StateTooLarge: if the frame would be larger than every service must take.
    :raises StateNotSerializable: if a key is not JSON.
    :raises InvalidThreadId: if *thread_id* cannot be sent.
    """
    data = {"operations": _operations_to_json(changes), **_began_to_json(began)}
    if version:
        data["version"] = version
    if counted:
        data["counted"] = [codec.require_key(key) for key in counted]
    return _encode_request(id, "merge", thread_id, data)


def encode_delete(id: str, thread_id: str, began: Began | None = None, version: int = 0) -> bytes:
    """Return the frame that removes a thread.

    :param began: for the extension, when the client's request began.
    :param version: for the extension, what that request has read; 0 if it has read nothing.
    :raises InvalidThreadId: if *thread_id* cannot be sent.
    """
    data = _began_to_json(began)
    if version:
        data["version"] = version
    return _encode_request(id, "delete", thread_id, data)


def _began_to_json(began: Began | None) -> dict[str, Any]:
    if began is None:
        return {}
    return {"age": began.age} if began.at is None else {"age": began.age, "at": began.at}


def _basic(change: Operation) -> Operation:
    match change:
        case Set(key, value):
            return Set(key, value)
        case Delete() | Clear() | Push(keep_first=0, unique=None):
            return change
        case _:
            name = type(change).__name__
            raise ValueError(f"A service without the extension edits cannot apply a {name}.")


def _operations_to_json(changes: Sequence[Operation]) -> list[dict[str, Any]]:
    messages = [operation_to_json(change) for change in changes]
    for message in messages:
        if (key := message.get("key")) is not None:
            message["key"] = codec.require_key(key)
    return messages


def _encode_request(
    id: str,
    action: str,
    thread_id: str,
    data: dict[str, Any],
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    if not isinstance(thread_id, str) or not 0 < len(thread_id) <= MAX_THREAD_ID_LENGTH:
        raise InvalidThreadId(f"{str(thread_id)[:MAX_THREAD_ID_LENGTH]!r} is not a thread id")
    if metadata is not None:
        data["metadata"] = fragment(codec.encode_stored(dict(metadata), "metadata"))
    try:
        frame = encode_message(
            {"id": id, "action": action, "data": {"thread_id": thread_id, **data}}
        )
    except TypeError:
        # Everything else was checked to be JSON above.
        raise InvalidThreadId(f"{thread_id!r} has an unpaired surrogate") from None
    if len(frame) > MAX_REQUEST_BYTES:
        raise StateTooLarge(len(frame), MAX_REQUEST_BYTES, thread_id)
    return frame
