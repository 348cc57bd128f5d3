"""All keys of a state as one request has them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

from ..document import codec, packed
from ..document.codec import Snapshot
from ..document.operations import Clear, MetadataOperation, Operation, Push
from ..stores.writing import Written
from .committing import commit_change
from .difference import KeyChange, find_change
from .entry import Entry, Status, Stored, encode_value
from .queued import NOTHING
from .unopened import Unopened


@dataclass(slots=True)
class Changes:
    """What a save has to send."""

    operations: list[Operation] = field(default_factory=list)
    keys: dict[str, KeyChange] = field(default_factory=dict)
    #: The keys for which the store must say where pushed items are.
    counted: list[str] = field(default_factory=list)
    metadata: MetadataOperation | None = None
    #: The paths of changes after a failed read, which may not be sent.
    lost: list[str] = field(default_factory=list)

    @property
    def all_operations(self) -> list[Operation]:
        """The operations of the state and of the metadata."""
        if self.metadata is None:
            return self.operations
        return [*self.operations, self.metadata]


class Entries:
    """The entries by their keys, in the order of the stored state."""

    #: Whether the names of all stored keys are known.
    is_complete = False
    #: Whether the state was cleared since the last save.
    is_cleared = False
    # Whether the app has seen which keys there are.
    _are_listed = False
    _version = 0
    #: The stored keys, if they are many: only those that are changed get entries.
    unopened: Unopened | None = None

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def find(self, key: str) -> Entry | None:
        """Return the entry of a key; None if there is none, or the key is unopened."""
        return self._entries.get(key)

    def known(self, key: str) -> Entry | None:
        """Return the entry of a key, also of one that was unopened; None if nothing is known."""
        entry = self._entries.get(key)
        if entry is None and self.unopened is not None:
            entry = self.unopened.open(key)
            if entry is not None:
                self._entries[key] = entry
        return entry

    def get(self, key: str) -> Entry:
        """Return the entry of a key, which is created if nothing is known about it."""
        entry = self._entries.get(key)
        if entry is None and not key.isascii():
            # Unpaired surrogates are replaced before it is stored.
            key = codec.require_key(key)
            entry = self._entries.get(key)
        if entry is None and self.unopened is not None:
            entry = self.known(key)
        if entry is None:
            stored = Stored.MISSING if self.is_complete else Stored.UNKNOWN
            entry = self._entries[key] = Entry(key, stored, self._version)
        return entry

    def read_as(self, key: str) -> bytes | None:
        """Return what the value of a key was read as; None if it was not read, or is missing."""
        if (entry := self._entries.get(key)) is not None:
            return entry.read_as
        return None if self.unopened is None else self.unopened.state.get(key)

    def has_unfetched(self) -> bool:
        """Return whether any value is known by its name only."""
        if any(one.stored is Stored.UNFETCHED for one in self):
            return True
        return self.unopened is not None and any(self._unfetched(self.unopened))

    def is_empty(self) -> bool:
        """Return whether the state has no key, as far as known."""
        if any(entry.in_memory or entry.exists for entry in self):
            return False
        return self.unopened is None or all(key in self._entries for key in self.unopened.state)

    def stored_size(self) -> int | None:
        """Return the size of what is stored in the document; None if a value is not known."""
        if not self.is_complete or self.is_cleared:
            return None
        unopened = self._still_unopened(self.unopened) if self.unopened is not None else ()
        stored = ((entry.key, entry.stored) for entry in self)
        size = 0
        for key, encoded in chain(unopened, stored):
            match encoded:
                case bytes():
                    size += codec.entry_size(codec.encode_key(key), len(encoded))
                case Stored.MISSING:
                    pass
                case _:
                    return None
        return size

    def names(self) -> Iterable[str]:
        """Return the keys that the state has now, in their order."""
        self._are_listed = True
        if self.unopened is None:
            return [key for key, entry in self._entries.items() if entry.exists]
        state = self.unopened.state
        missing = {key for key, entry in self._entries.items() if not entry.exists}
        added = [key for key, entry in self._entries.items() if entry.exists and key not in state]
        # What is stored does not change, so a key is made when its turn comes.
        return chain((key for key in state if key not in missing), added)

    def count(self) -> int:
        """Return how many keys the state has."""
        self._are_listed = True
        existing = [entry.key for entry in self if entry.exists]
        if self.unopened is None:
            return len(existing)
        state = self.unopened.state
        opened = sum(key in state for key in self._entries)
        return len(state) - opened + len(existing)

    def clear(self) -> None:
        """Forget all keys; a Clear comes before everything else."""
        self._entries.clear()
        self.unopened = None
        self.is_complete = self.is_cleared = True

    def learn(self, snapshot: Snapshot, keys: Collection[str] | None) -> None:
        """Record what a read of *keys* (None: of all) has found."""
        if self.is_complete:
            for key in self._learn_unfetched(snapshot) if keys is None else keys:
                _learn_key(self.get(key), snapshot)
            return
        self.is_complete, self._version = True, snapshot.version
        if len(snapshot.encoded) > packed.MANY_KEYS:
            self._learn_many(snapshot)
            return
        others = self._entries
        self._entries = entries = _entries_of(snapshot)
        for key, entry in others.items():
            if entry.stored is Stored.UNKNOWN:
                _learn_key(entry, snapshot)
            entries[key] = entry

    def forget_unseen(self) -> bool:
        """Forget what was read, and keep changes; False if the app has seen what was read."""
        if self.is_cleared or not self.is_complete:
            return True
        if self._are_listed or any(one.looked_at or one.status is Status.HELD for one in self):
            return False
        if self.unopened is not None and self.unopened.is_seen:
            return False
        entries = self if self.unopened is None else self._in_order(self.unopened, ())
        changed = [
            one
            for one in entries
            if one.status is not Status.IDLE or one.removed or one.watched is not None
        ]
        self._entries, self.unopened = {one.key: one for one in changed}, None
        for one in changed:
            one.stored, one.decoded = Stored.UNKNOWN, NOTHING
        self.is_complete, self._version = False, 0
        return True

    def find_changes(self) -> Changes:
        """Return the changes.

        :raises StateNotSerializable: if a value was changed to something that is not JSON.
        """
        changes = Changes()
        if self.is_cleared:
            changes.operations.append(Clear())
        for entry in self._used():
            if entry.status is Status.IDLE and not entry.removed and entry.watched is None:
                continue
            changes.keys[entry.key] = change = find_change(entry)
            if isinstance(entry.value, list | tuple):
                change.length = len(entry.value)
            operations = change.operations
            changes.operations += operations
            if change.pushed or any(isinstance(one, Push) for one in operations):
                changes.counted.append(entry.key)
        return changes

    def commit(self, changes: Changes, written: Written | None) -> None:
        """Record that *changes* are stored."""
        self.is_cleared = False
        for key, change in changes.keys.items():
            commit_change(self._entries[key], change, written)

    def encode(self) -> dict[str, bytes]:
        """Return the values in memory, encoded."""
        return {entry.key: encode_value(entry) for entry in self if entry.in_memory}

    def degrade(self, thread_id: str) -> None:
        """Drop what was computed from the store, which turned out to be unreadable."""
        if self.unopened is not None:
            opened = self._in_order(self.unopened, self.unopened.open_read())
            self._entries, self.unopened = {one.key: one for one in opened}, None
        for entry in self:
            entry.stored, entry.decoded, entry.without_null = Stored.MISSING, NOTHING, False
            entry.removed, entry.base = False, None
            if entry.status is Status.QUEUED:
                with suppress(KeyError):
                    entry.take(NOTHING, thread_id)
            if entry.in_memory:
                entry.status = Status.ASSIGNED
                entry.queue = ()
            else:
                entry.status = Status.IDLE
        self.is_complete, self.is_cleared = True, False

    def _used(self) -> Iterable[Entry]:
        """Return the entries of the keys that the app may have changed, in their order."""
        if self.unopened is None:
            return self._entries.values()
        return self._in_order(self.unopened, self.unopened.open_changed())

    def _learn_many(self, snapshot: Snapshot) -> None:
        """Record what the first read has found, without an entry for each key."""
        for entry in self:
            if entry.stored is Stored.UNKNOWN:
                _learn_key(entry, snapshot)
        self.unopened = Unopened(snapshot.encoded, snapshot.version)

    def _learn_unfetched(self, snapshot: Snapshot) -> list[str]:
        """Return the keys that need an entry to record the values that a read of all has found."""
        keys = [one.key for one in self if one.stored is Stored.UNFETCHED]
        if self.unopened is not None and not self.unopened.replace(snapshot):
            keys += self._unfetched(self.unopened)
        return keys

    def _unfetched(self, unopened: Unopened) -> Iterator[str]:
        return (key for key in unopened.state.unfetched() if key not in self._entries)

    def _still_unopened(self, unopened: Unopened) -> Iterator[tuple[str, bytes | None]]:
        return (item for item in unopened.state.items() if item[0] not in self._entries)

    def _in_order(self, unopened: Unopened, opened: Iterable[Entry]) -> list[Entry]:
        """Return the entries in the order of their keys, with those that are opened now."""
        self._entries.update({one.key: one for one in opened})
        place_of, last = unopened.state.place_of, len(unopened.state)
        places = {key: last if (at := place_of(key)) is None else at for key in self._entries}
        return sorted(self, key=lambda entry: places[entry.key])


def _entries_of(snapshot: Snapshot) -> dict[str, Entry]:
    version, without_null = snapshot.version, snapshot.without_null
    entries = {}
    for key, encoded in snapshot.encoded.items():
        entries[key] = entry = Entry(key, Stored.UNFETCHED if encoded is None else encoded, version)
        if key in without_null:
            entry.without_null = True
    for key, value in snapshot.decoded.items():
        if key in entries:
            entries[key].decoded = value
    return entries


def _learn_key(entry: Entry, snapshot: Snapshot) -> None:
    key = entry.key
    entry.without_null = key in snapshot.without_null
    if entry.in_memory:
        return
    entry.since = snapshot.version
    entry.decoded = snapshot.decoded.get(key, NOTHING)
    if key not in snapshot.encoded:
        entry.stored = Stored.MISSING
        return
    encoded = snapshot.encoded[key]
    entry.stored = Stored.UNFETCHED if encoded is None else encoded
