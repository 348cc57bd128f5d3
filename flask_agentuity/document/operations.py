"""The four changes a state knows: apply them, and find them by comparing. Pure functions.

Values are encoded (see :mod:`~flask_agentuity.document.codec`), so operations can be compared,
sent and applied without decoding what they carry.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from . import codec


@dataclass(frozen=True, slots=True)
class Set:
    """Replace or add one key.

    ``only_if_missing`` leaves a key alone that is there when the operation is applied: it
    is how a default that a request merely filled in cannot remove what another request
    wrote meanwhile. The wire has no word for it; there it is a plain set.
    """

    key: str
    value: bytes
    only_if_missing: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one key; a missing one is left missing."""

    key: str


@dataclass(frozen=True, slots=True)
class Clear:
    """Remove every key of the state. The metadata stays."""


@dataclass(frozen=True, slots=True)
class Push:
    """Append one item to the list at a key, which is made if it is missing.

    With ``max_records`` the list then keeps its last that many items; 0 empties it. A
    value that is there and is not a list is left alone.
    """

    key: str
    value: bytes
    max_records: int | None = None


Operation = Set | Delete | Clear | Push


def apply(state: dict[str, bytes], operations: Iterable[Operation]) -> list[Push]:
    """Apply *operations* in order to an encoded *state*, in place.

    Returns the pushes that were skipped because the value there is not a list; whoever
    asked for them is told by a warning, not by an error.
    """
    skipped: list[Push] = []
    # Lists that grow in this call, as runs of items, so that many pushes join them once.
    open_lists: dict[str, list[bytes]] = {}

    def close_list(key: str) -> None:
        if (runs := open_lists.pop(key, None)) is not None:
            state[key] = codec.join_list(runs)

    for operation in operations:
        match operation:
            case Push(key, value, max_records):
                if key not in open_lists:
                    stored = state.get(key, codec.EMPTY_LIST)
                    if not codec.is_list(stored):
                        skipped.append(operation)
                        continue
                    state[key] = stored
                    open_lists[key] = [] if stored == codec.EMPTY_LIST else [stored[1:-1]]
                open_lists[key].append(value)
                if max_records is not None:
                    close_list(key)
                    items = codec.items_of(state[key])
                    state[key] = codec.join_list(items[-max_records:] if max_records > 0 else [])
            case Set(key, value, only_if_missing):
                if not (only_if_missing and key in state):
                    open_lists.pop(key, None)
                    state[key] = value
            case Delete(key):
                open_lists.pop(key, None)
                state.pop(key, None)
            case Clear():
                open_lists.clear()
                state.clear()
    for key in list(open_lists):
        close_list(key)
    return skipped


def find(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[Operation]:
    """Return the smallest list of operations that turns *before* into *after*.

    Keys that are gone become deletes, never a clear, which would also remove what another
    request has added meanwhile.
    """
    found: list[Operation] = [Delete(key) for key in before if key not in after]
    for key, value in after.items():
        found.extend(find_change(key, before.get(key), value))
    return found


def find_change(key: str, before: bytes | None, after: bytes) -> list[Set | Push]:
    """Return the operations that turn one key's value *before* (None: missing) into *after*."""
    if before == after:
        return []
    if before is not None and codec.is_list(before):
        items = codec.appended(before, after)
        if items:
            return [Push(key, item) for item in items]
    return [Set(key, after)]


def to_wire(operation: Operation) -> dict[str, Any]:
    """Return *operation* as the wire has it, for orjson to encode."""
    match operation:
        case Set(key, value):
            return {"op": "set", "key": key, "value": orjson.Fragment(value)}
        case Delete(key):
            return {"op": "delete", "key": key}
        case Clear():
            return {"op": "clear"}
        case Push(key, value, None):
            return {"op": "push", "key": key, "value": orjson.Fragment(value)}
        case Push(key, value, max_records):
            return {
                "op": "push",
                "key": key,
                "value": orjson.Fragment(value),
                "maxRecords": max_records,
            }


def from_wire(message: object) -> Operation | None:
    """Read one operation as it came over the wire; None for one of an unknown kind.

    A ``set`` or ``push`` without a value means null, and ``maxRecords`` is taken as
    JavaScript would take it, whatever it is: the runtime skips operations it does not
    know and has no other check.

    :raises ValueError: when it is not an object, or its key is not a string.
    """
    if not isinstance(message, dict):
        raise ValueError(f"an operation must be an object, not {type(message).__name__}")
    kind = message.get("op")
    if kind == "clear":
        return Clear()
    if kind not in ("set", "delete", "push"):
        return None
    key = message.get("key")
    if not isinstance(key, str):
        raise ValueError(f"the key of a {kind} must be a string, not {type(key).__name__}")
    if kind == "delete":
        return Delete(key)
    value = message.get("value")
    if kind == "set":
        return Set(key, codec.encode(value, codec.child_path("state", key)))
    records = _window(message["maxRecords"]) if "maxRecords" in message else None
    return Push(key, codec.encode_item(value, codec.child_path("state", key)), records)


def _window(value: Any) -> int | None:
    """Read a maxRecords that may be anything, as a comparison in JavaScript would."""
    if value is None:
        return 0
    if isinstance(value, str):
        try:
            value = float(value.strip() or 0)
        except ValueError:
            return None
    if not isinstance(value, int | float) or math.isnan(value) or value == math.inf:
        return None
    return max(0, math.ceil(value)) if value != -math.inf else 0
