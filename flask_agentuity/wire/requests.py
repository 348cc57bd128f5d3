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
  for whose pushes the reply shall say how many items came before; left out if empty).

These frames are checked strictly: a field, an operation or a value that is not known is
refused. The replies are described in :mod:`~flask_agentuity.wire.replies`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..document import codec
from ..document.edit_json import LARGEST_INTEGER, edits_from_json
from ..document.operation_json import operation_from_json, operation_to_json
from ..document.operations import Clear, Operation, Push, Set
from ..document.operations import Delete as DeleteOperation
from ..errors import AgentuityError, InvalidThreadId, StateNotSerializable, StateTooLarge
from .limits import (
    MAX_DOCUMENT_BYTES,
    MAX_ID_LENGTH,
    MAX_OPERATIONS,
    MAX_REQUEST_BYTES,
    MAX_THREAD_ID_LENGTH,
)

#: A text frame's content: UTF-8, or already decoded.
Frame = bytes | bytearray | memoryview | str

#: What identifies a request. Clients send text; a number can be answered as well.
RequestId = str | int | float


@dataclass(frozen=True, slots=True)
class Authorization:
    """The first frame of a connection."""

    key: str

    def __repr__(self) -> str:
        return "Authorization(key=<hidden>)"


@dataclass(frozen=True, slots=True)
class Restore:
    """Asks for a thread's document. ``age`` is None without the extension."""

    id: str
    thread_id: str
    age: float | None = None


@dataclass(frozen=True, slots=True)
class Save:
    """Replaces a thread's document (``b""``: nothing is left), and its metadata unless None."""

    id: str
    thread_id: str
    document: bytes
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Merge:
    """Applies operations in order, and replaces the metadata unless it is None.

    ``age`` is None without the extension; then ``version`` and ``counted`` are not used.
    With it, changes to the metadata are among the operations.
    """

    id: str
    thread_id: str
    operations: list[Operation]
    metadata: dict[str, Any] | None = None
    age: float | None = None
    version: int = 0
    counted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes a thread."""

    id: str
    thread_id: str


Request = Restore | Save | Merge | Delete


@dataclass(frozen=True, slots=True)
class Refusal:
    """A frame that is no good request, and why.

    ``id`` is that of the request to answer; None if the frame has none, and then no answer
    is expected.
    """

    id: RequestId | None
    error: str


def encode_authorization(key: str) -> bytes:
    """Return the first frame of a connection.

    :raises ValueError: when *key* cannot be written as UTF-8.
    """
    try:
        return orjson.dumps({"authorization": key})
    except TypeError:
        raise ValueError("The key is not text that UTF-8 can hold.") from None


def encode_restore(id: str, thread_id: str, age: float | None = None) -> bytes:
    """Return the frame that asks for a document; with *age*, that of the extension.

    :raises InvalidThreadId: if *thread_id* cannot be sent.
    """
    return _encode_request(id, "restore", thread_id, {} if age is None else {"age": age})


def encode_save(
    id: str, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
) -> bytes:
    """Return the frame that replaces a document; it travels as a string of JSON text.

    :raises StateTooLarge: when *document* is over 1,048,576 bytes.
    :raises StateNotSerializable: when *document* is not UTF-8, or the metadata not JSON.
    :raises InvalidThreadId: when *thread_id* cannot be sent.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise StateTooLarge(len(document), MAX_DOCUMENT_BYTES, thread_id)
    try:
        text = document.decode()
    except UnicodeDecodeError as error:
        raise StateNotSerializable("the document", f"it is not UTF-8: {error}") from None
    return _encode_request(id, "save", thread_id, {"user_data": text}, metadata)


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
    age: float,
    version: int = 0,
    counted: Collection[str] = (),
) -> bytes:
    """Return the frame that applies operations, in the form of the extension ``edits``.

    :raises ValueError: for an edit with a function.
    :raises StateTooLarge: if the frame would be larger than every service must take.
    :raises StateNotSerializable: if a key is not JSON.
    :raises InvalidThreadId: if *thread_id* cannot be sent.
    """
    data: dict[str, Any] = {"operations": _operations_to_json(changes), "age": age}
    if version:
        data["version"] = version
    if counted:
        data["counted"] = list(counted)
    return _encode_request(id, "merge", thread_id, data)


def encode_delete(id: str, thread_id: str) -> bytes:
    """Return the frame that removes a thread.

    :raises InvalidThreadId: if *thread_id* cannot be sent.
    """
    return _encode_request(id, "delete", thread_id, {})


def _basic(change: Operation) -> Operation:
    match change:
        case Set(key, value):
            return Set(key, value)
        case DeleteOperation() | Clear() | Push(keep_first=0, unique=None):
            return change
        case _:
            name = type(change).__name__
            raise ValueError(f"A service without the extension edits cannot apply a {name}.")


def _operations_to_json(changes: Sequence[Operation]) -> list[dict[str, Any]]:
    for change in changes:
        if (key := getattr(change, "key", None)) is not None:
            codec.require_key(key)
    return [operation_to_json(change) for change in changes]


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
        data["metadata"] = orjson.Fragment(codec.encode(dict(metadata), "metadata"))
    try:
        frame = orjson.dumps({"id": id, "action": action, "data": {"thread_id": thread_id, **data}})
    except TypeError:
        # All the rest was proved to be JSON above.
        raise InvalidThreadId(f"{thread_id!r} holds a lone surrogate") from None
    if len(frame) > MAX_REQUEST_BYTES:
        raise StateTooLarge(len(frame), MAX_REQUEST_BYTES, thread_id)
    return frame


def parse_authorization(frame: Frame) -> Authorization | Refusal:
    """Read the first frame of a connection. No frame makes it raise."""
    message = _parse_object(frame)
    if isinstance(message, Refusal):
        return message
    key = message.get("authorization")
    if not isinstance(key, str) or not key:
        return Refusal(None, 'The first frame must be {"authorization": "<key>"}.')
    return Authorization(key)


def parse_request(frame: Frame) -> Request | Refusal:
    """Read a frame that comes after the authorization. No frame makes it raise.

    Without the extension, operations of an unknown kind are left out, as the JavaScript
    runtime does.
    """
    message = _parse_object(frame)
    if isinstance(message, Refusal):
        return message
    id = message.get("id")
    if not isinstance(id, str | int | float):
        return Refusal(None, "The request has no id.")
    if not isinstance(id, str) or not 0 < len(id) <= MAX_ID_LENGTH:
        return Refusal(id, f"The id must be a text of 1 to {MAX_ID_LENGTH} characters.")
    action = message.get("action")
    if not isinstance(action, str):
        return Refusal(id, "The request has no action.")
    if action not in ("restore", "save", "merge", "delete"):
        return Refusal(id, f"Unknown action: {_short(action)}")
    data = message.get("data")
    if not isinstance(data, dict):
        return Refusal(id, f"The data of a {action} must be an object.")
    thread_id = data.get("thread_id")
    if not isinstance(thread_id, str) or not 0 < len(thread_id) <= MAX_THREAD_ID_LENGTH:
        return Refusal(
            id, f"The thread_id must be a text of 1 to {MAX_THREAD_ID_LENGTH} characters."
        )
    try:
        return _parse_data(id, action, thread_id, data, _metadata(data))
    except ValueError as error:
        return Refusal(id, str(error))


def _parse_data(
    id: str, action: str, thread_id: str, data: dict[str, Any], metadata: dict[str, Any] | None
) -> Request:
    match action:
        case "restore":
            return Restore(id, thread_id, _age(data))
        case "delete":
            return Delete(id, thread_id)
        case "save":
            document = data.get("user_data")
            if not isinstance(document, str):
                raise ValueError("The user_data of a save must be a string.")
            return Save(id, thread_id, document.encode(), metadata)
        case _:
            age = _age(data)
            if age is None:
                return _parse_merge(id, thread_id, data, metadata)
            return _parse_edits(id, thread_id, data, age)


def _parse_merge(
    id: str, thread_id: str, data: dict[str, Any], metadata: dict[str, Any] | None
) -> Merge:
    changes = _operations(data)
    try:
        known = [operation_from_json(change) for change in changes]
    except (ValueError, AgentuityError) as error:
        raise ValueError(f"An operation of the merge is wrong: {error}") from None
    return Merge(id, thread_id, [each for each in known if each is not None], metadata)


def _parse_edits(id: str, thread_id: str, data: dict[str, Any], age: float) -> Merge:
    known = {"thread_id", "operations", "age", "version", "counted"}
    if unknown := data.keys() - known:
        raise ValueError(f"A merge with an age has no field {_short(min(unknown))}.")
    version, counted = data.get("version", 0), data.get("counted", [])
    if type(version) is not int or not 0 <= version <= LARGEST_INTEGER:
        raise ValueError(f"The version must be an integer from 0 to {LARGEST_INTEGER}.")
    if type(counted) is not list or not all(type(key) is str for key in counted):
        raise ValueError("The counted must be a list of keys.")
    changes = _operations(data)
    try:
        operations = edits_from_json(changes)
    except (ValueError, AgentuityError) as error:
        raise ValueError(f"An operation of the merge is wrong: {error}") from None
    return Merge(id, thread_id, operations, None, age, version, tuple(counted))


def _operations(data: dict[str, Any]) -> list[Any]:
    changes = data.get("operations")
    if not isinstance(changes, list):
        raise ValueError("The operations of a merge must be a list.")
    if len(changes) > MAX_OPERATIONS:
        raise ValueError(
            f"A merge has at most {MAX_OPERATIONS:,} operations, not {len(changes):,}."
        )
    return changes


def _metadata(data: dict[str, Any]) -> dict[str, Any] | None:
    metadata = data.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError("The metadata must be an object.")
    return metadata


def _age(data: dict[str, Any]) -> float | None:
    if "age" not in data:
        return None
    age = data["age"]
    if type(age) not in (int, float) or not 0 <= age < math.inf:
        raise ValueError("The age must be a number of 0 or more.")
    return float(age)


def _parse_object(frame: Frame) -> dict[str, Any] | Refusal:
    try:
        message = orjson.loads(frame)
    except ValueError as error:
        return Refusal(None, f"The frame is not JSON: {error}")
    if not isinstance(message, dict):
        return Refusal(None, "The frame is not a JSON object.")
    return message


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")
