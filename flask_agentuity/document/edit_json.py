"""Reading the operations of the extension ``edits`` from JSON. Pure functions.

The form is described in :mod:`~flask_agentuity.document.operation_json`. Everything is
checked here, so that a store can rely on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from . import codec
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

#: The largest place or number of items, and the largest version.
LARGEST_INTEGER = 2**53 - 1
LARGEST_VERSION = 2**63 - 1

_REQUIRED: Any = object()


def edit_from_json(message: object) -> Operation:
    """Read one operation of the extension.

    :raises ValueError: if anything in it is missing, unknown or wrong.
    :raises StateNotSerializable: if a value is too deeply nested.
    """
    if not isinstance(message, dict):
        raise ValueError(f"an operation must be an object, not {type(message).__name__}")
    kind = message.get("op")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise ValueError(f"there is no operation {_shown(kind)}")
    fields = _Fields(message)
    operation = read(fields)
    fields.require_all_read()
    return operation


def edits_from_json(messages: Sequence[object]) -> list[Operation]:
    """Read the operations of one write, whose order matters.

    :raises ValueError: if one is wrong, or a splice, replace or edit follows another
        change of the same value.
    :raises StateNotSerializable: if a value is too deeply nested.
    """
    operations = [edit_from_json(message) for message in messages]
    _require_order(operations)
    return operations


def _require_order(operations: Sequence[Operation]) -> None:
    touched: set[str] = set()
    all_touched = metadata_touched = False
    for operation in operations:
        match operation:
            case Splice(key=key) | Replace(key=key) | Edit(key=key):
                if all_touched or key in touched:
                    path = codec.child_path("state", key)
                    raise ValueError(f"{path} is changed before it is spliced, replaced or edited")
                touched.add(key)
            case Clear():
                all_touched = True
            case SetMetadata() | ReplaceMetadata() | EditMetadata():
                if metadata_touched:
                    raise ValueError("the metadata is changed twice")
                metadata_touched = True
            case _:
                touched.add(operation.key)


class _Fields:
    """The fields of one operation; each is read once."""

    def __init__(self, message: dict[str, Any]) -> None:
        self._message = message
        self._read = {"op"}
        self._kind: str = message["op"]

    def require_all_read(self) -> None:
        """Refuse fields that were not read."""
        unknown = next((name for name in self._message if name not in self._read), None)
        if unknown is not None:
            raise ValueError(f"a {self._kind} has no field {_shown(unknown)}")

    def has(self, name: str) -> bool:
        return name in self._message

    def get(self, name: str, default: Any = _REQUIRED) -> Any:
        self._read.add(name)
        value = self._message.get(name, default)
        if value is _REQUIRED:
            raise ValueError(f"a {self._kind} must have the field {name}")
        return value

    def key(self) -> str:
        return self._of_type("key", str, "a string", _REQUIRED)  # type: ignore[no-any-return]

    def text(self, name: str) -> str | None:
        return self._of_type(name, str, "a string", None)  # type: ignore[no-any-return]

    def flag(self, name: str) -> bool:
        return self._of_type(name, bool, "true or false", False)  # type: ignore[no-any-return]

    def list(self, name: str, default: Any = _REQUIRED) -> list[Any]:
        return self._of_type(name, list, "a list", default)  # type: ignore[no-any-return]

    def integer(self, name: str, default: Any = _REQUIRED, largest: int = LARGEST_INTEGER) -> int:
        value = self.get(name, default)
        return value if value is default else _integer(value, f"{name} of a {self._kind}", largest)

    def since(self) -> int:
        return self.integer("since", 0, LARGEST_VERSION)

    def value(self, name: str, key: str) -> bytes:
        return codec.encode_unchecked(self.get(name), codec.child_path("state", key))

    def metadata(self, name: str) -> bytes:
        value = self._of_type(name, dict, "an object", _REQUIRED)
        return codec.encode_unchecked(value, "metadata")

    def _of_type(self, name: str, wanted: type, words: str, default: Any) -> Any:
        value = self.get(name, default)
        if value is not default and type(value) is not wanted:
            raise ValueError(
                f"the {name} of a {self._kind} must be {words}, not {type(value).__name__}"
            )
        return value


def _integer(value: object, what: str, largest: int = LARGEST_INTEGER) -> int:
    # A boolean is an int in Python.
    if type(value) is not int or not 0 <= value <= largest:
        raise ValueError(f"the {what} must be an integer from 0 to {largest}")
    return value


def _read_set(fields: _Fields) -> Set:
    key = fields.key()
    return Set(key, fields.value("value", key), fields.flag("ifMissing"))


def _read_push(fields: _Fields) -> Push:
    key, item, unique = fields.key(), fields.get("value"), fields.text("unique")
    if unique is not None and (type(item) is not dict or unique not in item):
        raise ValueError(f"the value of a push must be an object with the field {_shown(unique)}")
    return Push(
        key,
        codec.encode_item(item, codec.child_path("state", key)),
        fields.integer("maxRecords", None),
        fields.integer("keepFirst", 0),
        unique,
    )


def _read_increment(fields: _Fields) -> Increment:
    key, by = fields.key(), fields.get("by")
    possible = codec.is_integer(by) if type(by) is int else type(by) is float and math.isfinite(by)
    if not possible:
        raise ValueError("the by of an increment must be an integer within 64 bits, or a float")
    return Increment(key, by)


def _read_splice(fields: _Fields) -> Splice:
    key, end, changes = fields.key(), 0, []
    path = codec.child_path("state", key)
    for message in fields.list("changes"):
        place, gone, new = _change(message, end, "splice")
        if type(gone) is not list or not gone:
            raise ValueError("the gone of a change must be a list that is not empty")
        changes.append(Change(place, _items(gone, path), _items(new, path)))
        end = place + len(gone)
    return Splice(key, tuple(changes), fields.since())


def _read_replace(fields: _Fields) -> Replace:
    key = fields.key()
    old = fields.value("old", key) if fields.has("old") else None
    return Replace(key, old, fields.value("value", key), fields.since())


def _read_edit(fields: _Fields) -> Edit:
    key, since, uncertain = fields.key(), fields.since(), fields.flag("uncertain")
    if fields.has("changes"):
        return _read_list_edit(fields, key, since, uncertain)
    base = fields.value("base", key) if fields.has("base") else None
    return Edit(key, base, fields.value("value", key), since=since, uncertain=uncertain)


def _read_list_edit(fields: _Fields, key: str, since: int, uncertain: bool) -> Edit:
    path = codec.child_path("state", key)
    base = _items(fields.list("base"), path)
    appended = _items(fields.list("appended", []), path)
    changes: list[Change] = []
    value: list[bytes] = []
    end = 0
    for message in fields.list("changes"):
        place, count, new = _change(message, end, "edit")
        count = _integer(count, "gone of a change")
        if not 0 < count <= len(base) - place:
            raise ValueError("the gone of a change must name items of the base")
        changes.append(Change(place, base[place : place + count], _items(new, path)))
        value += [*base[end:place], *changes[-1].new]
        end = place + count
    value += [*base[end:], *appended]
    return Edit(
        key,
        codec.join_list(base),
        codec.join_list(value),
        tuple(changes),
        appended,
        since,
        _places(fields, len(base)),
        uncertain,
        fields.flag("partial"),
    )


def _places(fields: _Fields, length: int) -> tuple[int | None, ...] | None:
    if not fields.has("places"):
        return None
    places = fields.list("places")
    if len(places) != length:
        raise ValueError("the places of an edit must be as many as the items of its base")
    return tuple(None if place is None else _integer(place, "places") for place in places)


def _change(message: object, end: int, kind: str) -> tuple[int, Any, list[Any]]:
    """Read a change that may not begin before *end*, where the one before it ended."""
    if type(message) is not dict or message.keys() != {"place", "gone", "new"}:
        raise ValueError(f"a change of a {kind} must be an object with place, gone and new")
    place, new = _integer(message["place"], "place of a change"), message["new"]
    if place < end:
        raise ValueError(f"the changes of a {kind} must ascend and not overlap")
    if type(new) is not list:
        raise ValueError("the new of a change must be a list")
    return place, message["gone"], new


def _items(items: Sequence[Any], path: str) -> tuple[bytes, ...]:
    return tuple(codec.encode_item(item, path) for item in items)


def _read_replace_metadata(fields: _Fields) -> ReplaceMetadata:
    return ReplaceMetadata(fields.metadata("old"), fields.metadata("value"))


def _read_edit_metadata(fields: _Fields) -> EditMetadata:
    return EditMetadata(fields.metadata("base"), fields.metadata("value"))


_READERS: dict[str, Callable[[_Fields], Operation]] = {
    "set": _read_set,
    "delete": lambda fields: Delete(fields.key()),
    "clear": lambda fields: Clear(),
    "push": _read_push,
    "increment": _read_increment,
    "truncate": lambda fields: Truncate(fields.key(), fields.integer("keep")),
    "pop_last": lambda fields: PopLast(fields.key()),
    "splice": _read_splice,
    "replace": _read_replace,
    "edit": _read_edit,
    "set_metadata": lambda fields: SetMetadata(fields.metadata("value")),
    "replace_metadata": _read_replace_metadata,
    "edit_metadata": _read_edit_metadata,
}


def _shown(name: object) -> str:
    # The representation of a nested value can be long, and recurses.
    text = repr(name) if isinstance(name, str) else f"of type {type(name).__name__}"
    return text if len(text) <= 60 else text[:60] + "..."
