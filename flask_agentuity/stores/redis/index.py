"""Finding threads in Redis: a listing reads the index of each partition, and merges the results.

Indexes have only ids and times. An expired thread stays in them until a listing finds it, which
leaves it out and removes it.
"""

from __future__ import annotations

import heapq
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...document.codec import damaged, document_size
from ..listing import AHEAD, plausible_time
from ..subjects import ALL_THREADS
from .calls import Caller
from .keys import Partition, decode_owner
from .line import Line
from .scripts import PAGE, SCAN, SWEEP
from .writer import REMEMBERED

logger = logging.getLogger("flask_agentuity.stores.redis")

#: How many threads of an index one call may examine, because it blocks Redis.
MOST_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """A thread in a listing. Times are in seconds, the size is in bytes."""

    id: str
    updated: float
    created: float
    size: int
    metadata: bytes
    owner: str | None = None
    expires: float | None = None

    @property
    def place(self) -> tuple[float, str]:
        """Its position in a listing."""
        return self.updated, self.id


@dataclass(slots=True)
class _Stream:
    """The rows that one partition has returned, and where its next page begins."""

    index: bytes
    after: tuple[float, str] | None
    rows: list[Row] = field(default_factory=list)
    ended: bool = False


def find(
    caller: Caller,
    partitions: Iterable[Partition],
    terms: Sequence[bytes],
    after: tuple[float, str] | None,
    count: int,
    accept: Callable[[Row], bool],
    ttl: int,
) -> list[Row]:
    """Return the *count* latest updated threads after a position that have *terms* and that
    *accept* accepts.

    :param ttl: the time to live of threads, in milliseconds; 0: none.
    """
    streams = [_Stream(partition.index, after) for partition in partitions]
    # If there are many partitions, each probably has a few of them.
    share = min(count, 3 + 2 * count // len(streams))
    waiting = streams
    while waiting:
        calls = [
            (stream.index, [_kept(ttl), *_question(stream, share, terms)]) for stream in waiting
        ]
        for stream, reply in zip(waiting, caller.run_each(ALL_THREADS, PAGE, calls), strict=True):
            _take(stream, reply, accept)
        best = heapq.nlargest(
            count, (row for stream in streams for row in stream.rows), key=lambda row: row.place
        )
        last = best[-1].place if len(best) == count else None
        waiting = [
            stream
            for stream in streams
            if not stream.ended and (last is None or stream.after is None or stream.after > last)
        ]
    return best


def sweep(
    caller: Caller,
    partitions: Iterable[Partition],
    ttl: int,
    progress: Callable[[int], None] | None = None,
    *,
    remove: bool = True,
) -> int:
    """Remove expired threads from the index of each partition; return how many have expired."""
    total = 0
    waiting: Mapping[bytes, bytes] = {partition.index: b"0" for partition in partitions}
    while waiting:
        calls = [
            (index, (_kept(ttl), cursor, MOST_LOOKED_AT, int(remove)))
            for index, cursor in waiting.items()
        ]
        replies = caller.run_each(ALL_THREADS, SWEEP, calls)
        expired = sum(reply[1] for reply in replies)
        total += expired
        if expired and progress:
            progress(expired)
        cursors = zip(waiting, (reply[0] for reply in replies), strict=True)
        waiting = {index: cursor for index, cursor in cursors if cursor != b"0"}
    return total


def describe(caller: Caller, names: tuple[bytes, bytes], thread_id: str) -> Row | None:
    """Return the row of one thread; None if there is none.

    :param names: the keys of the thread and of its index.
    :raises StoreError: if the thread is damaged.
    """

    def ask(line: Line) -> tuple[list[bytes | None], int]:
        command = (b"HMGET", names[0], b"head", b"thread", b"metadata", b"owner")
        found, left = line.exchange(command, (b"PTTL", names[0]))
        if isinstance(found, Exception):
            raise found
        return found, left

    found, left = caller.call(names[0], thread_id, ask)
    fields = [value or b"" for value in found]
    if not (fields[0] or fields[1]):
        return None
    try:
        head, former_head, text, owner = fields
        row = _row(thread_id.encode(), head, former_head, text, owner, left)
    except ValueError as error:
        raise damaged(thread_id, str(error)) from None
    return row if row.size else None


def scan(
    caller: Caller, partitions: Iterable[Partition], terms: Sequence[bytes] = ()
) -> Iterator[Row]:
    """Yield every thread of each partition, or those that have the rarest of *terms*.

    A damaged thread has only its id.
    """
    for partition in partitions:
        cursor, scanned = b"0", b""
        while True:
            call = partition.index, (cursor, MOST_LOOKED_AT, scanned, *terms)
            ((cursor, scanned, found),) = caller.run_each(ALL_THREADS, SCAN, [call])
            for fields in found:
                try:
                    row = _row(*fields)
                except ValueError:
                    row = Row(fields[0].decode(errors="replace"), 0.0, 0.0, 0, b"{}")
                    yield row
                else:
                    if row.size:
                        yield row
            if cursor == b"0":
                break


def _kept(ttl: int) -> bytes:
    """Return what scripts need to correct the times of threads."""
    return b"%d %d %d" % (ttl, REMEMBERED, AHEAD)


def _question(stream: _Stream, count: int, terms: Sequence[bytes]) -> list[Any]:
    updated, thread_id = (
        ("", "") if stream.after is None else (repr(stream.after[0]), stream.after[1])
    )
    return [count, MOST_LOOKED_AT, updated, thread_id, *terms]


def _take(stream: _Stream, reply: Any, accept: Callable[[Row], bool]) -> None:
    found, position = reply
    for fields in found:
        try:
            row = _row(*fields)
        except ValueError as error:
            # One damaged thread must not hide the others. Restoring it raises an error.
            damaged_id = fields[0].decode(errors="replace")
            logger.error(  # noqa: TRY400 - the text says enough
                "A damaged thread is left out of a listing: %s",
                damaged(damaged_id, str(error)),
                extra={"thread_id": damaged_id},
            )
            continue
        # A thread without state and metadata is hidden.
        if row.size and accept(row):
            stream.rows.append(row)
    if position:
        updated, thread_id = position
        stream.after = float(updated), thread_id.decode()
    else:
        stream.ended = True


def _row(
    thread_id: bytes, head: bytes, former_head: bytes, text: bytes, owner: bytes, left: int
) -> Row:
    if head:
        parts = head.split()
        parts = [*parts[:1], *parts[3:4], *parts[6:]]
    else:
        parts = former_head.split()
        parts = [*parts[:1], *parts[3:5]] if len(parts) == 6 else []
    if len(parts) != 3 or not all(math.isfinite(float(part)) for part in parts):
        raise ValueError("its head is missing or invalid")
    size, created, updated = parts
    metadata = (text or b"{}").partition(b"\n")[0]
    total = document_size(int(size), len(metadata))
    times = plausible_time(float(updated)), plausible_time(float(created))
    expires = time.time() + left / 1000 if left >= 0 else None
    return Row(thread_id.decode(), *times, total, metadata, decode_owner(owner), expires)
