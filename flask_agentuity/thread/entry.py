"""One key of a state: what is stored, what the request has in memory, and the difference."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence
from typing import Any, assert_never

from ..document import codec
from ..document.operations import Increment, PopLast, Truncate
from .queued import NOTHING, Queued, QueuedPush, Watched, apply_queued, require_type

logger = logging.getLogger("flask_agentuity.state")


class Stored(enum.Enum):
    """What is known about a stored value that is not in memory."""

    UNKNOWN = "not read yet"
    MISSING = "read, and missing"
    UNFETCHED = "there, but its value was not fetched"


class Status(enum.Enum):
    """Where the value that a request works with comes from."""

    #: There is no value in memory, and nothing has changed.
    IDLE = "idle"
    #: Operations are queued for the save; the value was not read.
    QUEUED = "queued"
    #: The value in memory was read, or replaces one that was read.
    HELD = "held"
    #: The value in memory was assigned without reading.
    ASSIGNED = "assigned"


class Entry:
    """One key. Its status says which of the attributes are used.

    The defaults are attributes of the class: most entries of a request never change, and
    making one has to be cheap.
    """

    status: Status = Status.IDLE
    #: The app has looked up the key, so a value that it assigns may depend on what it saw.
    looked_at: bool = False
    #: The key was deleted; a Delete comes before everything else.
    removed: bool = False
    value: Any = NOTHING
    #: HELD: what the value was made from; None: from a missing key.
    base: bytes | None = None
    #: Where the items of ``base`` are stored; None: where ``base`` has them.
    places: tuple[int | None, ...] | None = None
    uncertain: bool = False
    #: HELD, from a missing key: what is stored if the key is still missing.
    default: bytes | None = None
    #: Queued operations, in order. HELD: those that the difference cannot express.
    queue: list[Queued] | tuple[()] = ()
    #: The length of the list in memory when it was taken, assigned, or pushed to.
    length: int = 0
    #: HELD: how many items ``base`` has.
    base_length: int = 0
    #: The functions passed to ``change()``, in order, and the encoded result of the last one.
    functions: Sequence[Callable[[Any], Any]] = ()
    function_result: bytes | None = None
    watched: Watched | None = None
    #: The value as the store decoded it anyway, for the first reader.
    decoded: Any = NOTHING
    without_null: bool = False
    #: The encoding that was last found to be valid JSON.
    checked: bytes | None = None
    _path: str = ""

    def __init__(self, key: str, stored: bytes | Stored = Stored.UNKNOWN, since: int = 0) -> None:
        """Start with what is known to be stored, at version *since* of the thread."""
        self.key = key
        self.stored = stored
        #: The version of the thread that ``base`` is from.
        self.since = since

    @property
    def path(self) -> str:
        """The name of the key in errors and logs."""
        if not self._path:
            self._path = codec.child_path("state", self.key)
        return self._path

    @property
    def read_as(self) -> bytes | None:
        """What the value was read as; None if it was not read, or is missing."""
        if self.base is not None:
            return self.base
        return self.stored if isinstance(self.stored, bytes) else None

    @property
    def in_memory(self) -> bool:
        """Whether there is a value in memory."""
        return self.value is not NOTHING

    @property
    def exists(self) -> bool:
        """Whether the state has the key, as far as known."""
        if self.in_memory or self._is_created_by_queue():
            return True
        return not self.removed and (
            isinstance(self.stored, bytes) or self.stored is Stored.UNFETCHED
        )

    def take(self, stored: Any, thread_id: str | None) -> Any:
        """Take the decoded value (NOTHING: missing) into memory, with what was queued.

        :raises KeyError: if the key is missing and nothing queued creates it.
        """
        self.looked_at = True
        self.base_length = self.length = len(stored) if isinstance(stored, list) else 0
        value = stored
        if self.queue or self.watched is not None:
            value = self._with_queue(stored, thread_id)
            self.length = len(value) if isinstance(value, list) else 0
        if value is NOTHING:
            self.queue = ()
            raise KeyError(self.key)
        self.watched = None
        self.value = value
        if self.removed:
            # A Delete and then this value: an assignment.
            self.status, self.removed = Status.ASSIGNED, False
            self.queue = ()
        else:
            self.status = Status.HELD
            self.base = self.stored if isinstance(self.stored, bytes) else None
            self.places, self.uncertain, self.default = None, False, None
            if self.queue:
                self._keep_queue_in_memory()
        return value

    def _with_queue(self, stored: Any, thread_id: str | None) -> Any:
        if stored is not NOTHING and not isinstance(stored, list):
            self._skip_list_operations(thread_id)
        elif stored is not NOTHING and self.watched is not None:
            self._put_watched_back(stored)
        value = stored
        for operation in self.queue:
            value = apply_queued(operation, value)
        return value

    def assign(self, value: Any, encoded: bytes, *, after_clear: bool) -> None:
        """Replace the value. It is an edit if the app has seen the earlier one."""
        known = isinstance(self.stored, bytes)
        if self.status is Status.HELD or (self.removed and self.base is not None):
            self.status = Status.HELD
        elif self.looked_at and not self.removed and known:
            self._hold_stored()
        elif (
            self.looked_at
            and not self.removed
            and not after_clear
            and self.stored is Stored.MISSING
        ):
            self.hold_default(value, codec.EMPTY_LIST if isinstance(value, list) else None)
        else:
            self.status, self.base = Status.ASSIGNED, None
        self.removed = False
        self.value, self.checked = value, encoded
        self.length = len(value) if isinstance(value, list) else 0
        self._forget_queue()

    def hold_default(self, value: Any, default: bytes | None) -> None:
        """Give a missing key *value*; *default* is stored if the key is still missing then."""
        self.status, self.value, self.base, self.places = Status.HELD, value, None, None
        self.default, self.base_length = default, 0
        self.length = len(value) if isinstance(value, list) else 0
        self._forget_queue()

    def delete(self) -> None:
        """Remove the key. Its former value is kept, in case it is assigned again."""
        if self.status is not Status.HELD:
            self.base = None
        self.status, self.value = Status.IDLE, NOTHING
        self.removed = self.stored is not Stored.MISSING
        self._forget_queue()

    def apply(self, operation: Queued) -> None:
        """Change the value in memory, or queue the operation for the save.

        :raises StateTypeError: if it is known that the value has another type.
        """
        if self.in_memory:
            require_type(operation, self.value, self.key)
            self._apply_in_memory(operation)
            return
        if isinstance(self.stored, bytes) and not self.removed:
            require_type(operation, codec.decode(self.stored), self.key)
        self.status = Status.QUEUED
        self._enqueue(operation)

    def _apply_in_memory(self, operation: Queued) -> None:
        if isinstance(self.value, tuple):
            self.value = list(self.value)
        if self.status is Status.HELD:
            match operation:
                case QueuedPush():
                    if self.queue or not operation.is_plain:
                        self._queue_behind_appended(operation)
                case Increment():
                    self._enqueue(operation)
                case Truncate() | PopLast():
                    pass
                case _:
                    assert_never(operation)
        self.value = apply_queued(operation, self.value)
        if self.queue and isinstance(self.value, list):
            self.length = len(self.value)

    def _queue_behind_appended(self, pushed: QueuedPush) -> None:
        # Items that the app has appended come before this push and its window.
        first = self.length if self.queue else self.base_length
        self._enqueue(*map(QueuedPush, self.value[first:]))
        if not pushed.is_in(self.value):
            self._enqueue(pushed)

    def changed_watched(self) -> list[int]:
        """Return which of the watched items have changed since they were saved."""
        if self.watched is None:
            return []
        path = self.path
        return [
            index
            for index, item in enumerate(self.watched.items)
            if codec.encode_item(item, path) != self.watched.encoded[index]
        ]

    def _hold_stored(self) -> None:
        assert isinstance(self.stored, bytes)
        self.status, self.base, self.places = Status.HELD, self.stored, None
        self.uncertain, self.default = False, None
        is_list = codec.is_list(self.stored)
        self.base_length = len(codec.decode(self.stored)) if is_list else 0

    def _enqueue(self, *operations: Queued) -> None:
        self.queue = self.queue or []
        self.queue.extend(operations)

    def _forget_queue(self) -> None:
        self.without_null = False
        self.queue = ()
        self.functions = ()
        self.function_result = None
        self.watched = None

    def _is_created_by_queue(self) -> bool:
        return any(isinstance(operation, QueuedPush | Increment) for operation in self.queue)

    def _skip_list_operations(self, thread_id: str | None) -> None:
        """Drop operations that need a list, because the value is not one."""
        kept: list[Queued] = [one for one in self.queue if isinstance(one, Increment)]
        if len(kept) < len(self.queue):
            logger.warning(
                "A push to %s of thread %s was skipped: the value stored there is not a list.",
                self.path,
                thread_id,
                extra={"thread_id": thread_id},
            )
        self.queue = kept

    def _keep_queue_in_memory(self) -> None:
        """Forget operations that the difference between base and value will include at the save."""
        if all(
            isinstance(one, Truncate | PopLast) or (isinstance(one, QueuedPush) and one.is_plain)
            for one in self.queue
        ):
            self.queue = ()
            if self.base is None:
                self.default = codec.EMPTY_LIST

    def _put_watched_back(self, value: list[Any]) -> None:
        """Replace the copies of pushed items in the list, which was just read, with the items."""
        assert self.watched is not None and isinstance(self.stored, bytes)
        encoded = codec.items_of(self.stored)
        end = len(encoded)
        pairs = list(zip(self.watched.items, self.watched.encoded, strict=True))
        for item, sent in reversed(pairs):
            for index in reversed(range(end)):
                if encoded[index] == sent:
                    value[index], end = item, index
                    break


def encode_value(entry: Entry) -> bytes:
    """Return the value in memory, encoded as by :func:`.codec.encode_unchecked`."""
    encoded = codec.encode_plain(entry.value)
    # Most requests never need the path.
    return codec.encode_unchecked(entry.value, entry.path) if encoded is None else encoded
