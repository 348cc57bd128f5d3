"""The state of a thread: a mapping that is read when needed, and finds its changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from ..document import codec
from ..document.operations import Increment, PopLast, Truncate
from ..errors import StateNotSerializable, invalid_argument
from .contents import Contents, count, encode_all, encode_for, is_dirty, names
from .queued import QueuedPush
from .source import Source


class ThreadState(MutableMapping[str, Any]):
    """The data of a thread, a mapping from string keys to JSON values.

    A key is read when it is first needed. ``state[k] = v``, :meth:`push`, :meth:`increment`,
    ``update`` and ``clear`` do not need to read. Changes are found when the thread is saved,
    including those inside values::

        state["profile"]["name"] = "Ada"
        state["messages"].append({"role": "user", "content": "hello"})

    A change to a value that was read is merged with concurrent changes of other requests. A value
    that is assigned without reading replaces what is stored. Values that cannot be JSON raise
    :exc:`~flask_agentuity.errors.StateNotSerializable`.

    A value that was read stays the same for the rest of the request; :meth:`Thread.refresh` reads
    again.
    """

    def __init__(self, contents: Contents, source: Source) -> None:
        """Use ``thread.state``, which creates the state."""
        self._contents = contents
        self._lock = source.lock

    @property
    def loaded(self) -> bool:
        """Whether the contents are known, because the state was read or cleared."""
        return self._contents.is_loaded

    @property
    def dirty(self) -> bool:
        """Whether there are changes to save. Reads nothing."""
        with self._lock:
            return is_dirty(self._contents)

    def __getitem__(self, key: str) -> Any:
        with self._lock:
            return self._contents.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        key = codec.require_key(key)
        try:
            encoded = codec.encode(value, codec.child_path("state", key))
        except StateNotSerializable:
            with self._lock:
                encoded = encode_for(self._contents, key, value)
        with self._lock:
            self._contents.assign(key, value, encoded)

    def __delitem__(self, key: str) -> None:
        with self._lock:
            self._contents.delete(codec.require_key(key) if isinstance(key, str) else key)

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return isinstance(key, str) and self._contents.has(key)

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(names(self._contents))

    def __len__(self) -> int:
        with self._lock:
            return count(self._contents)

    def __ior__(self, other: Any) -> ThreadState:
        self.update(other)
        return self

    def __repr__(self) -> str:
        contents = self._contents
        condition = (
            "degraded" if contents.is_degraded else "read" if contents.is_loaded else "not read"
        )
        return f"<ThreadState of {contents.thread_id}, {condition}>"

    def __copy__(self) -> dict[str, Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return self.copy()

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (self.copy(),)

    def copy(self) -> dict[str, Any]:
        """Return the state as a plain dictionary, as a deep copy."""
        with self._lock:
            return {key: codec.decode(encoded) for key, encoded in encode_all(self._contents)}

    def clear(self) -> None:
        """Remove all keys, without reading them."""
        with self._lock:
            self._contents.clear()

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, which becomes *default* if it is missing.

        The default does not replace a value that another request writes concurrently. If both
        requests append to a default list, the list has the items of both.
        """
        key = codec.require_key(key)
        with self._lock:
            try:
                return self._contents.get(key)
            except KeyError:
                encoded = codec.encode(default, codec.child_path("state", key))
                return self._contents.default(key, default, encoded)

    def push(
        self,
        key: str,
        value: Any,
        max_records: int | None = None,
        *,
        keep_first: int = 0,
        unique: str | None = None,
    ) -> None:
        """Append *value* to the list at *key* without reading it. A missing list is created.

        ::

            state.push("messages", message, max_records=50, keep_first=1)
            state.push("events", {"id": "e1", "kind": "paid"}, unique="id")

        The last 1,000 items that were pushed without reading the list may still be changed: the
        next save finds the changes.

        :param max_records: the maximum length of the list. If it is exceeded, the oldest items are
            removed.
        :param keep_first: how many items at the beginning are not removed, for example a system
            prompt.
        :param unique: the name of a field. Nothing is appended if an item of the list has the same
            value in that field.
        :raises StateTypeError: if it is already known that the value is not a list.
        :raises ValueError: if *max_records* is not a positive integer, *keep_first* is not
            an integer from 0 to *max_records*, or *value* has no field *unique*.
        """
        key = codec.require_key(key)
        _require_window(max_records, keep_first)
        if unique is not None and not (isinstance(value, dict) and unique in value):
            raise ValueError(f"unique={unique!r} needs a dictionary with that key as the item.")
        codec.encode_item(value, codec.child_path("state", key))
        with self._lock:
            self._contents.apply(key, QueuedPush(value, max_records, keep_first, unique))

    def increment(self, key: str, by: int | float = 1) -> None:
        """Add *by* to the number at *key* without reading it. A missing key counts as 0.

        Concurrent increments are all counted.

        :param by: a negative number subtracts.
        :raises StateTypeError: if it is already known that the value is not a number.
        :raises InvalidArgument: a ValueError; if *by* is not a finite number.
        """
        key = codec.require_key(key)
        if isinstance(by, bool) or not isinstance(by, int | float) or not math.isfinite(by):
            raise invalid_argument("by", by, "a finite number")
        codec.encode(by, codec.child_path("state", key))
        with self._lock:
            self._contents.apply(key, Increment(key, by))

    def truncate(self, key: str, keep: int) -> None:
        """Keep the first *keep* items of the list at *key*, without reading it.

        :param keep: 0 removes all items.
        :raises StateTypeError: if it is already known that the value is not a list.
        :raises InvalidArgument: a ValueError; if *keep* is not an integer from 0 on.
        """
        key = codec.require_key(key)
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
            raise invalid_argument("keep", keep, "an integer from 0 on")
        with self._lock:
            self._contents.apply(key, Truncate(key, keep))

    def pop_last(self, key: str) -> None:
        """Remove the last item of the list at *key*, without reading it.

        If the list was read, that is the last item that was read, otherwise the last one when the
        thread is saved. If the list is empty or missing, nothing happens.

        :raises StateTypeError: if it is already known that the value is not a list.
        """
        key = codec.require_key(key)
        with self._lock:
            self._contents.apply(key, PopLast(key))

    def change(self, key: str, function: Callable[[Any], Any]) -> Any:
        """Replace the value of *key* with the result of *function*, and return the result.

        If another request has changed the value when the thread is saved, *function* is called
        again, with that value. So it should have no side effects::

            state.change("budget", lambda budget: max(0, (budget or 100) - cost))

        :param function: called with a copy of the value, or None for a missing key.
        :raises StateNotSerializable: if the result cannot be JSON.
        """
        key = codec.require_key(key)
        with self._lock:
            before = self.get(key)
            contents = self._contents
            copied = None if before is None else codec.decode(encode_for(contents, key, before))
            result = function(copied)
            contents.change(key, function, result, encode_for(contents, key, result))
            return result


def _require_window(max_records: object, keep_first: object) -> None:
    if max_records is not None and (
        not isinstance(max_records, int) or isinstance(max_records, bool) or max_records < 1
    ):
        raise ValueError(f"max_records must be a positive integer, not {max_records!r}")
    if (
        not isinstance(keep_first, int)
        or isinstance(keep_first, bool)
        or not 0 <= keep_first <= (max_records or 0)
    ):
        raise ValueError(f"keep_first must be an integer from 0 to max_records, not {keep_first!r}")
