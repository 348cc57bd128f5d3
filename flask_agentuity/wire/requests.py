"""What a client sends: the authorization and the requests, written and read. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..document import codec, operations
from ..document.operation_json import operation_from_json, operation_to_json
from ..document.operations import Operation
from ..errors import AgentuityError, InvalidThreadId, StateNotSerializable, StateTooLarge
from .limits import MAX_DOCUMENT_BYTES, MAX_ID_LENGTH, MAX_REQUEST_BYTES, MAX_THREAD_ID_LENGTH

#: A text frame's content: UTF-8, or already decoded.
Frame = bytes | bytearray | memoryview | str

#: What a request was named by; numbers are nobody's habit, but can be answered.
RequestId = str | int | float


@dataclass(frozen=True, slots=True)
class Authorization:
    """The first frame of a connection."""

    key: str

    def __repr__(self) -> str:
        return "Authorization(key=<hidden>)"


@dataclass(frozen=True, slots=True)
class Restore:
    """Asks for a thread's document."""

    id: str
    thread_id: str


@dataclass(frozen=True, slots=True)
class Save:
    """Replaces a thread's document (``b""``: nothing is left), and its metadata unless None."""

    id: str
    thread_id: str
    document: bytes
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Merge:
    """Applies operations in order, and replaces the metadata unless it is None."""

    id: str
    thread_id: str
    operations: list[Operation]
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes a thread."""

    id: str
    thread_id: str


Request = Restore | Save | Merge | Delete


@dataclass(frozen=True, slots=True)
class Refusal:
    """A frame that is no good request, and why.

    ``id`` is what to answer; None when the frame does not say, so that nobody waits for
    an answer.
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


def encode_restore(id: str, thread_id: str) -> bytes:
    """Return the frame that asks for a document.

    :raises InvalidThreadId: when *thread_id* cannot be sent.
    """
    return _encode_request(id, "restore", thread_id, {})


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
    """Return the frame that applies operations, whose values are sent as they are encoded.

    :raises StateTooLarge: when the frame would be larger than every service must take.
    :raises StateNotSerializable: when the metadata, or a key, is not JSON.
    :raises InvalidThreadId: when *thread_id* cannot be sent.
    """
    for change in changes:
        if not isinstance(change, operations.Clear):
            codec.require_key(change.key)
    wired = [operation_to_json(change) for change in changes]
    return _encode_request(id, "merge", thread_id, {"operations": wired}, metadata)


def encode_delete(id: str, thread_id: str) -> bytes:
    """Return the frame that removes a thread.

    :raises InvalidThreadId: when *thread_id* cannot be sent.
    """
    return _encode_request(id, "delete", thread_id, {})


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

    Operations of an unknown kind are left out, as the JavaScript runtime does.
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
    metadata = data.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        return Refusal(id, "The metadata must be an object.")
    match action:
        case "restore":
            return Restore(id, thread_id)
        case "delete":
            return Delete(id, thread_id)
        case "save":
            document = data.get("user_data")
            if not isinstance(document, str):
                return Refusal(id, "The user_data of a save must be a string.")
            return Save(id, thread_id, document.encode(), metadata)
        case _:
            changes = data.get("operations")
            if not isinstance(changes, list):
                return Refusal(id, "The operations of a merge must be a list.")
            try:
                known = [operation_from_json(change) for change in changes]
            except (ValueError, AgentuityError) as error:
                return Refusal(id, f"An operation of the merge is wrong: {error}")
            return Merge(id, thread_id, [each for each in known if each is not None], metadata)


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
