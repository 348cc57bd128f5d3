"""The contents of a thread as one request has them: read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import Any, assert_never

from ..document import codec
from ..document.codec import Snapshot
from ..document.operations import Increment, PopLast, Truncate
from ..errors import StateNotSerializable, StoreError
from ..stores.writing import Written
from .degraded import Degraded
from .difference import KeyChange
from .entries import Changes, Entries
from .entry import Entry, Status, Stored, encode_value
from .metadata import Metadata
from .queued import NOTHING, Queued, QueuedPush
from .source import Source


class Contents:
    """The state and the metadata of one thread. Callers hold the lock of the source."""

    #: Whether the state was used since the last search for changes.
    used = False
    # What was written, and is not entered into the entries yet: most requests end with a save.
    _written: tuple[Changes, Written | None] | None = None
    _degraded: Degraded | None = None
    # The failure that is being reported to listeners.
    _failure: StoreError | None = None

    def __init__(self, source: Source) -> None:
        #: Where they are read from, and the state of the thread.
        self.source = source
        self._entries = Entries()
        self.metadata = Metadata()

    def __del__(self) -> None:
        # Nothing can save the changes any more, for example those of a background thread.
        if (self.used or self.metadata.used) and is_dirty(self):
            self.source.tell_dropped()

    @property
    def entries(self) -> Entries:
        """The keys of the state."""
        if self._written is not None:
            self._enter_written(*self._written)
        return self._entries

    @property
    def thread_id(self) -> str:
        """The thread's id."""
        return self.source.known_id or self.source.unguarded_id

    @property
    def is_loaded(self) -> bool:
        """Whether it is known what the state holds, by a read or after ``clear()``."""
        return self.entries.is_complete and self._degraded is None

    @property
    def is_degraded(self) -> bool:
        """Whether a read has failed: what is computed from then on is not saved."""
        return self._degraded is not None

    def get(self, key: str) -> Any:
        """Return the value of a key, which is read if necessary.

        :raises KeyError: if the state does not have the key.
        """
        self.used = True
        entries = self.entries
        entry = entries.find(key)
        if entry is None:
            if not isinstance(key, str):
                raise KeyError(key)
            if not entries.is_complete:
                self.load((key,))
            entries = self.entries
            unopened = entries.unopened
            if unopened is not None and (value := unopened.read(key)) is not NOTHING:
                return value
            entry = entries.get(key)
        if entry.value is not NOTHING:
            return entry.value
        stored = NOTHING if entry.removed else self._fetch(entry)
        # After a failed read, everything that can be in memory is there.
        return entry.value if entry.in_memory else entry.take(stored, self.source.known_id)

    def has(self, key: str) -> bool:
        """Return whether the state has a key."""
        unopened = self.entries.unopened
        if unopened is not None and self.entries.find(key) is None and unopened.ask(key):
            return True
        entry = self.entries.get(key)
        if entry.stored is Stored.UNKNOWN and not entry.exists and not entry.removed:
            # Code that asks for a key usually reads it next.
            self.load((entry.key,))
            entry = self.entries.get(key)
        entry.looked_at = True
        return entry.exists

    def assign(self, key: str, value: Any, encoded: bytes) -> None:
        """Assign a key."""
        self.used = True
        entry = self.entries.get(key)
        if isinstance(value, dict | list) and entry.in_memory and entry.value is value:
            # ``state[k] += [...]`` has changed it in place already: an append, no assignment.
            entry.checked = encoded
            return
        entry.assign(value, encoded, after_clear=self.entries.is_cleared)

    def change(self, key: str, function: Callable[[Any], Any], value: Any, encoded: bytes) -> None:
        """Assign the result of *function* for a key whose value was read."""
        entry = self.entries.get(key)
        if entry.status is Status.HELD and not entry.queue:
            before = entry.function_result if entry.functions else entry.base
            # It can be applied again if nothing else has changed the value.
            repeatable = encode_value(entry) == before
        else:
            repeatable = not entry.in_memory and not entry.removed and not self.entries.is_cleared
        functions = [*entry.functions, function] if repeatable else []
        self.assign(key, value, encoded)
        entry.functions, entry.function_result = functions, encoded

    def delete(self, key: str) -> None:
        """Delete a key.

        :raises KeyError: if the state does not have it.
        """
        self.used = True
        entry = self.entries.known(key)
        if not self.entries.is_complete and not (entry and entry.exists):
            self.load(())
        entry = self.entries.known(key)
        if entry is None or not entry.exists:
            raise KeyError(key)
        entry.delete()

    def clear(self) -> None:
        """Remove every key, without reading."""
        self.entries.clear()
        self.used = True

    def default(self, key: str, value: Any, encoded: bytes) -> Any:
        """Return the value of a key, which becomes *value* if it is missing."""
        with suppress(KeyError):
            return self.get(key)
        entry = self.entries.get(key)
        if entry.removed or self.entries.is_cleared:
            entry.assign(value, encoded, after_clear=True)
        else:
            entry.hold_default(value, encoded)
            entry.checked = encoded
        return value

    def apply(self, key: str, operation: Queued) -> None:
        """Push, increment, truncate or pop, without reading.

        :raises StateTypeError: if it is known that the value has another type.
        """
        self.used = True
        entry = self.entries.get(key)
        if self._degraded is not None and not entry.in_memory:
            initial = _initial(operation)
            if initial is not NOTHING:
                entry.assign(initial, codec.encode(initial), after_clear=True)
        if self._degraded is None or entry.in_memory:
            entry.apply(operation)
        if self._degraded is not None:
            self._degraded.later.append((key, operation))

    def load(self, keys: Collection[str] | None = ()) -> None:
        """Read, with the values of *keys* (None: of all of them)."""
        if self._degraded is not None:
            return
        if self._failure is not None:
            raise self._failure
        try:
            snapshot = self.source.read(keys) or Snapshot({})
        except StoreError as error:
            self.fail(error)
            return
        self.metadata.learn(snapshot.metadata)
        self.entries.learn(snapshot, keys)
        self.source.tell_restored()

    def fail(self, error: StoreError) -> None:
        """Continue without what could not be read, or raise *error*, as the policy says.

        From now on, only operations that need no reading are saved.
        """
        if self._failure is not None:
            # A listener for the failure uses the state, which fails again.
            raise self._failure
        self._failure = error
        try:
            self.source.tell_restore_failed(error)
        finally:
            self._failure = None
        safe = self.entries.find_changes().operations
        self.metadata.degrade()
        self.entries.degrade(self.thread_id)
        self._degraded = Degraded(safe, self.entries.encode())

    def find_changes(self) -> Changes:
        """Return the changes that make the store match what the request has in memory. Reads
        nothing.

        :raises StateNotSerializable: if a value was changed to something that is not JSON.
        """
        changes = Changes() if self._degraded else self.entries.find_changes()
        if self._degraded is not None:
            encoded = self.entries.encode()
            changes.operations, lost = self._degraded.find_operations(encoded)
            lost += [one.key for one in self.entries if one.changed_watched()]
            changes.lost = [codec.child_path("state", key) for key in dict.fromkeys(lost)]
            changes.keys = {key: KeyChange(value) for key, value in encoded.items()}
            if self.metadata.is_lost():
                changes.lost.append("metadata")
        changes.metadata = self.metadata.find_operation()
        return changes

    def commit(self, changes: Changes, written: Written | None) -> None:
        """Record that *changes* are stored; *written* is None if that is uncertain."""
        if self._degraded is not None:
            self.metadata.commit(changes.metadata)
            encoded = {key: change.encoded or b"" for key, change in changes.keys.items()}
            self._degraded = Degraded([], encoded)
            return
        if changes.metadata is not None:
            self.metadata.commit(changes.metadata)
        if self._written is not None:
            self._enter_written(*self._written)
        self._written = changes, written

    def _enter_written(self, changes: Changes, written: Written | None) -> None:
        self._written = None
        self._entries.commit(changes, written)

    def become_deleted(self) -> None:
        """Become the contents of a destroyed thread: empty, and without changes."""
        self.source.become_deleted()
        self._entries, self.metadata, self._degraded = Entries(), Metadata(), None
        self._written = None
        self.used = False

    def forget(self) -> None:
        """Forget everything, so that it is read again."""
        self.source.begin_again()
        self._entries, self.metadata = Entries(), Metadata()
        self._written = self._degraded = None
        self.used = False

    def _fetch(self, entry: Entry) -> Any:
        """Return the decoded stored value of a key."""
        if not isinstance(entry.stored, bytes):
            if entry.stored is not Stored.MISSING:
                self.load((entry.key,))
            if not isinstance(entry.stored, bytes):
                return NOTHING
        if entry.decoded is not NOTHING:
            value, entry.decoded = entry.decoded, NOTHING
            return value
        try:
            return codec.decode(entry.stored)
        except ValueError as error:
            self.fail(codec.damaged(self.thread_id, f"{entry.path}: {error}"))
            return NOTHING


def load_metadata(contents: Contents) -> None:
    """Read the metadata unless it is known."""
    # A state that was cleared needs no reading; its metadata does.
    if not (contents.metadata.known and contents.entries.is_complete):
        contents.load()


def read_metadata(contents: Contents) -> dict[str, Any]:
    """Return the metadata, which is read unless it is known or assigned."""
    metadata = contents.metadata
    if metadata.is_unread and not contents.source.destroyed:
        load_metadata(contents)
    try:
        return metadata.get()
    except ValueError as error:
        if not contents.is_degraded:
            contents.fail(codec.damaged(contents.thread_id, f"metadata: {error}"))
        metadata.leave_out_damaged()
        return metadata.get()


def forget_unseen(contents: Contents) -> bool:
    """Forget what was read if the app has not seen any of it; otherwise return False."""
    return contents.is_degraded or contents.entries.forget_unseen()


def encode_for(contents: Contents, key: str, value: Any) -> bytes:
    """Encode a value of a key. It may have unusual JSON if the value that was read had it.

    :raises StateNotSerializable: if it is not JSON.
    """
    stored = contents.entries.read_as(key)
    return codec.encode_again(value, codec.child_path("state", key), stored)


def names(contents: Contents) -> Iterable[str]:
    """Return the keys that there are now, in their order."""
    if not contents.entries.is_complete or contents.entries.has_unfetched():
        # Iteration needs all values, as of one moment, so they are read at once.
        contents.load(None)
    return contents.entries.names()


def count(contents: Contents) -> int:
    """Return the number of keys."""
    if not contents.entries.is_complete:
        contents.load()
    return contents.entries.count()


def encode_all(contents: Contents) -> Iterator[tuple[str, bytes]]:
    """Yield every key with its value as it is now, encoded."""
    for key in names(contents):
        yield key, encode_for(contents, key, contents.get(key))


def is_dirty(contents: Contents) -> bool:
    """Return whether a save would have something to do. Reads nothing."""
    try:
        changes = contents.find_changes()
    except StateNotSerializable:
        return True
    return bool(changes.all_operations or changes.lost)


def _initial(operation: Queued) -> Any:
    """Return the value that an operation gives a missing key before it applies; NOTHING: none."""
    match operation:
        case QueuedPush():
            return []
        case Increment():
            return 0
        case Truncate() | PopLast():
            return NOTHING
        case _:
            assert_never(operation)


def is_known_empty(contents: Contents) -> bool:
    """Return whether it is known, without reading, that nothing is stored of the thread."""
    source, metadata = contents.source, contents.metadata
    if source.destroyed:
        return True
    was_empty = source.is_new or bool(source.was_missing)
    if not source.saved:
        return was_empty
    if source.entries_size:
        return False
    if not contents.is_loaded:
        return False
    if not contents.entries.is_empty():
        return False
    return metadata.is_empty and (was_empty or not metadata.is_unread)
