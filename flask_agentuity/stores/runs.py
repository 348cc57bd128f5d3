"""Runs: the logs of streamed answers, and what a store must do to keep them.

The output of a run is a log of bytes. The process that runs it appends to the log; readers in
any process read it from any offset. A store that keeps runs has a :class:`RunStore` as
:attr:`ThreadStore.runs <flask_agentuity.ThreadStore.runs>`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NamedTuple

#: How a run can end. ``interrupted``: its worker ended, or lost the turn, before the run ended.
RunStatus = Literal["running", "done", "stopped", "failed", "interrupted"]

#: Seconds after which a running run is removed if nothing was appended to it. More than a day,
#: because clocks may be set by as much.
ABANDONED_SECONDS = 172_800.0


class RunKey(NamedTuple):
    """The key of a run. A run is never found by its own id alone."""

    thread_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class NewRun:
    """A new run.

    ``holder`` has the turn that the run is part of. ``started`` is in seconds since 1970.
    ``keep``: for how many seconds the log is kept after the run has ended.
    """

    key: RunKey
    format: str
    holder: str
    started: float
    keep: float


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it is stored. ``length`` is the number of bytes in its log.

    ``stopping``: it was asked to stop. ``truncated``: its output went on after its
    log had reached the limit.
    """

    key: RunKey
    format: str
    holder: str
    started: float
    status: RunStatus = "running"
    length: int = 0
    stopping: bool = False
    truncated: bool = False

    @property
    def is_running(self) -> bool:
        """Whether more may be appended to its log."""
        return self.status == "running"


@dataclass(frozen=True, slots=True)
class Addition:
    """What is added to a run's log.

    ``at`` is the offset in the log where *data* belongs. ``status`` is None if the run goes
    on; otherwise the run ends with this addition.
    """

    key: RunKey
    at: int
    data: bytes
    status: RunStatus | None = None
    truncated: bool = False


class RunWatch(ABC):
    """Waits for changes of runs that other processes or threads make. One thread uses it.

    Only :meth:`wake` may be called from another thread.
    """

    @abstractmethod
    def wait(self, runs: Collection[RunKey], seconds: float) -> None:
        """Return once one of *runs* may have changed since the last call, or after *seconds*.

        A change includes being appended to, ended, asked to stop or removed. The first call
        returns at once, as does one with a run that was not among those of the last call.

        :raises StoreError: if the store cannot be reached.
        """

    @abstractmethod
    def wake(self) -> None:
        """Make the current or the next :meth:`wait` return at once."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections and files of the watch."""

    def __enter__(self) -> RunWatch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class RunStore(ABC):
    """Keeps the logs of runs.

    All methods may be called from several threads at once, and raise
    :exc:`~flask_agentuity.StoreError` if the store cannot be reached.

    A run whose thread is deleted is deleted with it. An ended run is removed when its time to
    be kept is over; a running one when it was not appended to for
    :data:`ABANDONED_SECONDS`.
    """

    @abstractmethod
    def begin(self, new: NewRun) -> None:
        """Store a run with an empty log. Beginning the same run twice does nothing.

        Another run of the thread that is still running becomes ``interrupted``: its turn was
        lost, or the caller would not have the turn.
        """

    @abstractmethod
    def append(self, additions: Sequence[Addition]) -> Collection[RunKey]:
        """Append to several runs in one step, and end those that have a status.

        Each addition is applied as a whole or not at all, regardless of the others; there is at
        most one for each run. Bytes that are in the log already are not appended again, so an
        addition can be repeated, also together with what has followed it.

        Return the runs that were refused: those that are not there or have ended (except by the
        same addition), and those whose log ends before ``at``.
        """

    @abstractmethod
    def interrupt(self, key: RunKey) -> bool:
        """End a running run as ``interrupted``; later additions are refused.

        False if it is not running.
        """

    @abstractmethod
    def stop(self, key: RunKey) -> bool:
        """Ask a running run to stop: it is then :attr:`~StoredRun.stopping`.

        False if it is not running.
        """

    @abstractmethod
    def look(self, keys: Collection[RunKey]) -> Mapping[RunKey, StoredRun]:
        """Return those of the runs that are stored, without their logs, in one call."""

    @abstractmethod
    def latest(self, thread_id: str) -> StoredRun | None:
        """Return the run of the thread that began last; None if none is stored."""

    @abstractmethod
    def read(self, key: RunKey, after: int = 0, limit: int | None = None) -> bytes:
        """Return bytes of a run's log.

        What :meth:`look` has counted before can be read. At the end of the log, beyond it and
        of a run that is not stored nothing is returned.

        :param after: how many bytes to leave out, at least 0.
        :param limit: how many bytes to return at most; None for all.
        """

    @abstractmethod
    def delete(self, thread_id: str) -> None:
        """Remove all runs of a thread."""

    @abstractmethod
    def watch(self) -> RunWatch:
        """Return a watch that waits for changes; a process needs one."""
