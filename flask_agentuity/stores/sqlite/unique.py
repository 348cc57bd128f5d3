"""The values of unique fields in a list, during one write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...document import codec

#: Searches of a list, which cost its length, before the values of a field are remembered.
_SEARCHES = 8


class UniqueValues:
    """Remembers which values the objects of a list have, so that many pushes stay cheap.

    It is for lists that only grow: after items were removed, each push searches the list.
    """

    __slots__ = ("_fields", "_searches")

    def __init__(self) -> None:
        self._searches = 0
        # None: items were removed.
        self._fields: dict[str, set[bytes]] | None = {}

    def has(
        self,
        field: str,
        value: bytes,
        search: Callable[[str, bytes], bool],
        encode: Callable[[], bytes],
    ) -> bool:
        """Return whether an object of the list has an encoded *value* in a *field*.

        :param search: searches the list for it.
        :param encode: returns the encoded list.
        """
        if self._fields is None or self._searches < _SEARCHES:
            self._searches += 1
            return search(field, value)
        if field not in self._fields:
            self._fields[field] = set()
            self._note(codec.decode(encode()), [field])
        return value in self._fields[field]

    def add(self, items: Sequence[bytes]) -> None:
        """Record *items*, which were appended to the list."""
        if self._fields:
            self._note(map(codec.decode, items), list(self._fields))

    def forget(self) -> None:
        """Record that items were removed, or replaced."""
        self._fields = None

    def _note(self, items: Iterable[Any], fields: Sequence[str]) -> None:
        assert self._fields is not None
        for item in items:
            if isinstance(item, dict):
                for field in fields:
                    if field in item:
                        self._fields[field].add(codec.encode_unchecked(item[field]))
