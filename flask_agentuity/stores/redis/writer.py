"""Writing to a thread: one script applies all operations of a write, or none."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...document import codec
from ...errors import ServiceUnavailable, StateTooLarge, ThreadGone
from ..base import TOMBSTONE_SECONDS
from ..listing import ListedThread
from ..writing import Conflict, Write, Written, warn_of_skipped
from .calls import Caller
from .keys import label_name, string_name
from .line import Line
from .scripts import WRITE
from .seen import PreparedPush, Seen, prepare_push
from .steps import Run, Steps, encode_steps

#: Milliseconds for which a deletion is remembered.
REMEMBERED = round(TOMBSTONE_SECONDS * 1000)
#: Seconds after which a lock expires, in case its holder has died.
LOCK_SECONDS = 3.0
#: Seconds that a write waits for a lock, which is longer than any lock lasts.
PATIENCE = 5.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05


class Pauses:
    """Random pauses between attempts to get a lock. They grow."""

    def __init__(self, thread_id: str) -> None:
        self._thread_id = thread_id
        self._ends = time.monotonic() + PATIENCE
        self._pause = _SHORTEST_PAUSE

    def wait(self) -> None:
        """Wait before the next attempt.

        :raises ServiceUnavailable: if the time for waiting is over.
        """
        if time.monotonic() > self._ends:
            raise ServiceUnavailable(
                f"Thread {self._thread_id} stays locked by requests that merge their changes;"
                " nothing was changed."
            )
        time.sleep(random.uniform(self._pause / 2, self._pause))
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)


class LockLost(Exception):
    """The caller no longer holds the lock."""


@dataclass(slots=True)
class _Call:
    """One write as the script takes it. ``fixed`` are the settings that do not depend on time."""

    write: Write
    steps: Steps
    head: bytes = b""
    lock: bytes = b""
    prepared: PreparedPush | None = None
    fixed: bytes = b""

    def send(self, line: Line, keys: Sequence[bytes]) -> Any:
        """Run the script and return its reply."""
        write, steps = self.write, self.steps.arguments
        if self.prepared:
            steps = [b"prepared", *steps[1:], *self.prepared.arguments]
        sent = time.monotonic()
        # The script takes the earlier of the two, because the age is outdated when it arrives.
        began = line.clock.latest(write.began) or 0
        variable = write.age * 1_000_000, began, write.version, REMEMBERED, self.lock
        settings = b"%b %d %d %d %d %b" % (self.fixed, *variable)
        reply = line.run(WRITE, keys, (settings, self.head, *steps))
        if reply.__class__ is bytes:
            line.clock.note(sent, int(reply))
        elif reply[0] == b"written":
            line.clock.note(sent, int(reply[1]))
        return reply


class Writer:
    """Writes to the threads of one store.

    :param milliseconds: after which an unused thread expires; 0: never.
    """

    def __init__(self, caller: Caller, milliseconds: int, max_bytes: int) -> None:
        self._caller = caller
        self._milliseconds = milliseconds
        self._max_bytes = max_bytes

    def write(
        self,
        names: tuple[bytes, bytes],
        thread_id: str,
        write: Write,
        *,
        lock: bytes = b"",
        edited: Collection[int] = (),
    ) -> Written | Conflict:
        """Apply a write without edits.

        :param names: the keys of the thread and of its index.
        :param lock: the lock that the caller holds. It is released if the write is applied.
        :param edited: the ids (see :func:`id`) of pushes that belong to edits.
        :raises LockLost: if the caller no longer holds the lock.
        """
        seen = write.seen if isinstance(write.seen, Seen) else None
        steps = encode_steps(write.operations, edited, seen.place_of if seen else None)
        prepared = None
        if seen and not lock and (run := steps.only_push):
            prepared = prepare_push(
                seen, run, self._milliseconds, self._max_bytes, nulls=steps.nulls
            )
        head = seen.head if seen else b""
        reply = self._run(names, thread_id, _Call(write, steps, head, lock, prepared))
        if reply.__class__ is bytes:
            assert prepared is not None
            return _written_as_prepared(steps.runs[0], prepared, reply, write.counted)
        match reply[0]:
            case b"written":
                return _written(thread_id, steps, reply, write.counted)
            case b"conflict":
                return _conflict(reply)
            case b"lost":
                raise LockLost
            case _:
                raise self._refused(thread_id, reply)

    def adopt(self, names: tuple[bytes, bytes], thread: ListedThread, steps: Steps) -> bool:
        """Replace a thread by one from another store; False if the stored one is not older."""
        reply = self._run(names, thread.id, _Call(Write(()), steps))
        if reply[0] == b"kept":
            return False
        if reply[0] != b"written":
            raise self._refused(thread.id, reply)
        return True

    def _run(self, names: tuple[bytes, bytes], thread_id: str, call: _Call) -> Any:
        """Run the script, again and again while another request holds the lock."""
        thread, index = names
        steps = call.steps
        keys = [thread, index, *[string_name(thread, key) for key in steps.keys]]
        if steps.labels:
            keys += [label_name(index, label) for label in steps.labels]
        fixed = self._milliseconds, self._max_bytes, len(steps.keys), steps.nulls
        call.fixed = b"%d %d %d %d" % fixed
        talk = partial(call.send, keys=keys)
        pauses = None
        while (reply := self._caller.call(thread, thread_id, talk, changes=True))[0] == b"busy":
            pauses = pauses or Pauses(thread_id)
            pauses.wait()
        return reply

    def _refused(self, thread_id: str, reply: Any) -> Exception:
        match reply[0]:
            case b"gone":
                return ThreadGone(thread_id)
            case b"large":
                return StateTooLarge(reply[1], self._max_bytes, thread_id)
            case status:
                raise AssertionError(f"the script answered {status!r}")


def _written_as_prepared(
    run: Run, prepared: PreparedPush, version: bytes, counted: Collection[str]
) -> Written:
    preceding = {run.key: prepared.preceding} if run.key in counted else {}
    return Written(int(version), prepared.seen_after(run.encoded_key, version), preceding)


def _written(
    thread_id: str, steps: Steps, reply: Sequence[Any], counted: Collection[str]
) -> Written:
    _, version, head, lists, counts, skipped = reply
    if skipped:
        operations = [each for number in skipped for each in steps.operations[number]]
        warn_of_skipped(thread_id, operations)
    preceding: dict[str, int] = {}
    for run, count in zip(steps.runs, counts, strict=True):
        # Pushes of an edit do not count, nor do pushes that were skipped.
        is_first = run.key in counted and run.key not in preceding and run.count > run.edited
        if is_first and count >= 0:
            preceding[run.key] = count + run.edited
    seen = Seen(head, dict(zip(lists[::2], lists[1::2], strict=True))) if head else None
    return Written(int(version), seen, preceding)


def _conflict(reply: Sequence[Any]) -> Conflict:
    _, found, metadata = reply
    keys = [codec.decode(key) for key in found[::2]]
    assigned = [key for key, is_assigned in zip(keys, found[1::2], strict=True) if is_assigned]
    return Conflict(frozenset(keys), frozenset(assigned), bool(metadata))
