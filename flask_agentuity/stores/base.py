"""The interface of stores, and their base classes."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self

from ..document import codec
from ..document.apply import apply_operations, find_operations
from ..document.codec import Snapshot
from ..document.key_count import MAX_KEYS, require_keys
from ..document.operations import Clear, Delete, Operation, Push, Set, SetMetadata
from ..per_process import PerProcess
from .applying import apply as apply
from .applying import apply_metadata as apply_metadata
from .applying import complete as complete
from .applying import compose_document, is_of_version_1, moved_keys, require_possible_keys
from .expected import Expected
from .moving import MovingStore
from .owners import is_of_owner, with_owner, write_owned
from .runs import RunStore
from .skipped import warn_of_skipped as warn_of_skipped
from .upkeep import Upkeep
from .writing import Conflict, Write, Written, write_merged

#: Seconds without use after which a thread expires: the age of the JavaScript runtime's cookie.
DEFAULT_TTL = 604_800.0

#: Seconds for which a store remembers that a thread was deleted.
TOMBSTONE_SECONDS = 3_600.0

_RENAMED = {"peek": "restore_without_renewing", "adopt": "import_thread"}

# The locks of one process for the writes of a store. The id of a thread determines its lock.
_WRITING_LOCKS = 64


#: The owner of the write that a subclass applies by an overridden merge() or save().
_owner: ContextVar[str | None] = ContextVar("owner", default=None)


@dataclass(slots=True)
class _InThisProcess:
    """What the base class keeps for a store in each process."""

    # Looked up when it is called: gevent may replace it after this module was imported.
    merging: threading.Lock = field(default_factory=lambda: threading.Lock())
    writing: Sequence[threading.Lock] = field(
        default_factory=lambda: [threading.Lock() for _ in range(_WRITING_LOCKS)]
    )


def _follow_renamed_methods(cls: type) -> None:
    """Support the former names of methods in stores that were written for version 1."""
    for former, present in _RENAMED.items():
        if former in vars(cls) and present not in vars(cls):
            setattr(cls, present, vars(cls)[former])


def _place(cls: type, name: str) -> int:
    return next(index for index, each in enumerate(cls.__mro__) if name in vars(each))


class ThreadStore(MovingStore, Upkeep):
    """The base class of stores, which keep the state and metadata of threads as documents.

    A subclass implements :meth:`restore`, :meth:`save` and :meth:`delete`. The :meth:`merge` of
    this class uses a lock of the process: override it if several processes use the store.
    Override :meth:`read` if the store can fetch single keys, and :meth:`write` if it can check
    what edits replace (see :attr:`edits`).

    The methods have to be thread-safe. If a store fails (no connection, a full disk, damaged data),
    it raises :exc:`~flask_agentuity.errors.StoreError`, and does not return None or nothing.
    """

    #: Whether several machines can use it: then they need the same secret for thread ids.
    shared_by_machines = True

    #: Whether :meth:`write` checks what edits replace, gives each write a new version, and keeps
    #: deleted threads deleted. A subclass that overrides :meth:`merge` or :meth:`save` and not
    #: :meth:`write` loses it, so that its own methods are used.
    edits = False

    #: The largest document in bytes; None if the store has no limit, or none that is known.
    max_bytes: int | None = None

    #: The most keys that a state may have; see :exc:`~flask_agentuity.TooManyKeys`. Set it on the
    #: store, or in a subclass.
    max_keys: int = MAX_KEYS

    #: Where the runs of its threads are kept; None if the store keeps no runs. Deleting a thread
    #: deletes its runs.
    runs: RunStore | None = None

    _in_process: PerProcess[_InThisProcess]

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        store = super().__new__(cls)
        # Here because a subclass need not call __init__.
        store._in_process = PerProcess(_InThisProcess)
        return store

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _follow_renamed_methods(cls)
        if cls.edits and "edits" not in vars(cls) and _write_bypasses_its_class(cls):
            cls.edits = False
            cls.write = ThreadStore.write  # type: ignore[method-assign]
        if _place(cls, "delete") < _place(cls, "delete_for"):
            cls.delete_for = ThreadStore.delete_for  # type: ignore[method-assign]

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Apply *operations* in order, all or none, and replace the metadata if it is given.

        A thread with an empty state and empty metadata counts as one that does not exist.

        :raises StateTooLarge: if it would be over the limit; nothing was applied.
        :raises StoreError: if it cannot be written, or what is stored is damaged.
        """
        with self._in_process.get().merging:
            snapshot = codec.split_document(self.restore(thread_id), thread_id) or Snapshot({})
            state = complete(snapshot, thread_id)
            before = len(state)
            apply(thread_id, state, operations)
            require_keys(len(state), self.max_keys, thread_id, before)
            kept = codec.decode(snapshot.metadata) if metadata is None else metadata
            self.save(thread_id, codec.join_document(state), kept)

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        """Apply all operations of *write* in order, or none.

        This implementation is for stores without :attr:`edits`: it reads, compares and calls
        :meth:`merge`, under a lock of the process. It has no versions, and does not know which
        threads were deleted. Override it and set :attr:`edits` if the store can check what edits
        replace.

        :raises ThreadGone: if the thread was deleted after the write's request began, or belongs
            to another owner.
        :raises TurnLost: if the write belongs to a turn that another has taken over.
        :raises StateTooLarge: if it would be over the limit; nothing was applied.
        :raises StoreError: if it cannot be written, or what is stored is damaged.
        """
        self._require_turn(thread_id, write.turn)
        # merge() may take its own lock, so this is another one.
        with self._in_process.get().writing[hash(thread_id) % _WRITING_LOCKS]:
            if self.owners:
                # The class of the store does the write; see KeyedStore.merge().
                token = _owner.set(write.owner)
                try:
                    return self._apply(thread_id, write)
                finally:
                    _owner.reset(token)
            return write_owned(
                thread_id,
                write,
                lambda: self.read(thread_id, ()),
                lambda guarded: self._apply(thread_id, guarded),
            )

    def _require_possible_keys(self, thread_id: str, operations: Sequence[Operation]) -> None:
        require_possible_keys(
            thread_id, operations, self.max_keys, lambda: self.read(thread_id, ())
        )

    def _apply(self, thread_id: str, write: Write) -> Written | Conflict:
        counts = any(
            isinstance(each, Push) and each.key in write.counted for each in write.operations
        )
        if counts or not all(map(is_of_version_1, write.operations)):
            return self._write_difference(thread_id, write)
        operations = [each for each in write.operations if not isinstance(each, SetMetadata)]
        metadata = None
        for each in write.operations:
            if isinstance(each, SetMetadata):
                metadata = codec.decode(each.value)
        self.merge(thread_id, operations, metadata)
        return Written()

    def _write_difference(self, thread_id: str, write: Write) -> Written | Conflict:
        snapshot = self.read(thread_id) or Snapshot({})
        before = complete(snapshot, thread_id)
        state = dict(before)
        applied = apply_operations(state, write.operations, counted=write.counted)
        metadata = apply_metadata(snapshot.metadata, write.operations)
        if applied.conflicts or metadata is None:
            return Conflict(applied.conflicts, applied.assigned_conflicts, metadata is None)
        moved = moved_keys(before, state)
        left = {key: value for key, value in before.items() if key not in moved}
        difference = [*map(Delete, moved), *find_operations(left, state)]
        changed = None if metadata == snapshot.metadata else codec.decode(metadata)
        if difference or changed is not None:
            self.merge(thread_id, difference, changed)
        warn_of_skipped(thread_id, applied.skipped)
        return Written(preceding=applied.preceding, merged=applied.merged)

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        """Return the stored keys and values; None if nothing is stored.

        :param keys: the keys whose values are needed; None for all. A store may leave out the
            values of other keys, but not their names.
        """
        return with_owner(codec.split_document(self.restore(thread_id), thread_id))

    def read_for(
        self, person: str | None, thread_id: str, keys: Collection[str] | None = None
    ) -> Snapshot | None:
        """Like :meth:`read`, but of a thread with another owner, return only the owner.

        The stores of this package override it, so that the time it takes does not reveal whether
        such a thread exists.

        :param person: the id of the current user; None for a guest.
        """
        return self.read(thread_id, keys)

    def delete_for(self, thread_id: str, expected: Expected) -> None:
        """Like :meth:`delete`, but leave a thread that is not the one that the request has used.

        That is a thread with the same id that has another owner, or was started after a deletion.
        This implementation has no versions: it checks the owner and then deletes. For a subclass
        that overrides :meth:`delete` but not this method, this implementation is used.

        :raises TurnLost: if the request has a turn that another has taken over; nothing is deleted.
        :raises StoreError: if the thread cannot be deleted.
        """
        self._require_turn(thread_id, expected.turn)
        if is_of_owner(expected, lambda: self.read(thread_id, ())):
            self.delete(thread_id)

    def for_tenants(self) -> ThreadStore:
        """Return the store in which a thread service keeps the threads of its keys.

        By default, that is the store itself: the threads of all keys are kept in it, with ids that
        contain the key's namespace. A service then refuses other keys beside that of an app, whose
        listings would contain their threads. Override it to keep them apart.
        """
        return self

    def close(self) -> None:
        """Close connections and files. A closed store may not be used again."""


class KeyedStore(ThreadStore):
    """A store that keeps each key of a state separately, and composes documents of them.

    A subclass has :meth:`read`, :meth:`read_without_renewing`, :meth:`write` and :meth:`delete`.
    """

    @abstractmethod
    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None: ...

    @abstractmethod
    def read_without_renewing(self, thread_id: str) -> Snapshot | None:
        """Read everything, without postponing the time at which the thread expires."""

    def restore(self, thread_id: str) -> bytes | None:
        return self._document(thread_id, self.read(thread_id))

    def restore_without_renewing(self, thread_id: str) -> bytes | None:
        return self._document(thread_id, self.read_without_renewing(thread_id))

    def _document(self, thread_id: str, snapshot: Snapshot | None) -> bytes | None:
        if snapshot is None or (not snapshot.encoded and snapshot.metadata == codec.EMPTY_OBJECT):
            return None
        return compose_document(snapshot, thread_id)

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        snapshot = codec.split_document(document, thread_id) or Snapshot({})
        state = complete(snapshot, thread_id)
        self.merge(thread_id, [Clear(), *(Set(key, state[key]) for key in state)], metadata)

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if metadata is not None:
            encoded = codec.encode(dict(metadata), "metadata")
            operations = [*operations, SetMetadata(encoded)]
        write_merged(_ByItself(self), thread_id, Write(operations, owner=_owner.get()))


class _ByItself:
    """A store with its own :meth:`write`, even in a subclass that replaces write() by merge()."""

    edits = True

    def __init__(self, store: KeyedStore) -> None:
        self._store = store
        self._write = next(
            method
            for each in type(store).__mro__
            if (method := vars(each).get("write")) not in (None, ThreadStore.write)
        )

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        return self._store.read(thread_id, keys)

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        written: Written | Conflict = self._write(self._store, thread_id, write)
        return written


def _write_bypasses_its_class(cls: type[ThreadStore]) -> bool:
    """Return whether a class overrides merge or save, but not write."""
    return _place(cls, "write") > min(_place(cls, "merge"), _place(cls, "save"))
