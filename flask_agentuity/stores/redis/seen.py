"""What a read or a write has seen of a thread, to make the next write faster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from .keys import decode_owner
from .steps import Run

#: Redis finds an item quickly if it is not further from an end of its list.
_NEAR = 64


@dataclass(slots=True)
class Seen:
    """A thread at one version: its head, its entries and the strings that were read.

    Entries and strings have encoded keys; either may be incomplete.
    """

    head: bytes
    entries: Mapping[bytes, bytes]
    strings: Mapping[bytes, bytes | None] = field(default_factory=dict, repr=False)

    @property
    def entries_size(self) -> int:
        """The size of all entries in the document."""
        return int(self.head.partition(b" ")[0])

    @property
    def owner(self) -> str | None:
        """The owner of the thread; None also if a write has seen it, which knew the owner."""
        return decode_owner(self.entries.get(b"owner"))

    def place_of(self, key: bytes, index: int) -> int | None:
        """Return the offset of a list's item in the string of the list, in bytes.

        None if it is not known, or if Redis finds the item quickly.
        """
        text = self.strings.get(key)
        _, _, rest = self.entries.get(key, b"").partition(b"|")
        if text is None or not rest:
            return None
        size, items, dead, tail = map(int, rest.split(b" "))
        if not _NEAR < index < items - _NEAR or len(text) != dead + size - 2 + tail:
            return None
        # From the nearer end.
        if index * 2 < items:
            place = dead - 1
            for _ in range(index):
                place = text.find(b"\n", place + 1)
        else:
            place = dead + size - 2
            for _ in range(items - index):
                place = text.rfind(b"\n", 0, place)
        return place + 1


@dataclass(slots=True)
class PreparedPush:
    """The result of a push if the thread has not changed since it was seen.

    ``arguments`` are for the script (see ``lua/push.lua``). ``preceding`` is the number of items
    before the push.
    """

    arguments: tuple[bytes, bytes, *tuple[bytes | int, ...]]
    preceding: int

    def seen_after(self, key: bytes, version: bytes) -> Seen:
        """Return what is known after the push, which gave the thread *version*."""
        head, entry = self.arguments[:2]
        return Seen(b"%b %b %b" % (head, version, _seconds(version)), {key: entry})


def prepare_push(seen: Seen, run: Run, milliseconds: int, max_bytes: int) -> PreparedPush | None:
    """Compute the result of the push of *run*; None if too little is known.

    :param milliseconds: after which an unused thread expires; 0: never.
    """
    size, following, born, created, safe, version, updated = seen.head.split(b" ")
    entry = seen.entries.get(run.encoded_key, b"")
    number, _, rest = entry.partition(b"|")
    # The two times differ if the thread was imported, or if a clock was behind.
    if not rest or not number.endswith(b" ") or updated != _seconds(version):
        return None
    value_size, items, dead, tail = map(int, rest.split(b" "))
    seconds = _seconds_for(float(safe), milliseconds)
    if not items or seconds is None:
        return None
    added = len(run.arguments[2]) + 1
    stop, new_size = dead + value_size - 2, int(size) + added
    return PreparedPush(
        (
            b"%d %b %b %b %b" % (new_size, following, born, created, safe),
            b"%b|%d %d %d %d"
            % (number, value_size + added, items + run.count, dead, max(1, tail - added)),
            stop,
            stop + tail,
            *seconds,
            version,
            # The most that the metadata, its index terms and the punctuation may take.
            max_bytes - 23 - new_size,
            milliseconds,
            int(run.nulls),
        ),
        items,
    )


def _seconds(version: bytes) -> bytes:
    return b"%b.%b" % (version[:-6], version[-6:])


def _seconds_for(safe: float, milliseconds: int) -> tuple[int, int] | None:
    """Return the first and the last second in which only the thread's own key must be renewed."""
    if not milliseconds or not safe:
        return None if milliseconds or safe else (0, 2**53)
    first = math.ceil(safe - (milliseconds * 1.2 + 1003) / 1000)
    last = math.floor(safe - (milliseconds + 1001) / 1000)
    return (first, last) if first <= last else None
