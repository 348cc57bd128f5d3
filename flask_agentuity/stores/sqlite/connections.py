"""The connections of one process to one SQLite file: opened, reused, and not used after a fork."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ...errors import StoreError
from ...per_process import after_fork_in_child
from ..subjects import ALL_THREADS, subject
from .file import open_file
from .journal import Log, is_busy
from .reasons import reason_of

_IDLE_CONNECTIONS = 16
#: Writes between two checks of the length of the write-ahead log.
_WRITES = 64
#: A writer that has tried to begin this many times, about once a millisecond, has waited long.
_MANY_ATTEMPTS = 25


class Connections:
    """The open connections of one process to one file, each used by one thread at a time.

    SQLite forbids using a connection after a fork: idle ones are closed before it, and a child
    does not touch any that it inherits.
    """

    def __init__(self, path: Path, timeout: float, synchronous: str) -> None:
        self._path = path
        self._timeout = timeout
        self._synchronous = synchronous
        self._idle: list[sqlite3.Connection] = []
        # The threads that have a connection in use.
        self._in_use: list[int] = []
        self._forking = False
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)
        #: Held by the thread of this process that writes.
        self.writing = threading.Lock()
        # Stands for the process that the connections belong to.
        self._process = object()
        self._log = Log(path)
        #: Transactions since the length of the write-ahead log was checked.
        self.written = 0
        self._closed = False
        _all_connections.add(self)

    def __del__(self) -> None:
        # Apps of tests often close nothing. Since Python 3.13, sqlite3 warns of that.
        self._close_idle()

    def read(self, thread_id: str = ALL_THREADS) -> ReadConnection:
        """Return a connection for a block that reads a thread.

        :raises StoreError: instead of any error of SQLite in the block; it names the thread.
        """
        return ReadConnection(self, thread_id)

    def transaction(self, thread_id: str = ALL_THREADS) -> Transaction:
        """Return a connection inside a transaction that writes: it commits, or rolls back.

        :raises StoreError: as :meth:`read`, and if others write for longer than the timeout.
        """
        return Transaction(self, thread_id)

    def check_out(self) -> tuple[sqlite3.Connection, object]:
        """Return a connection, and what stands for the process that it belongs to."""
        process = self._process
        # It is noted before _forking is read: either before_fork() sees this thread, or this thread
        # sees that a fork has begun. A lock would cost each request more.
        self._in_use.append(threading.get_ident())
        try:
            if self._forking:
                # before_fork() holds the lock until the fork is over, except while it waits for the
                # threads in use, of which this is one.
                with self._lock:
                    pass
            if self._closed:
                raise StoreError(f"The store of {self._path} was closed.")
            try:
                return self._idle.pop(), process
            except IndexError:
                return open_file(self._path, self._timeout, self._synchronous), process
        except BaseException:
            self._leave()
            raise

    def check_in(self, connection: sqlite3.Connection, process: object, *, keep: bool) -> None:
        """Take back the connection of this thread, to use it again if it is to be kept."""
        if process is not self._process:
            _inherited.append(connection)
            return
        if keep and len(self._idle) < _IDLE_CONNECTIONS:
            self._idle.append(connection)
            if self._closed:
                self._close_idle()
        else:
            connection.close()
        self._leave()

    def _leave(self) -> None:
        self._in_use.remove(threading.get_ident())
        if self._forking:
            with self._lock:
                self._returned.notify_all()

    def _close_idle(self) -> None:
        # Each is taken out first, because another thread may take it.
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def wait_to_write(self, thread_id: str, writing: threading.Lock) -> float:
        """Wait until no other thread of this process writes.

        SQLite polls while it waits; here the next thread is woken at once. Returns the time, by
        :func:`time.monotonic`, at which the timeout ends.
        """
        deadline = time.monotonic() + self._timeout
        if not writing.acquire(timeout=self._timeout):
            raise self.failure(thread_id, "other threads of this process are writing")
        return deadline

    def begin_before(self, deadline: float | None, connection: sqlite3.Connection) -> None:
        """Begin a transaction that writes after other processes, until *deadline* at most.

        SQLite itself waits with growing pauses, so a process that has waited for long is overtaken
        by those that have just begun. Here all retry after the same pauses.
        """
        if deadline is None:
            # SQLite has waited once.
            (waited,) = connection.execute("PRAGMA busy_timeout").fetchone()
            deadline = time.monotonic() + self._timeout - waited / 1000
        attempts = 0
        while time.monotonic() < deadline:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                attempts += 1
            else:
                if attempts >= _MANY_ATTEMPTS:
                    self._log.note_wait()
                return
        raise sqlite3.OperationalError("database is locked")

    def shorten_log(self, connection: sqlite3.Connection) -> None:
        """Keep the write-ahead log short. It is called after a number of transactions."""
        self.written = 0
        # The transaction is stored, whatever happens here.
        with suppress(sqlite3.Error, OSError):
            self._log.shorten(connection)

    def empty_log(self, connection: sqlite3.Connection) -> bool:
        """Copy the write-ahead log into the file, and empty it; False if it stays in use."""
        return self._log.empty(connection)

    def failure(self, thread_id: str, reason: object) -> StoreError:
        """Return the error for a thread that could not be served."""
        words = reason
        if isinstance(reason, BaseException):
            words = reason_of(reason, self._path.parent)
        return StoreError(f"SQLite could not serve {subject(thread_id)} from {self._path}: {words}")

    def close(self) -> None:
        self._closed = True
        self._close_idle()

    def before_fork(self) -> None:
        self._lock.acquire()
        self._forking = True
        # A thread inside SQLite holds locks of the whole process, which would stay locked in
        # the child. It is there only for a short time, at most until another writer has finished.
        thread = threading.get_ident()
        self._returned.wait_for(
            lambda: all(user == thread for user in self._in_use), self._timeout + 1
        )
        self._close_idle()

    def after_fork_in_parent(self) -> None:
        self._forking = False
        self._lock.release()

    def after_fork_in_child(self) -> None:
        _inherited.extend(self._idle)
        self._idle = []
        self._in_use = []
        self._forking = False
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)
        self.writing = threading.Lock()
        self._process = object()


class ReadConnection:
    """A connection for the time of a block."""

    __slots__ = ("_connection", "_connections", "_process", "_thread_id")

    def __init__(self, connections: Connections, thread_id: str) -> None:
        self._connections = connections
        self._thread_id = thread_id

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection, self._process = self._connections.check_out()
        except BaseException as error:
            raise self._failure(error) from error
        return self._connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        failed = isinstance(error, sqlite3.Error)
        # The connection itself may be the cause.
        self._connections.check_in(self._connection, self._process, keep=not failed)
        if error is not None and failed:
            raise self._failure(error) from error

    def _failure(self, error: BaseException) -> BaseException:
        if isinstance(error, sqlite3.Error | OSError):
            return self._connections.failure(self._thread_id, error)
        return error


class Transaction(ReadConnection):
    """A connection inside a transaction that writes."""

    __slots__ = ("_writing",)

    def __enter__(self) -> sqlite3.Connection:
        connections = self._connections
        writing = self._writing = connections.writing
        deadline = None
        if not writing.acquire(blocking=False):
            deadline = connections.wait_to_write(self._thread_id, writing)
        try:
            connection, self._process = connections.check_out()
        except BaseException as error:
            writing.release()
            raise self._failure(error) from error
        self._connection = connection
        try:
            # A deferred transaction would fail at its first write if another came first.
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                connections.begin_before(deadline, connection)
        except BaseException as error:
            try:
                connections.check_in(connection, self._process, keep=False)
            finally:
                writing.release()
            raise self._failure(error) from error
        return connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            try:
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT" if error is None else "ROLLBACK")
            except sqlite3.Error as failure:
                kind, error, traceback = type(failure), failure, failure.__traceback__
            if error is None:
                connections = self._connections
                connections.written += 1
                if connections.written >= _WRITES:
                    connections.shorten_log(self._connection)
                connections.check_in(self._connection, self._process, keep=True)
            else:
                ReadConnection.__exit__(self, kind, error, traceback)
        finally:
            self._writing.release()


_all_connections: weakref.WeakSet[Connections] = weakref.WeakSet()
# Never freed: a child may not even close what it inherited.
_inherited: list[sqlite3.Connection] = []


# Two threads may fork at once.
_fork_lock = threading.Lock()
_forking: list[Connections] = []


def _before_fork() -> None:
    _fork_lock.acquire()
    _forking.extend(_all_connections)
    for connections in _forking:
        connections.before_fork()


def _after_fork_in_parent() -> None:
    for connections in _forking:
        connections.after_fork_in_parent()
    _forking.clear()
    _fork_lock.release()


@after_fork_in_child
def _after_fork_in_child() -> None:
    for connections in list(_all_connections):
        connections.after_fork_in_child()
    _forking.clear()
    # uWSGI forks without the function that acquires it.
    if _fork_lock.locked():
        _fork_lock.release()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
