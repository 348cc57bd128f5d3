"""What a request has seen of a thread, from which its next write can start.

If the thread still has the version that was seen, everything here is as it is stored, and
the write needs to read nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...document import codec

#: ``new_tuple(Head, values)`` takes a fraction of the time of ``Head(*values)``.
new_tuple = tuple.__new__


class Head(NamedTuple):
    """The row of a thread. Times are in seconds, versions in microseconds since 1970.

    ``used`` is indexed and therefore lags behind; the last use is the later of it and
    ``updated``. ``stale`` is 1 if the indexes of listings have the thread at an earlier time.
    ``stored_version`` is 0 in a file that was upgraded, until the thread is
    written.
    """

    number: int
    stored_version: int
    used: float
    updated: float
    born: int
    deleted: float | None
    entries_size: int
    epoch: int
    metadata: bytes
    owner: str | None
    stale: int

    @property
    def version(self) -> int:
        """The version of the thread, which is never 0."""
        return self.stored_version or max(1, int(self.updated * 1_000_000))

    @property
    def is_empty(self) -> bool:
        """Whether the thread is empty: it is kept, but not listed."""
        return self.entries_size == 0 and len(self.metadata) <= 2

    @property
    def is_nothing(self) -> bool:
        """Whether it counts as no thread. An empty thread with an owner counts as one."""
        return self.is_empty and self.owner is None

    def unused_for(self, now: float, thread_id: str) -> float:
        """Return the seconds since the last use of the thread.

        :raises StoreError: if a time that is stored is damaged.
        """
        try:
            return now - max(self.used, self.updated)
        except TypeError:
            raise codec.damaged(thread_id, "a time is not a number") from None

    def is_expired(self, now: float, ttl: float | None, thread_id: str) -> bool:
        """Return whether the thread was not used for *ttl* seconds (None: it never expires).

        :raises StoreError: if a time that is stored is damaged.
        """
        # Even without a TTL, the times must be valid for the following code.
        unused = self.unused_for(now, thread_id)
        return ttl is not None and unused > ttl


#: The columns of a thread's row, in the order of :class:`Head`.
HEAD_COLUMNS = (
    "t.number, t.version, t.used, t.updated, t.born, t.deleted, t.entries_size, t.epoch,"
    " CAST(t.metadata AS BLOB), t.owner, t.stale"
)

#: Number, key, kind, nulls, assigned, value; perhaps with more columns behind.
EntryRow = tuple[int, str, int, int, int, bytes | None]

#: The columns of an entry's row, in the order of :data:`EntryRow`.
ENTRY_COLUMNS = "e.number, e.key, e.kind, e.nulls, e.assigned, CAST(e.value AS BLOB)"


#: The last segment of an entry: number, items, length, items before it, epoch, body (None: not
#: fetched); and the kind and the nulls of the entry. A long value that is no list has one segment.
TailRow = tuple[int, int, int, int | None, int, bytes | None, int, int]


@dataclass(slots=True)
class Segment:
    """A row of a list: its number, its items, its bytes, and its body if that was fetched."""

    number: int
    items: int
    size: int
    body: bytes | None = None


class Seen(NamedTuple):
    """The rows of a thread at one version; ``entries`` and ``tails`` may lack some keys."""

    thread_id: str
    head: Head
    entries: Sequence[EntryRow]
    tails: Mapping[str, TailRow]

    @property
    def entries_size(self) -> int:
        """The size of all entries in the document."""
        return self.head.entries_size
