"""Read what a client sends. Pure functions; no frame makes them raise.

The frames are described in :mod:`~flask_agentuity.wire.requests`.
"""

from __future__ import annotations

from typing import Any

from ..document.edit_json import LARGEST_VERSION, edits_from_json
from ..document.messages import parse_message
from ..document.operation_json import operation_from_json
from ..durations import LONGEST
from ..errors import AgentuityError
from .frame_text import find_id, find_too_many, has_infinite_integer, make_well_formed
from .limits import (
    MAX_CONTAINERS,
    MAX_ID_LENGTH,
    MAX_OPERATIONS,
    MAX_THREAD_ID_LENGTH,
)
from .requests import (
    Authorization,
    Began,
    DeleteRequest,
    Frame,
    MergeRequest,
    Refusal,
    RestoreRequest,
    SaveRequest,
    ThreadRequest,
)

# A frame that is shorter, in characters or bytes, cannot have too many.
_SUSPICIOUS = MAX_CONTAINERS


def parse_authorization(frame: Frame) -> Authorization | Refusal:
    """Read the first frame of a connection. No frame makes it raise."""
    message = _parse_object(frame)
    if isinstance(message, Refusal):
        return message
    key = message.get("authorization")
    if not isinstance(key, str) or not key:
        return Refusal(None, 'The first frame must be {"authorization": "<key>"}.')
    return Authorization(key)


def parse_request(frame: Frame, max_operations: int = MAX_OPERATIONS) -> ThreadRequest | Refusal:
    """Read a frame that comes after the authorization. No frame makes it raise.

    Without the extension, operations of an unknown kind are left out, as the JavaScript
    runtime does.
    """
    message = _parse_object(frame)
    if isinstance(message, Refusal):
        return message
    if "id" not in message:
        return Refusal(None, "The request has no id.")
    id = message["id"]
    if not isinstance(id, str) or not 0 < len(id) <= MAX_ID_LENGTH:
        repeated = id if isinstance(id, str | int | float) else None
        words = f"The id must be a string of 1 to {MAX_ID_LENGTH} characters."
        return Refusal(repeated, words, has_id=True)
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
            id, f"The thread_id must be a string of 1 to {MAX_THREAD_ID_LENGTH} characters."
        )
    try:
        metadata = _metadata(data)
        if action == "merge":
            _require_operations(data, max_operations)
        return _parse_data(id, action, thread_id, data, metadata)
    except ValueError as error:
        return Refusal(id, str(error))


def _parse_data(
    id: str, action: str, thread_id: str, data: dict[str, Any], metadata: dict[str, Any] | None
) -> ThreadRequest:
    began = _began(data)
    match action:
        case "restore":
            return RestoreRequest(id, thread_id, began)
        case "delete":
            if began is None:
                return DeleteRequest(id, thread_id)
            _require_known(action, data, {"version"})
            return DeleteRequest(id, thread_id, _version(data))
        case "save":
            document = data.get("user_data")
            if not isinstance(document, str):
                raise ValueError("The user_data of a save must be a string.")
            text = make_well_formed(document.encode())
            if (many := find_too_many(text)) is not None:
                raise ValueError(f"The user_data of a save has {many}.")
            if has_infinite_integer(text):
                raise ValueError("A number in the user_data of a save is out of range.")
            return SaveRequest(id, thread_id, text, metadata, began)
        case _:
            if began is None:
                return _parse_merge(id, thread_id, data, metadata)
            return _parse_edits(id, thread_id, data, began)


def _require_known(action: str, data: dict[str, Any], known: set[str]) -> None:
    if unknown := data.keys() - known - {"thread_id", "age", "at"}:
        raise ValueError(f"A {action} with an age has no field {_short(min(unknown))}.")


def _version(data: dict[str, Any]) -> int:
    version = data.get("version", 0)
    if type(version) is not int or not 0 <= version <= LARGEST_VERSION:
        raise ValueError(f"The version must be an integer from 0 to {LARGEST_VERSION}.")
    return version


def _parse_merge(
    id: str, thread_id: str, data: dict[str, Any], metadata: dict[str, Any] | None
) -> MergeRequest:
    changes: list[Any] = data["operations"]
    try:
        known = [operation_from_json(change) for change in changes]
    except (ValueError, AgentuityError) as error:
        raise ValueError(f"An operation of the merge is wrong: {error}") from None
    return MergeRequest(id, thread_id, [each for each in known if each is not None], metadata)


def _parse_edits(id: str, thread_id: str, data: dict[str, Any], began: Began) -> MergeRequest:
    _require_known("merge", data, {"operations", "version", "counted"})
    version, counted = _version(data), data.get("counted", [])
    if type(counted) is not list or not all(type(key) is str for key in counted):
        raise ValueError("The counted must be a list of keys.")
    changes: list[Any] = data["operations"]
    try:
        operations = edits_from_json(changes)
    except (ValueError, AgentuityError) as error:
        raise ValueError(f"An operation of the merge is wrong: {error}") from None
    return MergeRequest(id, thread_id, operations, None, began, version, tuple(counted))


def _require_operations(data: dict[str, Any], most: int) -> None:
    changes = data.get("operations")
    if not isinstance(changes, list):
        raise ValueError("The operations of a merge must be a list.")
    if len(changes) > most:
        raise ValueError(f"The merge has {len(changes):,} operations; the limit is {most:,}.")


def _metadata(data: dict[str, Any]) -> dict[str, Any] | None:
    metadata = data.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError("The metadata must be an object.")
    return metadata


def _began(data: dict[str, Any]) -> Began | None:
    if "age" not in data:
        return None
    age, at = data["age"], data.get("at")
    if not _is_time(age) or age < 0:
        raise ValueError(f"The age must be a number from 0 to {LONGEST:,}.")
    if at is not None and not _is_time(at):
        raise ValueError(f"The at must be a number from -{LONGEST:,} to {LONGEST:,}.")
    return Began(age, at)


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and -LONGEST <= value <= LONGEST  # type: ignore[operator]


def _parse_object(frame: Frame) -> dict[str, Any] | Refusal:
    if len(frame) >= _SUSPICIOUS and (many := find_too_many(text := _to_bytes(frame))) is not None:
        found = find_id(text)
        return Refusal(found.id, f"The request has {many}.", found.has_id)
    try:
        message = parse_message(frame)
    except ValueError as error:
        return _parse_unusual(frame, error)
    if not isinstance(message, dict):
        return Refusal(None, "The frame is not a JSON object.")
    return message


def _parse_unusual(frame: Frame, error: ValueError) -> dict[str, Any] | Refusal:
    """Read an object that the parser has refused, or say which request was refused."""
    text = make_well_formed(_to_bytes(frame))
    try:
        message = parse_message(text)
    except ValueError:
        found = find_id(text)
        words = f"The frame is not JSON that can be read: {error}"
        if found.is_too_deep and found.has_id:
            words = "The request is too deeply nested."
        return Refusal(found.id, words, found.has_id)
    if not isinstance(message, dict):
        return Refusal(None, "The frame is not a JSON object.")
    return message


def _to_bytes(frame: Frame) -> bytes:
    return frame.encode(errors="replace") if isinstance(frame, str) else bytes(frame)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")
