"""The metadata as an app has it: a dictionary that refuses what cannot be stored."""

from __future__ import annotations

import copy
from typing import Any

from ..document import codec


class CheckedMetadata(dict[str, Any]):
    """Refuses a key or a value where it is set. Copies of it are plain dictionaries.

    Values inside of values are checked when the thread is saved, like those of the state.
    """

    # An attribute would not be saved: metadata.title = "..." is an error.
    __slots__ = ()

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(_check(key, value), value)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, which becomes *default* if it is missing."""
        return super().setdefault(_check(key, default), default)

    def update(self, *mapping: Any, **values: Any) -> None:
        """Set keys as :meth:`dict.update` does, all or none."""
        super().update(
            {_check(key, value): value for key, value in dict(*mapping, **values).items()}
        )

    def __ior__(self, other: Any) -> CheckedMetadata:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)

    def __copy__(self) -> dict[str, Any]:
        return self.copy()

    def copy(self) -> dict[str, Any]:
        """Return the metadata as a plain dictionary, as a deep copy, like that of the state."""
        return copy.deepcopy(dict(self))


def _check(key: str, value: Any) -> str:
    codec.encode({key: value}, "metadata")
    return codec.require_key(key)
