"""The connections of one process to one SQLite file: opened, lent, and not used after a fork."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from pathlib import Path
from types import TracebackType

from ...errors import StoreError
from .schema import APPLICATION_ID, FORMAT_VERSION, SCHEMA, UPGRADES

_IDLE_CONNECTIONS = 16
#: The part of the file that reads take from the system's memory, without copying each page.
_MAPPED_BYTES = 1 << 28


class Connections:
    """The open connections of one process to one file, lent to one thread at a time.

    SQLite forbids using a connection after a fork: idle ones are closed before it, and a child
    does not touch any that it inherits.
    """

    def __init__(self, path: Path, timeout: float, synchronous: str) -> None:
        self._path = path
        self._timeout = timeout
        self._synchronous = synchronous
        self._idle: list[sqlite3.Connection] = []
        # The threads that have a connection in use.
        self._lent: list[int] = []
        self._forking = False
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)
        #: Held by the thread of this process that writes.
        self.writing = threading.Lock()
        self._process = os.getpid()
        self._closed = False
        _all_connections.add(self)

    def lend(self, thread_id: str = "(all)") -> Loan:
        """Lend a connection for the time of a block, to read what belongs to a thread.

        :raises StoreError: instead of any error of SQLite in the block; it names the thread.
        """
        return Loan(self, thread_id)

    def write(self, thread_id: str = "(all)") -> WritingLoan:
        """Lend a connection inside a transaction that writes: it commits, or rolls back.

        :raises StoreError: as :meth:`lend`, and if others write for longer than the timeout.
        """
        return WritingLoan(self, thread_id)

    def take(self) -> tuple[sqlite3.Connection, int]:
        """Return a connection, and the process that it belongs to."""
        if self._process != os.getpid():
            self.after_fork_in_child()
        process = self._process
        with self._lock:
            if self._closed:
                raise StoreError(f"The store of {self._path} was closed.")
            self._lent.append(threading.get_ident())
            if self._idle:
                return self._idle.pop(), process
        try:
            return self._open(), process
        except BaseException:
            with self._lock:
                self._lent.remove(threading.get_ident())
                self._returned.notify_all()
            raise

    def take_back(self, connection: sqlite3.Connection, process: int, *, keep: bool) -> None:
        """Take back what was lent to this thread, to lend it again if it is to be kept."""
        if process != self._process:
            _inherited.append(connection)
            return
        with self._lock:
            if keep and len(self._idle) < _IDLE_CONNECTIONS and not self._closed:
                self._idle.append(connection)
            else:
                connection.close()
            self._lent.remove(threading.get_ident())
            if self._forking:
                self._returned.notify_all()

    def wait_to_write(self, thread_id: str, writing: threading.Lock) -> float:
        """Wait until no other thread of this process writes.

        SQLite polls while it waits; here the next thread is woken at once. Returns how many
        seconds of the timeout are left to wait for other processes.
        """
        deadline = time.monotonic() + self._timeout
        if not writing.acquire(timeout=self._timeout):
            raise self.failure(thread_id, "other threads of this process are writing")
        return max(0.0, deadline - time.monotonic())

    def begin_within(self, connection: sqlite3.Connection, seconds: float) -> None:
        """Begin a transaction that writes, and wait for other processes for *seconds* at most."""
        connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA busy_timeout = {int(self._timeout * 1000)}")

    def failure(self, thread_id: str, reason: object) -> StoreError:
        """Return the error for a thread that could not be served."""
        return StoreError(f"SQLite could not serve thread {thread_id} from {self._path}: {reason}")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def before_fork(self) -> None:
        self._lock.acquire()
        self._forking = True
        # A thread inside SQLite holds locks of the whole process, which would stay locked in
        # the child. It is there for a short time: at most it waits for another writer.
        thread = threading.get_ident()
        self._returned.wait_for(
            lambda: all(lent == thread for lent in self._lent), self._timeout + 1
        )
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def after_fork_in_parent(self) -> None:
        self._forking = False
        self._lock.release()

    def after_fork_in_child(self) -> None:
        _inherited.extend(self._idle)
        self._idle = []
        self._lent = []
        self._forking = False
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)
        self.writing = threading.Lock()
        self._process = os.getpid()

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = self._format_of(connection)
        if version in UPGRADES:
            self._upgrade(connection)
            version = self._format_of(connection)
        if version == 0:
            self._create(connection)
        elif version > FORMAT_VERSION:
            raise StoreError(
                f"{self._path} has format {version}; this version of flask_agentuity reads"
                f" {FORMAT_VERSION}. Install a newer version, or name another file."
            )
        elif version < FORMAT_VERSION:
            raise StoreError(
                f"{self._path} has format {version}, of an early version of flask_agentuity; this"
                f" version reads {', '.join(map(str, UPGRADES))} and {FORMAT_VERSION}. Export the"
                " threads with that version (flask threads export), name another file, and import"
                " them there."
            )
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")

    def _format_of(self, connection: sqlite3.Connection) -> int:
        """Return the format of the file, 0 for an empty one; refuse one of another program."""
        # In one statement, because another connection may be creating the file.
        application, version = connection.execute(
            "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"
        ).fetchone()
        if (application, version) != (0, 0) and application != APPLICATION_ID:
            raise StoreError(f"{self._path} belongs to another program; name another file.")
        return int(version)

    def _create(self, connection: sqlite3.Connection) -> None:
        # The file of another program does not even get a write-ahead log.
        self._require_ours(connection)
        self._enter_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        if self._require_ours(connection):
            _run_script(connection, SCHEMA)
        connection.execute("COMMIT")

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        # Another process may have upgraded the file while this one waited.
        while script := UPGRADES.get(self._format_of(connection)):
            _run_script(connection, script)
        connection.execute("COMMIT")

    def _require_ours(self, connection: sqlite3.Connection) -> bool:
        """Return whether the file is still empty; refuse one of another program."""
        tables, application = connection.execute(
            "SELECT (SELECT count(*) FROM sqlite_master), application_id FROM pragma_application_id"
        ).fetchone()
        if tables and application != APPLICATION_ID:
            raise StoreError(f"{self._path} belongs to another program; name another file.")
        return not tables

    def _enter_wal(self, connection: sqlite3.Connection) -> None:
        # Changing the mode does not wait for other connections as a transaction does.
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise StoreError(
                f"{self._path} cannot have a write-ahead log (its mode stays {mode});"
                " name a file on a local disk."
            )


def _run_script(connection: sqlite3.Connection, script: str) -> None:
    # executescript() would commit the transaction first.
    for statement in script.split(";"):
        connection.execute(statement)


class Loan:
    """A connection for the time of a block."""

    __slots__ = ("_connection", "_connections", "_process", "_thread_id")

    def __init__(self, connections: Connections, thread_id: str) -> None:
        self._connections = connections
        self._thread_id = thread_id

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection, self._process = self._connections.take()
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
        self._connections.take_back(self._connection, self._process, keep=not failed)
        if error is not None and failed:
            raise self._failure(error) from error

    def _failure(self, error: BaseException) -> BaseException:
        if isinstance(error, sqlite3.Error | OSError):
            return self._connections.failure(self._thread_id, error)
        return error


class WritingLoan(Loan):
    """A connection inside a transaction that writes."""

    __slots__ = ("_writing",)

    def __enter__(self) -> sqlite3.Connection:
        connections = self._connections
        writing = self._writing = connections.writing
        seconds = None
        if not writing.acquire(blocking=False):
            seconds = connections.wait_to_write(self._thread_id, writing)
        try:
            connection, self._process = connections.take()
        except BaseException as error:
            writing.release()
            raise self._failure(error) from error
        self._connection = connection
        try:
            # A deferred transaction would fail at its first write if another came first.
            if seconds is None:
                connection.execute("BEGIN IMMEDIATE")
            else:
                connections.begin_within(connection, seconds)
        except BaseException as error:
            try:
                connections.take_back(connection, self._process, keep=False)
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
                self._connections.take_back(self._connection, self._process, keep=True)
            else:
                Loan.__exit__(self, kind, error, traceback)
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


def _after_fork_in_child() -> None:
    for connections in list(_all_connections):
        connections.after_fork_in_child()
    _forking.clear()
    _fork_lock.release()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
