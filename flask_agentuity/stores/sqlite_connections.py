"""The connections of one process to one SQLite file: opened, lent, and kept out of forks."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import StoreError
from .sqlite_layout import APPLICATION_ID, FORMAT_VERSION, SCHEMA

_IDLE_CONNECTIONS = 16
#: The part of the file that reads take from the system's memory, without copying each page.
_MAPPED_BYTES = 1 << 28


class Connections:
    """The open connections of one process to one file, lent to one thread at a time.

    SQLite forbids to carry a connection over a fork: idle ones are closed before it, and
    a child never touches what it inherited all the same.
    """

    def __init__(self, path: Path, timeout: float, synchronous: str) -> None:
        self._path = path
        self._timeout = timeout
        self._synchronous = synchronous
        self._idle: list[sqlite3.Connection] = []
        # The threads that have a connection in use.
        self._lent: list[int] = []
        self._forking = False
        self._changed = threading.Condition(threading.Lock())
        self._writing = threading.Lock()
        self._process = os.getpid()
        self._closed = False
        _all_connections.add(self)

    @contextmanager
    def lend(self, thread_id: str = "(all)") -> Iterator[sqlite3.Connection]:
        """Lend a connection for reading what belongs to a thread.

        :raises StoreError: for whatever SQLite raises in the block; it names the thread.
        """
        if self._process != os.getpid():
            self.after_fork_in_child()
        process, borrower = self._process, threading.get_ident()
        with self._changed:
            if self._closed:
                raise StoreError(f"The store of {self._path} was closed.")
            connection = self._idle.pop() if self._idle else None
            self._lent.append(borrower)
        keep = True
        try:
            if connection is None:
                connection = self._open()
            yield connection
        except (sqlite3.Error, OSError) as error:
            # It may be the connection that is at fault.
            keep = False
            raise StoreError(
                f"SQLite could not serve thread {thread_id} from {self._path}: {error}"
            ) from error
        finally:
            if process == self._process:
                self._take_back(connection, borrower, keep)
            elif connection is not None:
                _inherited.append(connection)

    @contextmanager
    def write(self, thread_id: str = "(all)") -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a transaction that writes: it commits, or rolls back.

        :raises StoreError: as :meth:`lend`, and when others write for longer than the timeout.
        """
        writing = self._writing
        # SQLite has those who wait look again after some milliseconds: here the next is woken.
        if not writing.acquire(timeout=self._timeout):
            raise StoreError(
                f"SQLite could not serve thread {thread_id} from {self._path}:"
                " other threads of this process are writing."
            )
        try:
            with self.lend(thread_id) as connection:
                # A plain BEGIN would fail at its first write when another came first.
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        finally:
            writing.release()

    def _take_back(self, connection: sqlite3.Connection | None, borrower: int, keep: bool) -> None:
        with self._changed:
            if connection is not None:
                if keep and len(self._idle) < _IDLE_CONNECTIONS and not self._closed:
                    self._idle.append(connection)
                else:
                    connection.close()
            self._lent.remove(borrower)
            if self._forking:
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def before_fork(self) -> None:
        self._changed.acquire()
        self._forking = True
        # A thread inside SQLite holds locks of the whole process, which would stay locked in
        # the child. What it does is short: at most it waits for another writer.
        thread = threading.get_ident()
        self._changed.wait_for(
            lambda: all(lent == thread for lent in self._lent), self._timeout + 1
        )
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def after_fork_in_parent(self) -> None:
        self._forking = False
        self._changed.release()

    def after_fork_in_child(self) -> None:
        _inherited.extend(self._idle)
        self._idle = []
        self._lent = []
        self._forking = False
        self._changed = threading.Condition(threading.Lock())
        self._writing = threading.Lock()
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
        # In one statement: another connection may be making the file just now.
        application, version = connection.execute(
            "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"
        ).fetchone()
        if (application, version) == (0, 0):
            self._create(connection)
        elif application != APPLICATION_ID:
            raise StoreError(f"{self._path} belongs to another program; name another file.")
        elif version != FORMAT_VERSION:
            raise StoreError(
                f"{self._path} has format {version}; this version of flask_agentuity reads"
                f" {FORMAT_VERSION}. Install a newer one, or name another file."
            )
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")

    def _create(self, connection: sqlite3.Connection) -> None:
        # What another program has made is not even given a log.
        self._require_ours(connection)
        self._enter_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        if self._require_ours(connection):
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
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
        # Changing the mode does not wait for others as a transaction does.
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


_all_connections: weakref.WeakSet[Connections] = weakref.WeakSet()
# Kept for ever: a child may not even close what it inherited.
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
