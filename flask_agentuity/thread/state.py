"""The state of a thread: a mapping that reads nothing until it must, and forgets no change."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from ..document import codec
from ..document.apply import apply_operations
from ..document.codec import Snapshot
from ..document.operations import Clear, Delete, Operation, Push, Set
from ..errors import StateNotSerializable, StateTypeError, StoreError

logger = logging.getLogger("flask_agentuity.state")


class _Absent:
    """A value that is known not to be there, or not known at all."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


_MISSING: Final = _Absent("MISSING")
_UNKNOWN: Final = _Absent("UNKNOWN")


@dataclass(slots=True)
class _Pushed:
    """An item that was pushed. It is encoded at the save: it may still change until then."""

    value: Any
    max_records: int | None


@dataclass(slots=True)
class Changes:
    """What a save has to send, and what is stored once it has been."""

    operations: list[Operation] = field(default_factory=list)
    #: Keys that were changed after a failed read, and so may not be sent.
    lost: list[str] = field(default_factory=list)
    #: Every value in memory as it was encoded for these changes.
    encoded: dict[str, bytes] = field(default_factory=dict)
    #: Items pushed to lists that were not read, with their encoding.
    pushed: dict[str, list[tuple[Any, bytes]]] = field(default_factory=dict)


class ThreadState(MutableMapping[str, Any]):
    """The data of a thread, a mapping from string keys to JSON values.

    Nothing is read before something is asked for, and writing asks for nothing: ``state[k]
    = v``, :meth:`push`, ``update`` and ``clear`` cost no round trip. Every change is found
    when the thread is saved, also one made deep inside a value::

        state["profile"]["name"] = "Ada"
        state["messages"].append({"role": "user", "content": "hello"})

    A value that JSON cannot hold raises
    :exc:`~flask_agentuity.errors.StateNotSerializable`. Each key is read when it is first
    needed, and keeps that value for the rest of the request.
    """

    def __init__(
        self,
        thread_id: str,
        read: Callable[[Collection[str] | None], Snapshot | None],
        on_read: Callable[[], None] | None = None,
        on_failure: Callable[[StoreError], None] | None = None,
        lock: threading.RLock | None = None,
    ) -> None:
        """Make the state of one thread.

        :param read: fetches what is stored, as :meth:`ThreadStore.read` does.
        :param on_read: called when something was read, and can be asked for.
        :param on_failure: called when reading failed; it raises, or returns to let the
            state go on as if it were empty. Without it the error is raised.
        :param lock: its owner's, so that nothing changes while the owner saves.
        """
        self._thread_id = thread_id
        self._read = read
        self._on_read = on_read
        self._on_failure = on_failure
        self._lock = lock or threading.RLock()
        # What is stored, encoded. None: there, and not fetched. A key that is not in here
        # is missing in the store if the names are complete, else unknown.
        self._base: dict[str, bytes | None] = {}
        self._complete = False
        self._decoded: dict[str, Any] = {}
        self._without_null: set[str] = set()
        # What this request has in hand: whatever was read or assigned.
        self._values: dict[str, Any] = {}
        self._gone: set[str] = set()
        self._cleared = False
        self._pushes: dict[str, list[_Pushed]] = {}
        # The length that each list in hand has by the pushes alone.
        self._lengths: dict[str, int] = {}
        self._assigned: set[str] = set()
        self._defaults: dict[str, bytes] = {}
        self._checked: dict[str, bytes] = {}
        self._sent: dict[str, list[tuple[Any, bytes]]] = {}
        #: Whether something was read or written since changes were last looked for.
        self.used_since_changes = False
        # The failure that is being told of.
        self._failure: StoreError | None = None
        self._degraded = False
        # After a failed read: what may still be sent, and what the state looked like then.
        self._safe: list[Operation | tuple[str, _Pushed]] = []
        self._seen: dict[str, bytes] = {}

    @property
    def loaded(self) -> bool:
        """Whether it is known what the state holds, by a read or after ``clear()``."""
        return self._complete and not self._degraded

    @property
    def degraded(self) -> bool:
        """Whether a read has failed: what is computed from now on is not saved."""
        return self._degraded

    @property
    def dirty(self) -> bool:
        """Whether a save would have something to do."""
        try:
            changes = self._changes()
        except StateNotSerializable:
            return True
        return bool(changes.operations or changes.lost)

    def __getitem__(self, key: str) -> Any:
        with self._lock:
            self.used_since_changes = True
            if key in self._values:
                return self._values[key]
            return self._take(key)

    def __setitem__(self, key: str, value: Any) -> None:
        codec.require_key(key)
        encoded = codec.encode(value, codec.child_path("state", key))
        with self._lock:
            if isinstance(value, dict | list) and self._values.get(key) is value:
                # state[k] += [...] has changed it in place already: an append, no assignment.
                self._checked[key] = encoded
                self.used_since_changes = True
                return
            self._assign(key, value, encoded)

    def __delitem__(self, key: str) -> None:
        with self._lock:
            self.used_since_changes = True
            if key not in self._values and key not in self._pushes:
                self.load()
            if key not in self:
                raise KeyError(key)
            self._forget(key)
            if self._stored(key) is not _MISSING:
                self._gone.add(key)

    def __contains__(self, key: object) -> bool:
        with self._lock:
            if key in self._values or key in self._pushes:
                return True
            if not isinstance(key, str) or key in self._gone:
                return False
            if self._stored(key) is _UNKNOWN:
                # Whoever asks for a key goes on to read it: both at one go.
                self._load((key,))
            return self._stored(key) is not _MISSING

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            if not self._complete or None in self._base.values():
                # Whoever goes through the keys wants the values: of one moment, at one go.
                self._load(None)
            return iter(self._names())

    def __len__(self) -> int:
        with self._lock:
            if not self._complete:
                self._load(())
            return len(self._names())

    def __ior__(self, other: Any) -> ThreadState:
        self.update(other)
        return self

    def __repr__(self) -> str:
        condition = "degraded" if self._degraded else "read" if self._complete else "not read"
        return f"<ThreadState of {self._thread_id}, {condition}>"

    def clear(self) -> None:
        """Remove every key. Nothing is read for it, and nothing needs to be read after it."""
        with self._lock:
            for key in [*self._values, *self._pushes]:
                self._forget(key)
            self._gone.clear()
            self._base.clear()
            self._decoded.clear()
            self._without_null.clear()
            self._sent.clear()
            self._complete = self._cleared = self.used_since_changes = True

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, which becomes *default* if it is missing.

        Filling in a default never removes what another request writes at the same time,
        and what is appended to a list that was filled in is an append like any other.
        """
        codec.require_key(key)
        with self._lock:
            with suppress(KeyError):
                return self[key]
            encoded = codec.encode(default, codec.child_path("state", key))
            replaces = key in self._gone or self._cleared
            self._assign(key, default, encoded)
            if not replaces:
                self._assigned.discard(key)
                self._defaults[key] = encoded
            return default

    def push(self, key: str, value: Any, max_records: int | None = None) -> None:
        """Append *value* to the list at *key*, without reading it; a missing list is made.

        :param max_records: the list then keeps its last that many items.
        :raises StateTypeError: when it is already known that the value there is no list.
        :raises ValueError: when *max_records* is not a positive integer.
        """
        codec.require_key(key)
        if max_records is not None and (
            not isinstance(max_records, int) or isinstance(max_records, bool) or max_records < 1
        ):
            raise ValueError(f"max_records must be a positive integer, not {max_records!r}")
        path = codec.child_path("state", key)
        codec.encode_item(value, path)
        pushed = _Pushed(value, max_records)
        with self._lock:
            self.used_since_changes = True
            if self._degraded and key not in self._values:
                self._values[key] = []
            if key in self._values:
                self._push_in_hand(key, self._values[key], pushed)
            else:
                stored = self._stored(key)
                if isinstance(stored, bytes) and key not in self._gone:
                    _require_list(path, codec.is_list(stored))
                self._pushes.setdefault(key, []).append(pushed)
            if self._degraded:
                self._safe.append((key, pushed))

    def load(self) -> None:
        """Read what the state holds, unless that is known already."""
        with self._lock:
            if not self._complete:
                self._load(())

    def fail(self, error: StoreError) -> None:
        """Go on without what could not be read, or raise *error*: the owner decides.

        From now on only pushes are kept for a save, and what was changed before.
        """
        if self._on_failure is None:
            raise error
        if self._failure is not None:
            # Who is told of it looks at the state: it fails for them as well.
            raise self._failure
        self._failure = error
        try:
            self._on_failure(error)
        finally:
            self._failure = None
        # What was found until now was computed from what is really stored.
        self._safe = list(self._find_changes().operations)
        self._degraded = True
        self._base.clear()
        self._decoded.clear()
        self._without_null.clear()
        self._gone.clear()
        self._cleared = False
        self._complete = True
        for key in list(self._pushes):
            if key not in self._values:
                self._take(key)
        self._pushes.clear()
        self._defaults.clear()
        self._seen = self._encode_in_hand()

    def changes(self) -> Changes:
        """Return the operations that bring the store to what this state holds.

        :raises StateNotSerializable: when a value was changed to what JSON cannot hold.
        """
        with self._lock:
            self.used_since_changes = False
            return self._changes()

    def commit(self, changes: Changes) -> None:
        """Take note that *changes* are stored: they are not sent again."""
        with self._lock:
            if self._degraded:
                self._safe.clear()
                self._sent.clear()
                self._seen = changes.encoded
                return
            self._cleared = False
            for key in self._gone:
                self._base.pop(key, None)
            self._gone.clear()
            for key, pushed in changes.pushed.items():
                self._commit_pushes(key, pushed)
            for key, encoded in changes.encoded.items():
                self._base[key] = self._checked[key] = encoded
                value = self._values.get(key)
                if isinstance(value, list):
                    self._lengths[key] = len(value)
            self._pushes.clear()
            self._defaults.clear()
            self._assigned.clear()

    def serialize(self) -> dict[str, bytes]:
        """Return every value as it is now, encoded."""
        with self._lock:
            return {key: codec.encode(self[key], codec.child_path("state", key)) for key in self}

    def _changes(self) -> Changes:
        with self._lock:
            for key in self._sent_and_changed():
                # A push cannot be taken back, so the list has to be read for it.
                self.get(key)
            return self._changes_when_degraded() if self._degraded else self._find_changes()

    def _take(self, key: str) -> Any:
        """Read one key, apply what was pushed to it, and keep the value in hand."""
        stored = _MISSING if key in self._gone else self._fetch(key)
        if key in self._values:
            # A failed read has taken everything in hand that was there to be taken.
            return self._values[key]
        pushes = self._pushes.get(key)
        if isinstance(stored, _Absent):
            if not pushes:
                raise KeyError(key)
            value: Any = []
        else:
            value = stored
        if pushes and not isinstance(value, list):
            logger.warning(
                "A push to %s of thread %s was skipped: the value stored there is not a list.",
                codec.child_path("state", key),
                self._thread_id,
            )
            del self._pushes[key]
        sent = self._sent.pop(key, None)
        if isinstance(value, list):
            if sent and isinstance(encoded := self._stored(key), bytes):
                _put_back(value, codec.items_of(encoded), sent)
            for pushed in self._pushes.get(key, ()):
                _append(value, pushed)
            self._lengths[key] = len(value)
        self._values[key] = value
        return value

    def _fetch(self, key: str) -> Any:
        """Return the stored value of *key*, decoded, or that it is missing."""
        stored = self._stored(key)
        if stored is None or stored is _UNKNOWN:
            self._load((key,))
            stored = self._stored(key)
        if not isinstance(stored, bytes):
            return _MISSING
        if key in self._decoded:
            return self._decoded.pop(key)
        try:
            return codec.decode(stored)
        except ValueError as error:
            path = codec.child_path("state", key)
            self.fail(codec.damaged(self._thread_id, f"{path}: {error}"))
            return _MISSING

    def _stored(self, key: str) -> bytes | _Absent | None:
        if key in self._base:
            return self._base[key]
        return _MISSING if self._complete else _UNKNOWN

    def _load(self, keys: Collection[str] | None) -> None:
        if self._degraded:
            return
        if self._failure is not None:
            raise self._failure
        try:
            snapshot = self._read(keys) or Snapshot({})
        except StoreError as error:
            self.fail(error)
            return
        if not self._complete:
            taken = [key for key in snapshot.encoded if key not in self._base]
        elif keys is None:
            taken = [key for key, encoded in self._base.items() if encoded is None]
        else:
            taken = list(keys)
        for key in taken:
            self._take_over(key, snapshot)
        self._complete = True
        if self._on_read is not None:
            self._on_read()

    def _take_over(self, key: str, snapshot: Snapshot) -> None:
        """Take note of what is stored of *key*."""
        self._decoded.pop(key, None)
        self._without_null.discard(key)
        if key not in snapshot.encoded:
            self._base.pop(key, None)
            return
        self._base[key] = snapshot.encoded[key]
        if key in snapshot.decoded:
            self._decoded[key] = snapshot.decoded[key]
        if key in snapshot.without_null:
            self._without_null.add(key)

    def _assign(self, key: str, value: Any, encoded: bytes) -> None:
        self._forget(key)
        self.used_since_changes = True
        # Put back what it was, it is no change.
        self._gone.discard(key)
        self._values[key] = value
        self._assigned.add(key)
        self._checked[key] = encoded
        if isinstance(value, list):
            self._lengths[key] = len(value)

    def _forget(self, key: str) -> None:
        for known in (
            self._values,
            self._pushes,
            self._lengths,
            self._defaults,
            self._checked,
            self._sent,
        ):
            known.pop(key, None)
        self._assigned.discard(key)
        self._without_null.discard(key)

    def _names(self) -> list[str]:
        names = [key for key in self._base if key not in self._gone]
        return list(dict.fromkeys([*names, *self._values, *self._pushes]))

    def _push_in_hand(self, key: str, value: Any, pushed: _Pushed) -> None:
        if isinstance(value, tuple):
            value = self._values[key] = list(value)
        _require_list(codec.child_path("state", key), isinstance(value, list))
        log = self._pushes.get(key)
        if log is not None or pushed.max_records is not None:
            # What the app appended by itself comes before this push, and before its window.
            own = value[self._lengths.get(key, len(value)) :]
            log = self._pushes.setdefault(key, [])
            log.extend(_Pushed(item, None) for item in own)
            log.append(pushed)
        _append(value, pushed)
        if log is not None:
            self._lengths[key] = len(value)

    def _sent_and_changed(self) -> list[str]:
        """Return the keys of items that changed after they were pushed and saved unread."""
        return [
            key
            for key, items in self._sent.items()
            if any(
                codec.encode_item(item, codec.child_path("state", key)) != sent
                for item, sent in items
            )
        ]

    def _find_changes(self) -> Changes:
        changes = Changes()
        if self._cleared:
            changes.operations.append(Clear())
        changes.operations.extend(Delete(key) for key in self._gone)
        for key, value in self._values.items():
            found, encoded = self._find_change(key, value)
            changes.operations.extend(found)
            changes.encoded[key] = encoded
        for key in self._pushes:
            if key not in self._values:
                pushes = self._encode_pushes(key)
                changes.operations.extend(pushes)
                changes.pushed[key] = [
                    (pushed.value, push.value)
                    for pushed, push in zip(self._pushes[key], pushes, strict=True)
                ]
        return changes

    def _find_change(self, key: str, value: Any) -> tuple[list[Operation], bytes]:
        path = codec.child_path("state", key)
        encoded = codec.encode_unchecked(value, path)
        found: list[Operation] = []
        stored = self._stored(key)
        if key in self._gone:
            stored = _MISSING
        if isinstance(stored, bytes):
            reference = stored
        elif key in self._defaults:
            reference = self._defaults[key]
            # A push makes its list by itself.
            if encoded == reference or reference != codec.EMPTY_LIST:
                found.append(Set(key, reference, only_if_missing=True))
        elif stored is _MISSING and key not in self._assigned:
            # The list was begun by a push, whose item may have been taken out again.
            reference = codec.EMPTY_LIST
            if encoded == reference:
                found.append(Set(key, reference, only_if_missing=True))
        else:
            reference = b""
        if encoded != reference:
            appended = self._find_appended(key, reference, encoded)
            if appended is None and isinstance(stored, bytes):
                # Another version of the encoder, or another program, spells it differently.
                reference = codec.respell(reference)
                appended = (
                    [] if encoded == reference else self._find_appended(key, reference, encoded)
                )
            if appended is None:
                found = [Set(key, encoded)]
            else:
                found.extend(appended)
        self._check(key, value, encoded, found, path)
        return found, encoded

    def _find_appended(self, key: str, reference: bytes, encoded: bytes) -> list[Push] | None:
        """Return the pushes that make *encoded* of *reference*; None where none can."""
        if not codec.is_list(reference):
            return None
        pushes, expected = [], reference
        if key in self._pushes:
            pushes, pushed = self._encode_pushes(key), {key: reference}
            apply_operations(pushed, pushes)
            expected = pushed[key]
        items = codec.appended(expected, encoded)
        if items is None and pushes:
            pushes = []
            items = codec.appended(reference, encoded)
        return None if items is None else [*pushes, *(Push(key, item) for item in items)]

    def _encode_pushes(self, key: str) -> list[Push]:
        path = codec.child_path("state", key)
        return [
            Push(key, codec.encode_item(pushed.value, path), pushed.max_records)
            for pushed in self._pushes[key]
        ]

    def _check(
        self, key: str, value: Any, encoded: bytes, found: list[Operation], path: str
    ) -> None:
        """Refuse what JSON cannot hold, in as little of the value as may be new."""
        # NaN is encoded as null. Without one in what is stored, only what is new may hold it.
        nullable = key not in self._without_null and codec.may_hold_null(encoded)
        if found:
            self._without_null.discard(key)
        if self._checked.get(key) == encoded and not nullable:
            return
        if nullable or any(isinstance(operation, Set) for operation in found):
            codec.check(value, encoded, path)
        else:
            first = len(value) - len(found) if found else 0
            for index, operation in enumerate(found, first):
                # A window may have taken the item away again.
                if index >= 0 and isinstance(operation, Push):
                    codec.check(value[index], operation.value, f"{path}[{index}]")
        self._checked[key] = encoded

    def _changes_when_degraded(self) -> Changes:
        changes = Changes(encoded=self._encode_in_hand())
        expected = dict(self._seen)
        for operation in self._safe:
            if isinstance(operation, tuple):
                key, pushed = operation
                path = codec.child_path("state", key)
                push = Push(key, codec.encode_item(pushed.value, path), pushed.max_records)
                apply_operations(expected, [push])
                changes.operations.append(push)
            else:
                changes.operations.append(operation)
        changes.lost = [
            key
            for key in dict.fromkeys([*expected, *changes.encoded])
            if expected.get(key) != changes.encoded.get(key)
        ]
        changes.lost += [key for key in self._sent_and_changed() if key not in changes.lost]
        return changes

    def _encode_in_hand(self) -> dict[str, bytes]:
        return {
            key: codec.encode_unchecked(value, codec.child_path("state", key))
            for key, value in self._values.items()
        }

    def _commit_pushes(self, key: str, pushed: list[tuple[Any, bytes]]) -> None:
        self._sent.setdefault(key, []).extend(
            (value, encoded) for value, encoded in pushed if isinstance(value, dict | list)
        )
        # What the list holds now is for the next read to say.
        self._decoded.pop(key, None)
        if self._complete:
            self._base[key] = None


def _append(value: list[Any], pushed: _Pushed) -> None:
    value.append(pushed.value)
    if pushed.max_records is not None:
        del value[: -pushed.max_records]


def _put_back(
    value: list[Any], encoded: Sequence[bytes], sent: Sequence[tuple[Any, bytes]]
) -> None:
    """Put items that were pushed where their copies are now that the list was read.

    Whoever has kept such an item changes the list with it.
    """
    end = len(value)
    for item, as_sent in reversed(sent):
        for index in reversed(range(end)):
            if encoded[index] == as_sent:
                value[index], end = item, index
                break


def _require_list(path: str, is_list: bool) -> None:
    if not is_list:
        raise StateTypeError(f"A push to {path} is not possible: the value there is not a list.")
