"""Operations as JSON, the form in which they travel to a thread service. Pure functions."""

from __future__ import annotations

import math
from typing import Any

import orjson

from . import codec
from .operations import Clear, Delete, Operation, Push, Set


def operation_to_json(operation: Operation) -> dict[str, Any]:
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


def operation_from_json(message: object) -> Operation | None:
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
