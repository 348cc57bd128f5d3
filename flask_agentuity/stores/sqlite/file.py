"""The SQLite file itself: created, checked, upgraded and opened."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

from ...errors import StoreError
from ...per_process import PerProcess
from .journal import KEPT, enter_wal, journal_mode, require_wal
from .schema import APPLICATION_ID, FORMAT_VERSION, SCHEMA, UPGRADES

#: The part of the file that reads take from the system's memory, without copying each page.
_MAPPED_BYTES = 1 << 28
#: Milliseconds for which SQLite waits for a lock. Readers never have to in the write-ahead log,
#: except for a short time after a crash. Writers try again, see :mod:`.connections`.
_WAIT = 1
#: Conversations are private: only the user that runs the app may read the file.
_MODE = 0o600

# Held while a file is opened. Closing any descriptor of a file drops all locks that its process
# has on it, so no other thread may open the file while it is being created.
_opening = PerProcess(lambda: threading.Lock())


def open_file(path: Path, timeout: float, synchronous: str) -> sqlite3.Connection:
    """Return a new connection to the file, which is created or upgraded if necessary.

    :param timeout: seconds to wait for other processes.
    :raises StoreError: if the file belongs to another program or has an unknown format.
    """
    with _opening.get():
        _create_private(path)
        connection = sqlite3.connect(
            path, timeout=timeout, isolation_level=None, check_same_thread=False
        )
    try:
        _File(path, connection, timeout).prepare()
        if journal_mode(connection) == "wal":
            connection.execute(f"PRAGMA busy_timeout = {min(_WAIT, int(timeout * 1000))}")
        connection.execute(f"PRAGMA journal_size_limit = {KEPT}")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
        if connection.execute("PRAGMA secure_delete").fetchone() == (0,):
            # Overwrites deleted data in pages that are written anyway.
            connection.execute("PRAGMA secure_delete = FAST")
    except BaseException:
        connection.close()
        raise
    return connection


def _create_private(path: Path) -> None:
    """Create an empty file that only its owner can read; SQLite's log gets the same mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Another process may be faster.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, _MODE))


class _File:
    """A file that a connection was opened to."""

    def __init__(self, path: Path, connection: sqlite3.Connection, timeout: float) -> None:
        self._path = path
        self._connection = connection
        self._timeout = timeout

    def prepare(self) -> None:
        """Create the tables, or check and upgrade existing ones."""
        version = self._format()
        if version in UPGRADES:
            self._upgrade()
            version = self._format()
        if version == 0:
            self._create()
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
        else:
            # A restored copy has none.
            enter_wal(self._connection, self._timeout)

    def _format(self) -> int:
        """Return the format of the file, 0 for an empty one; refuse one of another program."""
        # In one statement, because another connection may be creating the file.
        application, version = self._connection.execute(
            "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"
        ).fetchone()
        if (application, version) != (0, 0) and application != APPLICATION_ID:
            raise StoreError(f"{self._path} belongs to another program; name another file.")
        return int(version)

    def _create(self) -> None:
        # The file of another program does not even get a write-ahead log.
        self._require_ours()
        # It must come before anything is written.
        self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        require_wal(self._connection, self._timeout, self._path)
        self._connection.execute("BEGIN IMMEDIATE")
        if self._require_ours():
            self._run_script(SCHEMA)
        self._connection.execute("COMMIT")

    def _upgrade(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        # Another process may have upgraded the file while this one waited.
        while script := UPGRADES.get(self._format()):
            self._run_script(script)
        self._connection.execute("COMMIT")

    def _require_ours(self) -> bool:
        """Return whether the file is still empty; refuse one of another program."""
        tables, application = self._connection.execute(
            "SELECT (SELECT count(*) FROM sqlite_master), application_id FROM pragma_application_id"
        ).fetchone()
        if tables and application != APPLICATION_ID:
            raise StoreError(f"{self._path} belongs to another program; name another file.")
        return not tables

    def _run_script(self, script: str) -> None:
        # executescript() would commit the transaction first.
        for statement in script.split(";"):
            self._connection.execute(statement)
