"""The type of JSON values."""

from __future__ import annotations

from typing import TypeAlias

#: What a state can hold.
JSONValue: TypeAlias = (
    bool
    | int
    | float
    | str
    | list["JSONValue"]
    | tuple["JSONValue", ...]
    | dict[str, "JSONValue"]
    | None
)
