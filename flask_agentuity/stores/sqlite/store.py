"""Threads in one SQLite file: the embedded default, for one machine."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from ...document import codec
from ...document.codec import Snapshot
from ...document.operations import KeyOperation, Set
from ...errors import ConfigurationError, StoreError
from .. import base
from ..expected import Expected
from ..listing import ListedThread, require_times
from ..skipped import warn_of_skipped
from ..writing import Conflict, Write, Written
from .appends import Appended, find_appended, plan_appends
from .backup import back_up
from .condition import Condition, condition_of
from .connections import Connections
from .key_limit import require_few_keys
from .listing import SQLiteFinding
from .moving import MovingInSQLite, delete_thread
from .opening import find_thread
from .ordering import Ordering, set_times
from .purging import Purging
from .reading import read_owner, read_thread
from .runs import SQLiteRuns
from .seen import Seen
from .steps import Step, keys_of, prepare, prepare_metadata
from .tombstones import is_gone
from .turns import SQLiteTurns, require_turn
from .url import read_url
from .writing import open_for_write, plan_write, replace_thread, write_row

logger = logging.getLogger("flask_agentuity.stores.sqlite")


class SQLiteStore(SQLiteFinding, SQLiteTurns, MovingInSQLite):
    """Keeps threads in one SQLite file, for many threads and processes of one machine.

    A file of format 2 or 3 is upgraded to format 4 when it is opened. Processes that still run the
    previous version and have the file open then fail, without changing any thread, until they
    are restarted with the new version.

    :param path: the file; it and its folder are made at the first use.
    :param ttl: seconds without use after which a thread expires; None: never.
    :param max_bytes: the largest document.
    :param timeout: seconds to wait for other writers before a
        :exc:`~flask_agentuity.errors.StoreError`.
    :param synchronous: ``"normal"``: an acknowledged write survives any end of the process. A
        power failure may lose the last writes, but each of them as a whole.
        ``"full"``: it survives a power failure too, at the cost of one fsync per write.
    """

    shared_by_machines = False
    edits = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        ttl: float | None = base.DEFAULT_TTL,
        max_bytes: int = codec.MAX_DOCUMENT_BYTES,
        timeout: float = 5.0,
        synchronous: str = "normal",
    ) -> None:
        if synchronous not in ("normal", "full"):
            raise ConfigurationError(
                f"synchronous={synchronous!r} is not known to the SQLite store."
                " Allowed: normal, full."
            )
        self.path = Path(path).absolute()
        self.ttl = ttl
        self.max_bytes: int = max_bytes
        self._renew_after = (base.DEFAULT_TTL if ttl is None else ttl) / 10
        self._options: dict[str, Any] = {"timeout": timeout, "synchronous": synchronous}
        self._connections = Connections(self.path, timeout, synchronous)
        self._purging = Purging(self._connections, ttl)
        self._ordering = Ordering(self._connections)
        self.runs = SQLiteRuns(self._connections)

    @classmethod
    def from_url(cls, url: str, *, folder: str | None = None, **options: Any) -> SQLiteStore:
        """Return the store of ``sqlite:///PATH[?timeout=SECONDS&synchronous=normal|full]``.

        A relative path is taken from *folder*, or else from the working directory.

        :raises ConfigurationError: if there is no path, or an option is unknown or wrong.
        """
        path, named = read_url(url, folder)
        return cls(path, **{**options, **named})

    def for_tenants(self) -> SQLiteStore:
        """Return the store for a service's tenants: a file beside this one, ``NAME-tenants``."""
        path = self.path.with_stem(f"{self.path.stem}-tenants")
        tenants = SQLiteStore(path, ttl=self.ttl, max_bytes=self.max_bytes, **self._options)
        tenants.max_keys = self.max_keys
        return tenants

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        with self._connections.read(thread_id) as connection:
            found = read_thread(connection, thread_id, keys)
        if found is None:
            return None
        head, snapshot = found
        unused = head.unused_for(time.time(), thread_id)
        if unused > self._renew_after:
            if self.ttl is not None and unused > self.ttl:
                return None
            self._renew(thread_id)
        return None if not head.entries_size and head.is_nothing else snapshot

    def read_for(
        self, person: str | None, thread_id: str, keys: Collection[str] | None = None
    ) -> Snapshot | None:
        with self._connections.read(thread_id) as connection:
            found = read_owner(connection, thread_id)
        if found is None:
            return None
        (owner,) = found
        if owner is not None and owner != person:
            return Snapshot({}, owner=owner)
        return self.read(thread_id, keys)

    def read_without_renewing(self, thread_id: str) -> Snapshot | None:
        with self._connections.read(thread_id) as connection:
            found = read_thread(connection, thread_id, None)
        if found is None or found[0].is_empty:
            return None
        return None if found[0].is_expired(time.time(), self.ttl, thread_id) else found[1]

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        if len(write.operations) > self.max_keys:
            self._require_possible_keys(thread_id, write.operations)
        now, seen = time.time(), write.seen if isinstance(write.seen, Seen) else None
        appended = find_appended(write)
        steps = prepare(write.operations) if appended is None else None
        planned = None
        if seen is not None and self._is_usable(seen, thread_id, write, now):
            if appended is not None:
                planned = plan_appends(seen, appended, write.counted, now, self.max_bytes)
            if planned is None:
                steps = steps or prepare(write.operations)
                planned = plan_write(seen, steps, write, now, self.max_bytes)
        outcome: Written | Conflict
        with self._connections.transaction(thread_id) as connection:
            if write.turn is not None:
                require_turn(connection, thread_id, write.turn)
            if planned is not None and planned.run(connection):
                outcome, skipped = planned.written, planned.skipped
            else:
                outcome, skipped = self._write_stored(connection, thread_id, write, appended, steps)
        if skipped:
            warn_of_skipped(thread_id, skipped)
        if seen is None or not seen.head.stale:
            self._ordering.note_write(outcome)
        if not self._purging.since <= now < self._purging.due:
            self._purging.look(now)
        return outcome

    def delete(self, thread_id: str) -> None:
        with self._connections.transaction(thread_id) as connection:
            delete_thread(connection, thread_id, time.time())

    def delete_for(self, thread_id: str, expected: Expected) -> None:
        with self._connections.transaction(thread_id) as connection:
            if expected.turn is not None:
                require_turn(connection, thread_id, expected.turn)
            delete_thread(connection, thread_id, time.time(), expected)

    def import_thread(self, thread: ListedThread, document: bytes) -> bool:
        snapshot = codec.split_document(document, thread.id) or Snapshot({})
        state = base.complete(snapshot, thread.id)
        steps = prepare([Set(key, value) for key, value in state.items()])
        metadata = prepare_metadata(codec.encode(thread.metadata, "metadata"))
        require_times(thread)
        with self._connections.transaction(thread.id) as connection:
            now = time.time()
            stored = find_thread(connection, thread.id)
            if (
                stored is not None
                and not stored.head.is_expired(now, self.ttl, thread.id)
                and stored.head.updated >= thread.updated
            ):
                return False
            opened = replace_thread(connection, thread.id, stored, now, thread.owner)
            for step in (*steps, metadata):
                opened.apply(step)
            codec.require_size(opened.size, self.max_bytes, thread.id)
            write_row(connection, opened, now, self._renew_after)
            set_times(connection, opened.head.number, thread.created, thread.updated)
            return True

    def purge(self, progress: Callable[[int], None] | None = None) -> int:
        return self._purging.do_all(progress)

    def wipe_deleted(self) -> None:
        self._purging.wipe()

    def count_expired(self) -> int:
        return self._purging.count()

    def describe_file(self) -> Condition:
        """Return the condition of the file, for ``flask threads check``.

        :raises StoreError: if it cannot be read.
        """
        with self._connections.read() as connection:
            return condition_of(connection, self.path)

    def warnings(self) -> Sequence[str]:
        return list(self.describe_file().warnings())

    def backup(self, path: Path) -> int:
        with self._connections.read() as connection:
            return back_up(connection, path)

    def close(self) -> None:
        self._purging.close()
        self._connections.close()

    def _is_usable(self, seen: Seen, thread_id: str, write: Write, now: float) -> bool:
        """Return whether a write may begin with what its request has seen."""
        head = seen.head
        try:
            # A thread whose use need not be recorded has not expired either.
            is_noted = now - head.used <= self._renew_after
        except TypeError:
            # It is damaged. The write that reads what is stored raises the error.
            return False
        return (
            is_noted
            and seen.thread_id == thread_id
            and write.may_change(head.owner)
            and not (
                head.deleted
                and is_gone(head.deleted, head.born, write, write.began_by(time.time), now)
            )
        )

    def _write_stored(
        self,
        connection: sqlite3.Connection,
        thread_id: str,
        write: Write,
        appended: Appended | None,
        steps: Sequence[Step] | None,
    ) -> tuple[Written | Conflict, Sequence[KeyOperation]]:
        """Write to a thread as it is stored; return the outcome and what was skipped."""
        now = time.time()
        if appended is not None:
            stored = find_thread(connection, thread_id, appended)
            if stored is not None and self._is_usable(stored, thread_id, write, now):
                planned = plan_appends(stored, appended, write.counted, now, self.max_bytes)
                if planned is not None and planned.run(connection):
                    return planned.written, ()
        # For plain pushes no JSON is handled here.
        steps = prepare(write.operations) if steps is None else steps
        if appended is None:
            stored = find_thread(connection, thread_id, keys_of(steps))
        began = write.began_by(time.time)
        thread = open_for_write(
            connection, thread_id, stored, write, began=began, now=now, ttl=self.ttl
        )
        before = thread.size
        for step in steps:
            thread.apply(step)
        if (conflict := thread.conflict) is not None:
            connection.execute("ROLLBACK")
            return conflict, ()
        codec.require_size(thread.size, self.max_bytes, thread_id, before)
        require_few_keys(connection, thread, stored, self.max_keys, self._connections)
        return write_row(connection, thread, now, self._renew_after), thread.skipped

    def _renew(self, thread_id: str) -> None:
        try:
            with self._connections.transaction(thread_id) as connection:
                connection.execute(
                    "UPDATE threads SET used = ? WHERE id = ?", (time.time(), thread_id)
                )
        except StoreError as error:
            # The next read of the thread tries again.
            about = {"thread_id": thread_id}
            logger.debug("The use of thread %s was not recorded: %s", thread_id, error, extra=about)
