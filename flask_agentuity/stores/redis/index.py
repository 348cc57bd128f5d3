"""Finding threads in Redis: a listing asks the index of each partition, and merges the answers.

Indexes know ids and times only. Threads that have expired are still in them until somebody
comes by, so a listing leaves out, and removes, what it finds gone.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...document.codec import damaged, document_size
from .calls import Caller
from .keys import Partition
from .scripts import Script

logger = logging.getLogger("flask_agentuity.stores.redis")

#: How many threads of an index one call may look at: Redis does nothing else meanwhile.
MOST_LOOKED_AT = 1000

# KEYS: the index. ARGV: how many threads are wanted, how many may be looked at, the time and
# the id that they come after ("" and "" for the first ones), and the labels that they have.
#
# Replies with the id, the text and the metadata of each, and with the time and the id of the
# last that was looked at where there may be more.
PAGE = Script("""
local index_name, wanted, most = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local updated, id = ARGV[3], ARGV[4]

-- The rarest label says which threads are looked at, the others only test those.
local names, chosen = {}, 1
for place = 5, #ARGV do
  names[#names + 1] = index_name .. '.' .. ARGV[place]
end
if #names == 0 then
  names[1] = index_name
end
local fewest = math.huge
for place, name in ipairs(names) do
  local count = redis.call('ZCARD', name)
  if count < fewest then
    chosen, fewest = place, count
  end
end
local name = table.remove(names, chosen)

-- In the order of bytes, as the index has it; Lua's own is that of a language.
local function comes_after(one, other)
  for place = 1, math.min(#one, #other) do
    local byte, another = string.byte(one, place), string.byte(other, place)
    if byte ~= another then
      return byte < another
    end
  end
  return #one < #other
end

local rank = 0
if updated ~= '' then
  rank = redis.call('ZCOUNT', name, '(' .. updated, '+inf')
  local last = rank + redis.call('ZCOUNT', name, updated, updated)
  while rank < last do
    local middle = math.floor((rank + last) / 2)
    if comes_after(redis.call('ZREVRANGE', name, middle, middle)[1], id) then
      last = middle
    else
      rank = middle + 1
    end
  end
end

local found, gone, looked_at, more = {}, {}, 0, true
while more and #found < wanted and looked_at < most do
  local count = math.min(wanted - #found, most - looked_at)
  local members = redis.call('ZREVRANGE', name, rank, rank + count - 1, 'WITHSCORES')
  more = #members == 2 * count
  rank, looked_at = rank + count, looked_at + count
  for place = 1, #members, 2 do
    id, updated = members[place], members[place + 1]
    local all = true
    for _, other in ipairs(names) do
      all = all and redis.call('ZSCORE', other, id)
    end
    if all then
      local thread_name = index_name .. ':' .. id
      local thread = redis.pcall('HMGET', thread_name, 'thread', 'metadata')
      if thread[1] or redis.call('EXISTS', thread_name) == 1 then
        found[#found + 1] = {id, thread[1] or '', thread[2] or ''}
      else
        gone[#gone + 1] = id
      end
    end
  end
end
names[#names + 1] = name
names[#names + 1] = index_name
for _, member in ipairs(gone) do
  for _, other in ipairs(names) do
    -- Where nothing may be written now, listing still can be done.
    redis.pcall('ZREM', other, member)
  end
end
return {found, more and {updated, id} or {}}
""")

# KEYS: the index. ARGV: where ZSCAN goes on, and about how many threads it looks at. Replies with
# where it goes on then, and how many were removed because they are gone.
SWEEP = Script("""
local step = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local removed = 0
for place = 1, #step[2], 2 do
  if redis.call('EXISTS', KEYS[1] .. ':' .. step[2][place]) == 0 then
    removed = removed + redis.call('ZREM', KEYS[1], step[2][place])
  end
end
return {step[1], removed}
""")


# KEYS: the index. ARGV: where ZSCAN goes on, and about how many threads it looks at. Replies with
# where it goes on then, and with the id, the text and the metadata of each thread.
SCAN = Script("""
local step, found = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]), {}
for place = 1, #step[2], 2 do
  local id = step[2][place]
  local thread_name = KEYS[1] .. ':' .. id
  local thread = redis.pcall('HMGET', thread_name, 'thread', 'metadata')
  if thread[1] or redis.call('EXISTS', thread_name) == 1 then
    found[#found + 1] = {id, thread[1] or '', thread[2] or ''}
  end
end
return {step[1], found}
""")


@dataclass(frozen=True, slots=True)
class Row:
    """A thread as its partition knows it; times in seconds, the size in bytes."""

    id: str
    updated: float
    created: float
    size: int
    metadata: bytes

    @property
    def place(self) -> tuple[float, str]:
        """Where it is in a listing."""
        return self.updated, self.id


@dataclass(slots=True)
class _Stream:
    """What one partition has given so far, and from where it goes on, if it does."""

    index: bytes
    after: tuple[float, str] | None
    rows: list[Row] = field(default_factory=list)
    ended: bool = False


def find(
    caller: Caller,
    partitions: Iterable[Partition],
    labels: Sequence[bytes],
    after: tuple[float, str] | None,
    count: int,
    accept: Callable[[Row], bool],
) -> list[Row]:
    """Return the *count* latest updated threads that come after a place, have *labels* and
    are accepted.
    """
    streams = [_Stream(partition.index, after) for partition in partitions]
    # Of many partitions each has a few of them.
    share = min(count, 3 + 2 * count // len(streams))
    waiting = streams
    while waiting:
        calls = [(stream.index, _question(stream, share, labels)) for stream in waiting]
        for stream, reply in zip(waiting, caller.run_each("(all)", PAGE, calls), strict=True):
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
    caller: Caller, partitions: Iterable[Partition], progress: Callable[[int], None] | None
) -> int:
    """Remove what is gone from the index of each partition; returns how many threads."""
    total = 0
    waiting: Mapping[bytes, bytes] = {partition.index: b"0" for partition in partitions}
    while waiting:
        calls = [(index, (cursor, MOST_LOOKED_AT)) for index, cursor in waiting.items()]
        replies = caller.run_each("(all)", SWEEP, calls)
        removed = sum(reply[1] for reply in replies)
        total += removed
        if removed and progress:
            progress(removed)
        cursors = zip(waiting, (reply[0] for reply in replies), strict=True)
        waiting = {index: cursor for index, cursor in cursors if cursor != b"0"}
    return total


def scan(caller: Caller, partitions: Iterable[Partition]) -> Iterator[Row]:
    """Yield every thread of each partition; what is damaged has only its id."""
    for partition in partitions:
        cursor = b"0"
        while True:
            call = partition.index, (cursor, MOST_LOOKED_AT)
            ((cursor, found),) = caller.run_each("(all)", SCAN, [call])
            for thread_id, head, metadata in found:
                try:
                    yield _row(thread_id, head, metadata)
                except ValueError:
                    yield Row(thread_id.decode(errors="replace"), 0.0, 0.0, 0, b"{}")
            if cursor == b"0":
                break


def _question(stream: _Stream, count: int, labels: Sequence[bytes]) -> list[Any]:
    updated, thread_id = (
        ("", "") if stream.after is None else (repr(stream.after[0]), stream.after[1])
    )
    return [count, MOST_LOOKED_AT, updated, thread_id, *labels]


def _take(stream: _Stream, reply: Any, accept: Callable[[Row], bool]) -> None:
    found, position = reply
    for thread_id, head, metadata in found:
        try:
            row = _row(thread_id, head, metadata)
        except ValueError as error:
            # One damaged thread does not hide all the others; restoring it raises.
            logger.error("%s", damaged(thread_id.decode(errors="replace"), str(error)))  # noqa: TRY400
            continue
        if accept(row):
            stream.rows.append(row)
    if position:
        updated, thread_id = position
        stream.after = float(updated), thread_id.decode()
    else:
        stream.ended = True


def _row(thread_id: bytes, head: bytes, text: bytes) -> Row:
    parts = head.split()
    if len(parts) != 6 or not all(math.isfinite(float(part)) for part in parts):
        raise ValueError("what is known of the whole thread is not as it should be")
    size, _, _, created, updated, _ = parts
    metadata = (text or b"{}").partition(b"\n")[0]
    total = document_size(int(size), len(metadata))
    return Row(thread_id.decode(), float(updated), float(created), total, metadata)
