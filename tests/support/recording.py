"""A store that notes its calls and fails when it is told to, and a thread that stands alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from flask_agentuity import Thread
from flask_agentuity.document import codec
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operations import MetadataOperation, Operation, ReplaceMetadata
from flask_agentuity.errors import AgentuityError, StoreError
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.writing import Conflict, Write, Written
from flask_agentuity.thread.source import Source

THREAD_ID = "thrd_0123456789abcdef0123456789abcdef"


class RecordingStore(MemoryStore):
    """A real memory store. With *names_only* it fetches no value that was not asked for."""

    def __init__(self, *, names_only: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.names_only = names_only
        self.reads: list[Collection[str] | None] = []
        self.merges: list[tuple[list[Operation], Mapping[str, Any] | None]] = []
        self.deletes: list[str] = []
        #: What the next calls raise, in order; None lets one pass.
        self.read_errors: list[Exception | None] = []
        self.merge_errors: list[Exception | None] = []
        #: Called in the middle of each merge.
        self.during_merge: Callable[[], object] = lambda: None
        #: Keys whose stored bytes come back damaged.
        self.damaged: set[str] = set()
        #: What comes back as the stored metadata.
        self.damaged_metadata: bytes | None = None

    @property
    def calls(self) -> tuple[int, int]:
        """How many reads and merges there were."""
        return len(self.reads), len(self.merges)

    @property
    def sent(self) -> list[Operation]:
        """The operations of all merges."""
        return [operation for operations, _ in self.merges for operation in operations]

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        self.reads.append(keys)
        if self.read_errors and (error := self.read_errors.pop(0)):
            raise error
        snapshot = super().read(thread_id, keys)
        if snapshot is not None:
            encoded = snapshot.encoded = dict(snapshot.encoded)
            for key in encoded:
                if key in self.damaged:
                    encoded[key] = b'{"cut off'
                if self.names_only and keys is not None and key not in keys:
                    encoded[key] = None
            if self.damaged_metadata is not None:
                snapshot.metadata = self.damaged_metadata
        return snapshot

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        operations: list[Operation] = [
            one for one in write.operations if not isinstance(one, MetadataOperation)
        ]
        metadata = [one for one in write.operations if isinstance(one, MetadataOperation)]
        new = codec.decode(new_metadata(metadata[0])) if metadata else None
        self.merges.append((operations, new))
        self.during_merge()
        if self.merge_errors and (error := self.merge_errors.pop(0)):
            raise error
        return super().write(thread_id, write)

    def delete(self, thread_id: str) -> None:
        self.deletes.append(thread_id)
        super().delete(thread_id)

    def forget_calls(self) -> None:
        self.reads.clear()
        self.merges.clear()
        self.deletes.clear()


def new_metadata(operation: MetadataOperation) -> bytes:
    return operation.new if isinstance(operation, ReplaceMetadata) else operation.value


class Watcher:
    """Notes what a thread tells, and lets it go on without what could not be read."""

    def __init__(self, policy: str = "empty") -> None:
        self.policy = policy
        self.told: list[str] = []
        self.errors: list[AgentuityError] = []
        self.on: dict[str, Callable[[Thread], object]] = {}

    def _note(self, what: str, thread: Thread) -> None:
        self.told.append(what)
        if react := self.on.get(what):
            react(thread)

    def thread_touched(self, thread: Thread) -> None:
        self._note("touched", thread)

    def thread_restored(self, thread: Thread) -> None:
        self._note("restored", thread)

    def thread_restore_failed(self, thread: Thread, error: StoreError) -> None:
        self.errors.append(error)
        self._note("restore_failed", thread)
        if self.policy == "raise":
            raise error

    def thread_saved(self, thread: Thread) -> None:
        self._note("saved", thread)

    def thread_save_failed(self, thread: Thread, error: AgentuityError) -> None:
        self.errors.append(error)
        self._note("save_failed", thread)

    def thread_destroyed(self, thread: Thread) -> None:
        self._note("destroyed", thread)

    def changes_dropped(self, source: Source) -> None:
        self.told.append("changes_dropped")

    def call_listener(self, listener: Callable[..., Any], *arguments: Any) -> None:
        listener(*arguments)


def begin(
    store: Any,
    watcher: Watcher | None = None,
    *,
    is_new: bool = False,
    thread_id: str = THREAD_ID,
) -> Thread:
    """Return the thread as another request would have it."""
    return Thread(store, lambda: (thread_id, is_new), watcher or Watcher())


def put(store: Any, state: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
    """Store a state by way of a thread, and forget the calls it took."""
    thread = begin(store)
    thread.state.update(state)
    if metadata is not None:
        thread.metadata = dict(metadata)
    thread.save()
    if isinstance(store, RecordingStore):
        store.forget_calls()


def stored(store: Any) -> dict[str, Any]:
    """Return the state as the next request reads it."""
    thread = begin(store)
    found = dict(thread.state)
    if isinstance(store, RecordingStore):
        store.reads.pop()
    return found
