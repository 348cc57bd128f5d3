"""The stored keys of a state with many keys, until the request changes them.

An entry for each key would take many times as much memory as the document.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any

from ..document import codec
from ..document.codec import Snapshot
from ..document.packed import PackedState, pack_mapping
from .entry import Entry, Stored
from .queued import NOTHING

# A scalar up to this length, in bytes, is decoded again if it is read again.
_SHORT = 1_000


class _Seen(enum.Enum):
    """What the app has seen of a key."""

    NOTHING = "nothing"
    KEY = "that it is there"
    #: A scalar cannot change, so it need not be kept.
    SCALAR = "its value, which is decoded again if need be"
    OPENED = "what its entry says"


class Unopened:
    """The stored keys of a state, and what the app has read of them.

    A key is opened, which gives it an entry, when more is done with it than reading. Callers use
    the entry from then on.

    :param version: the version of the thread.
    """

    def __init__(self, encoded: Mapping[str, bytes | None], version: int) -> None:
        #: What is stored.
        self.state: PackedState = pack_mapping(encoded)
        self.version = version
        #: Whether the app has seen any key.
        self.is_seen = False
        # By the places of the keys: what the app has seen, or the value that it was given.
        self._seen: list[Any] = [_Seen.NOTHING] * len(encoded)

    def ask(self, key: str) -> bool:
        """Return whether a key is stored, for the app."""
        if (place := self.state.place_of(key)) is None:
            return False
        self.is_seen = True
        if self._seen[place] is _Seen.NOTHING:
            self._seen[place] = _Seen.KEY
        return True

    def read(self, key: str) -> Any:
        """Return the value of a key, for the app; NOTHING if that needs an entry."""
        if (place := self.state.place_of(key)) is None:
            return NOTHING
        if not isinstance(known := self._seen[place], _Seen):
            return known
        encoded = self.state.value_at(place)
        if encoded is None:
            return NOTHING
        try:
            value = codec.decode(encoded)
        except ValueError:
            return NOTHING
        self.is_seen = True
        is_kept = isinstance(value, dict | list) or len(encoded) > _SHORT
        self._seen[place] = value if is_kept else _Seen.SCALAR
        return value

    def open(self, key: str) -> Entry | None:
        """Return an entry of a key as if it had always been there; None if it is not stored."""
        place = self.state.place_of(key)
        return None if place is None else self._open(key, place)

    def replace(self, snapshot: Snapshot) -> bool:
        """Take the values of a later read; False if the thread may have changed since the first."""
        if snapshot.version != self.version or not self.version:
            return False
        self.state = pack_mapping(snapshot.encoded)
        return True

    def open_changed(self) -> Iterator[Entry]:
        """Open the keys whose values may have changed since they were read."""
        for place, seen in enumerate(self._seen):
            if isinstance(seen, dict | list) and not _is(seen, self.state.value_at(place)):
                yield self._open(self.state.key_at(place), place)

    def open_read(self) -> Iterator[Entry]:
        """Open the keys whose values were read."""
        for place, seen in enumerate(self._seen):
            if seen is _Seen.SCALAR or not isinstance(seen, _Seen):
                yield self._open(self.state.key_at(place), place)

    def _open(self, key: str, place: int) -> Entry:
        encoded, seen = self.state.value_at(place), self._seen[place]
        self._seen[place] = _Seen.OPENED
        entry = Entry(key, Stored.UNFETCHED if encoded is None else encoded, self.version)
        if seen is _Seen.NOTHING:
            return entry
        entry.looked_at = True
        if seen is _Seen.KEY:
            return entry
        assert encoded is not None
        stored = codec.decode(encoded)
        entry.take(stored, "")
        if seen is not _Seen.SCALAR:
            # The app may have changed it since then.
            entry.value = seen
        return entry


def _is(value: Any, encoded: bytes | None) -> bool:
    """Return whether *value* is what was decoded from *encoded*."""
    try:
        return encoded is not None and (
            codec.encode_plain(value) == encoded and bool(codec.decode(encoded) == value)
        )
    except RecursionError:
        return False
