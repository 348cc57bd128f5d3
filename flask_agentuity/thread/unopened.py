"""The stored keys of a state with many keys, before the request does something with them.

An entry for each key would take many times as much memory as the document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..document import codec
from ..document.packed import PackedState, pack_mapping
from .entry import Entry, Stored
from .queued import NOTHING

# Longer values, in bytes, are decoded once: they get an entry.
_SHORT = 1_000

# What the app has seen of a key without an entry.
_ASKED, _READ = 1, 2


class Unopened:
    """The keys of a state as they are stored, of which some have got an entry.

    :param version: the version of the thread.
    """

    def __init__(self, encoded: Mapping[str, bytes | None], version: int) -> None:
        self.state: PackedState = pack_mapping(encoded)
        self._version = version
        # What the app has seen, by the places of the keys.
        self._seen = bytearray(len(encoded))

    def open(self, key: str) -> Entry | None:
        """Return a new entry of a stored key, as if it had been there before; None without one."""
        if (place := self.state.place_of(key)) is None:
            return None
        value = self.state.value_at(place)
        entry = Entry(key, Stored.UNFETCHED if value is None else value, self._version)
        match self._seen[place]:
            case 0:
                pass
            case seen if seen == _ASKED
        return entry
