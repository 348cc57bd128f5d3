"""Writing to a thread: one script applies all operations of a write, or none."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Sequence
from typing import Any

from ...document import codec
from ...document.key_count import MAX_KEYS
from ...errors import ServiceUnavailable, StateTooLarge, ThreadGone, TooManyKeys, TurnLost
from ..base import TOMBSTONE_SECONDS
from ..listing import ListedThread
from ..skipped import warn_of_skipped
from ..writing import Conflict, Write, Written
from .calls import Caller
from .keys import encode_owner, owner_term, string_name, term_name
from .line import Line
from .scripts import COPYING_WRITE, FENCED_WRITE, WRITE
from .seen import Seen, prepare_push
from .steps import Run, Steps, encode_steps, single_run

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


class Writer:
    """Writes to the threads of one store.

    :param milliseconds: after which an unused thread expires; 0: never.
    """

    def __init__(self, caller: Caller, milliseconds: int, max_bytes: int) -> None:
        self._caller = caller
        self._milliseconds = milliseconds
        self._max_bytes = max_bytes
        self._limits = b"%d %d" % (milliseconds, max_bytes)
        #: The most keys of a state.
        self.max_keys = MAX_KEYS

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
        if not lock and (run := single_run(write.operations)):
            return self._push(names, thread_id, write, run, seen)
        steps = encode_steps(write.operations, edited, seen.place_of if seen else None)
        head = seen.head if seen else b""
        reply = self._run(names, thread_id, write, steps, head, lock)
        return self._outcome(thread_id, steps, reply, write.counted)

    def import_thread(self, names: tuple[bytes, bytes], thread: ListedThread, steps: Steps) -> bool:
        """Replace a thread by one from another store; False if the stored one is not older."""
        reply = self._run(names, thread.id, Write(()), steps)
        if reply[0] == b"kept":
            return False
        self._outcome(thread.id, steps, reply, ())
        return True

    def copy(
        self,
        original: bytes,
        names: tuple[bytes, bytes],
        copy_id: str,
        write: Write,
    ) -> bytes:
        """Copy a thread and apply a write to the copy; returns "missing", "taken" or "written".

        :param original: the key of the thread.
        :param names: the keys of the copy and of its index.
        :param write: its owner is the owner of the copy, None: that of the thread.
        :raises StateTooLarge: if the copy would be too large. The thread itself is not changed.
        """
        steps = encode_steps(write.operations)
        counts = len(steps.keys), steps.nulls
        settings = b"%b %d %d 0 0 0 %d   %d" % (self._limits, *counts, REMEMBERED, self.max_keys)
        arguments = settings, b"", *steps.arguments, original, encode_owner(write.owner)
        keys = self._keys(names, write, steps)
        reply = self._caller.call(
            names[0], copy_id, lambda line: line.run(COPYING_WRITE, keys, arguments), changes=True
        )
        if reply[0] not in (b"missing", b"taken"):
            self._outcome(copy_id, steps, reply, ())
        return bytes(reply[0])

    def _push(
        self,
        names: tuple[bytes, bytes],
        thread_id: str,
        write: Write,
        run: Run,
        seen: Seen | None,
    ) -> Written | Conflict:
        """Append to one list, which is what most writes do."""
        if seen and write.owner is not None and not write.may_change(seen.owner):
            raise ThreadGone(thread_id)
        prepared = None
        if seen:
            prepared = prepare_push(seen, run, self._milliseconds, self._max_bytes)
        if seen and prepared:
            arguments = (b"prepared", *run.arguments, *prepared.arguments)
            settings = b"%b 1 %d" % (self._limits, run.nulls)
            keys = [*names, string_name(names[0], run.encoded_key)]
            reply = self._send(thread_id, write, keys, settings, (seen.head, *arguments))
            if reply.__class__ is bytes:
                preceding = {run.key: prepared.preceding} if run.key in write.counted else {}
                place = prepared.seen_after(run.encoded_key, reply)
                return Written(int(reply), place, preceding)
        steps = Steps()
        steps.add_run(run, write.operations)
        if not prepared:
            reply = self._run(names, thread_id, write, steps)
        return self._outcome(thread_id, steps, reply, write.counted)

    def _run(
        self,
        names: tuple[bytes, bytes],
        thread_id: str,
        write: Write,
        steps: Steps,
        head: bytes = b"",
        lock: bytes = b"",
    ) -> Any:
        keys = self._keys(names, write, steps)
        settings = b"%b %d %d" % (self._limits, len(steps.keys), steps.nulls)
        return self._send(thread_id, write, keys, settings, (head, *steps.arguments), lock)

    def _keys(self, names: tuple[bytes, bytes], write: Write, steps: Steps) -> list[bytes]:
        """Return the keys that a write names."""
        thread, index = names
        keys = [thread, index, *[string_name(thread, key) for key in steps.keys]]
        keys += [term_name(index, term) for term in steps.terms]
        if write.owner is not None:
            keys.append(term_name(index, owner_term(encode_owner(write.owner))))
        return keys

    def _send(
        self,
        thread_id: str,
        write: Write,
        keys: Sequence[bytes],
        settings: bytes,
        arguments: Sequence[bytes | int],
        lock: bytes = b"",
    ) -> Any:
        """Run the script, repeatedly while another request holds the lock."""

        def talk(line: Line) -> Any:
            sent = time.monotonic()
            age = max(0.0, sent - write.began) * 1_000_000
            # The script takes the earlier time, because the age is outdated when it arrives.
            began = line.clock.latest(write.began) or 0
            variable = settings, age, began, write.version, REMEMBERED, lock, owner, self.max_keys
            settings_text = b"%b %d %d %d %d %b %b %d" % variable
            if write.turn is None:
                reply = line.run(WRITE, keys, (settings_text, *arguments))
            else:
                reply = line.run(FENCED_WRITE, keys, (settings_text, *arguments, write.turn))
            if reply.__class__ is bytes:
                line.clock.note(sent, int(reply))
            elif reply[0] == b"written":
                line.clock.note(sent, int(reply[1]))
            return reply

        owner, pauses = encode_owner(write.owner), None
        while (reply := self._caller.call(keys[0], thread_id, talk, changes=True))[0] == b"busy":
            pauses = pauses or Pauses(thread_id)
            pauses.wait()
        return reply

    def _outcome(
        self, thread_id: str, steps: Steps, reply: Any, counted: Collection[str]
    ) -> Written | Conflict:
        match reply[0]:
            case b"written":
                return _written(thread_id, steps, reply, counted)
            case b"conflict":
                return _conflict(reply)
            case b"gone":
                raise ThreadGone(thread_id)
            case b"large":
                raise StateTooLarge(reply[1], self._max_bytes, thread_id)
            case b"keys":
                raise TooManyKeys(reply[1], self.max_keys, thread_id)
            case b"fenced":
                raise TurnLost(thread_id)
            case b"lost":
                raise LockLost
            case status:
                raise AssertionError(f"the script answered {status!r}")


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
