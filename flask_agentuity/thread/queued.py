"""Operations queued for the save, and items pushed without reading their list."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

from ..document import codec
from ..document.operations import Increment, PopLast, Push, Truncate
from ..errors import StateTypeError


class _Nothing(enum.Enum):
    NOTHING = "nothing"


NOTHING: Final = _Nothing.NOTHING

#: How many of the items that were pushed without reading are watched for later changes.
MOST_WATCHED = 1000


@dataclass(slots=True)
class QueuedPush:
    """An item that was pushed. It is encoded at the save, because it may change until then."""

    item: Any
    max_records: int | None = None
    keep_first: int = 0
    unique: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it only appends."""
        return self.max_records is None and self.unique is None

    def encode(self, key: str) -> Push:
        """Return the operation.

        :raises StateNotSerializable: if the item has become something that is not JSON.
        """
        encoded = codec.encode_item(self.item, codec.child_path("state", key))
        return Push(key, encoded, self.max_records, self.keep_first, self.unique)

    def apply(self, items: list[Any]) -> None:
        """Append the item to a list in memory, as the store will do."""
        if self.is_in(items):
            return
        items.append(self.item)
        if self.max_records is not None and len(items) > self.max_records:
            first = min(self.keep_first, self.max_records)
            last = self.max_records - first
            items[first : len(items) - last] = []

    def is_in(self, items: list[Any]) -> bool:
        """Return whether the item is unique and a list in memory has it already."""
        if self.unique is None:
            return False
        name, wanted = self.unique, codec.encode(self.item[self.unique])
        return any(
            isinstance(item, dict) and name in item and codec.encode_unchecked(item[name]) == wanted
            for item in items
        )


Queued = QueuedPush | Increment | Truncate | PopLast


@dataclass(slots=True)
class Watched:
    """Items that were pushed and saved without reading: the app may still change them."""

    items: list[Any] = field(default_factory=list)
    encoded: list[bytes] = field(default_factory=list)
    places: list[int | None] = field(default_factory=list)
    #: The version of the thread with the latest of them.
    since: int = 0

    def add(self, pushed: QueuedPush, encoded: bytes, place: int | None) -> None:
        """Add an item that was pushed. Its window may have removed earlier ones."""
        self.items.append(pushed.item)
        self.encoded.append(encoded)
        self.places.append(place)
        if pushed.max_records is not None:
            self._keep_last(pushed.max_records)

    def keep_containers(self) -> None:
        """Forget items that cannot change, and all but the latest of the others."""
        kept = [at for at, item in enumerate(self.items) if isinstance(item, dict | list)]
        kept = kept[-MOST_WATCHED:]
        self.items = [self.items[at] for at in kept]
        self.encoded = [self.encoded[at] for at in kept]
        self.places = [self.places[at] for at in kept]

    def _keep_last(self, count: int) -> None:
        surplus = max(0, len(self.items) - count)
        del self.items[:surplus], self.encoded[:surplus], self.places[:surplus]


def apply_queued(operation: Queued, value: Any) -> Any:
    """Return *value* (NOTHING: missing) after an operation that the store will apply too."""
    match operation:
        case QueuedPush():
            value = [] if value is NOTHING else value
            if isinstance(value, list):
                operation.apply(value)
        case Increment(_, by):
            value = 0 if value is NOTHING else value
            if isinstance(value, int | float) and not isinstance(value, bool):
                value += by
        case Truncate(_, keep):
            if isinstance(value, list):
                del value[keep:]
        case PopLast():
            if isinstance(value, list) and value:
                del value[-1]
        case _:
            assert_never(operation)
    return value


def require_type(operation: Queued, value: Any, key: str) -> None:
    """Refuse an operation on the *value* of *key* if the value has another type.

    :raises StateTypeError: which names the key.
    """
    match operation:
        case QueuedPush():
            what, fits = "push to", isinstance(value, list | tuple)
        case Truncate():
            what, fits = "truncate", isinstance(value, list | tuple)
        case PopLast():
            what, fits = "pop the last item of", isinstance(value, list | tuple)
        case Increment():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            what, fits = "increment", number
        case _:
            assert_never(operation)
    if not fits:
        kind = "number" if isinstance(operation, Increment) else "list"
        path = codec.child_path("state", key)
        raise StateTypeError(f"Cannot {what} {path}: the value there is not a {kind}.")
