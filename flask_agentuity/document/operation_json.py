"""Operations as JSON, as they are sent to a thread service. Pure functions.

There are two sets. The JavaScript runtime sends four operations: ``set``, ``delete``,
``clear`` and ``push``. They are read by :func:`operation_from_json`, as leniently as the
runtime reads them. The extension ``edits`` has all operations; they are read by
:func:`edit_from_json`, which is strict. Values are plain JSON; ``?`` marks optional fields.

=====================  ==========================================================
``op``                 other fields
=====================  ==========================================================
``set``                ``key``, ``value``, ``ifMissing`` ?: true
``delete``             ``key``
``clear``
``push``               ``key``, ``value``, ``maxRecords`` ?, ``keepFirst`` ?,
                       ``unique`` ?: the name of a field of ``value``
``increment``          ``key``, ``by``: a number
``truncate``           ``key``, ``keep``
``pop_last``           ``key``
``splice``             ``key``, ``changes``, ``since`` ?. A change is an object with
                       ``place``, ``gone`` (a list that is not empty) and ``new``
                       (a list)
``replace``            ``key``, ``old`` ? (without it, the key is missing),
                       ``value``, ``since`` ?
``edit``               ``key``, ``base`` ? (without it, the key was missing),
                       ``since`` ?, ``uncertain`` ?: true, and either ``value`` or, for
                       lists, ``changes``, ``appended`` ?, ``places`` ? and
                       ``partial`` ?: true. A change is an object with ``place``,
                       ``gone`` (here the number of items) and ``new``
``set_metadata``       ``value``, an object, as in the following operations
``replace_metadata``   ``old``, ``value``
``edit_metadata``      ``base``, ``value``
=====================  ==========================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, assert_never

from . import codec
from .messages import fragment
from .operations import (
    Change,
    Clear,
    Delete,
    Edit,
    EditMetadata,
    Increment,
    Operation,
    PopLast,
    Push,
    Replace,
    ReplaceMetadata,
    Set,
    SetMetadata,
    Splice,
    Truncate,
)

_JSON = dict[str, Any]


def operation_to_json(operation: Operation) -> _JSON:
    """Return *operation* as an object that orjson can encode.

    :raises ValueError: for an edit with a function, which cannot be sent.
    """
    match operation:
        case Set(key, value, only_if_missing):
            message = {"op": "set", "key": key, "value": fragment(value)}
            return {**message, "ifMissing": True} if only_if_missing else message
        case Delete(key):
            return {"op": "delete", "key": key}
        case Clear():
            return {"op": "clear"}
        case Push():
            return _push_to_json(operation)
        case Increment(key, by):
            return {"op": "increment", "key": key, "by": by}
        case Truncate(key, keep):
            return {"op": "truncate", "key": key, "keep": keep}
        case PopLast(key):
            return {"op": "pop_last", "key": key}
        case Splice(key, changes, since):
            wired = [_change_to_json(change, _list(change.gone)) for change in changes]
            return {"op": "splice", "key": key, "changes": wired, **_since(since)}
        case Replace(key, old, new, since):
            before = {} if old is None else {"old": fragment(old)}
            message = {"op": "replace", "key": key, **before, "value": fragment(new)}
            return {**message, **_since(since)}
        case Edit():
            return _edit_to_json(operation)
        case SetMetadata(value):
            return {"op": "set_metadata", "value": fragment(value)}
        case ReplaceMetadata(old, new):
            before = {"old": fragment(old)}
            return {"op": "replace_metadata", **before, "value": fragment(new)}
        case EditMetadata(base, value):
            before = {"base": fragment(base)}
            return {"op": "edit_metadata", **before, "value": fragment(value)}
        case _:
            assert_never(operation)


def _push_to_json(push: Push) -> _JSON:
    message: _JSON = {"op": "push", "key": push.key, "value": fragment(push.value)}
    if push.max_records is not None:
        message["maxRecords"] = push.max_records
    if push.keep_first:
        message["keepFirst"] = push.keep_first
    if push.unique is not None:
        message["unique"] = push.unique
    return message


def _edit_to_json(edit: Edit) -> _JSON:
    if edit.function is not None:
        raise ValueError("An edit with a function cannot be sent.")
    message: _JSON = {"op": "edit", "key": edit.key, **_since(edit.since)}
    if edit.base is not None:
        message["base"] = fragment(edit.base)
    if edit.uncertain:
        message["uncertain"] = True
    if edit.changes is None or edit.base is None:
        return {**message, "value": fragment(edit.value)}
    # The rest of the list need not be sent twice.
    message["changes"] = [_change_to_json(change, len(change.gone)) for change in edit.changes]
    if edit.appended:
        message["appended"] = _list(edit.appended)
    if edit.places is not None:
        message["places"] = edit.places
    if edit.partial:
        message["partial"] = True
    return message


def _change_to_json(change: Change, gone: object) -> _JSON:
    return {"place": change.place, "gone": gone, "new": _list(change.new)}


def _list(items: Sequence[bytes]) -> Any:
    return fragment(codec.join_list(items))


def _since(since: int) -> _JSON:
    return {"since": since} if since else {}


def operation_from_json(message: object) -> Operation | None:
    """Read one operation of the JavaScript runtime; None for one of an unknown kind.

    A ``set`` or ``push`` without a value means null, and ``maxRecords`` is converted as
    JavaScript does. The runtime checks nothing else and skips operations that it does not
    know.

    :raises ValueError: if it is not an object, or its key is not a string.
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
