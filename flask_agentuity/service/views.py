"""What clients that do not merge have seen of their threads."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..document import codec
from ..document.packed import PackedState

#: Seconds for which a view is kept: longer than nearly every request of an agent.
VIEW_SECONDS = 600.0
#: Views that are kept of one thread and connection.
THREAD_VIEWS = 64
#: Bytes of views that one connection keeps at most.
CONNECTION_BYTES = 16 * 1024 * 1024
#: Threads of one connection for which the time of the last restore is kept.
REMEMBERED_THREADS = 2048

# What Python needs for one key besides its text and its value.
_KEY_OVERHEAD = 200


@dataclass(eq=False, slots=True)
class View:
    """What a client knew of a thread at one moment: what it restored, or what it saved.

    ``at`` is the time of the restore, by :func:`time.monotonic`. What was saved has the time
    of the restore that it is based on. It is kept until the next restore, because a request
    may save twice.
    """

    state: Mapping[str, bytes]
    metadata: bytes
    version: int
    at: float
    saved: bool = False
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = _size_of(self.state) + len(self.metadata) + _KEY_OVERHEAD

    @property
    def is_nothing(self) -> bool:
        """Whether a restore found no thread."""
        return not self.saved and not self.state and self.metadata == codec.EMPTY_OBJECT


def _size_of(state: Mapping[str, bytes]) -> int:
    if isinstance(state, PackedState):
        return state.nbytes
    return sum(len(key) + len(value) + _KEY_OVERHEAD for key, value in state.items())


class Budget:
    """Bytes that the connections of a service share."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take *size* bytes. If there are not enough, return False and take nothing."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        """Return *size* bytes that were taken."""
        with self._lock:
            self._left += size


class Views:
    """The views of one connection. They are bounded in number, size and time.

    Requests for different threads use it at once.
    """

    def __init__(self, budget: Budget, limit: int = CONNECTION_BYTES) -> None:
        self._budget = budget
        self._limit = limit
        self._size = 0
        # In the order in which they were added, over all threads.
        self._views: OrderedDict[View, str] = OrderedDict()
        self._of_thread: dict[str, deque[View]] = {}
        self._restored: OrderedDict[str, float] = OrderedDict()
        self._closed = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many views are kept."""
        return len(self._views)

    @property
    def size(self) -> int:
        """How many bytes are kept."""
        return self._size

    def add(self, thread_id: str, view: View) -> None:
        """Keep *view*, and drop older ones if there is no room."""
        with self._lock:
            if self._closed:
                return
            if not view.saved:
                self._restored[thread_id] = view.at
                self._restored.move_to_end(thread_id)
                if len(self._restored) > REMEMBERED_THREADS:
                    self._restored.popitem(last=False)
            kept = self._of_thread.get(thread_id, deque())
            if kept and kept[-1].saved:
                self._drop(kept[-1])
            if len(kept) >= THREAD_VIEWS:
                self._drop(kept[0])
            while self._views and self._size + view.size > self._limit:
                self._drop(next(iter(self._views)))
            while not (enough := self._budget.take(view.size)) and self._views:
                self._drop(next(iter(self._views)))
            if enough and view.size <= self._limit:
                self._size += view.size
                self._views[view] = thread_id
                self._of_thread.setdefault(thread_id, deque()).append(view)
            elif enough:
                self._budget.give_back(view.size)

    def of(self, thread_id: str, now: float) -> list[View]:
        """Return the views of a thread that are not too old, the latest last."""
        self.prune(now)
        with self._lock:
            return list(self._of_thread.get(thread_id, ()))

    def last_restore(self, thread_id: str) -> float | None:
        """Return when the thread was last restored over this connection; None if it never was."""
        with self._lock:
            return self._restored.get(thread_id)

    def remove(self, view: View) -> None:
        """Forget *view*, on which a save was based."""
        with self._lock:
            self._drop(view)

    def prune(self, now: float) -> None:
        """Forget what is too old."""
        with self._lock:
            while self._views and next(iter(self._views)).at <= now - VIEW_SECONDS:
                self._drop(next(iter(self._views)))

    def close(self) -> None:
        """Forget everything, and keep nothing any more: a request may still be in progress."""
        with self._lock:
            self._closed = True
            for view in list(self._views):
                self._drop(view)

    def _drop(self, view: View) -> None:
        thread_id = self._views.pop(view, None)
        if thread_id is None:
            return
        self._size -= view.size
        self._budget.give_back(view.size)
        kept = self._of_thread[thread_id]
        kept.remove(view)
        if not kept:
            del self._of_thread[thread_id]
