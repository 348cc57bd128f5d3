"""Threads in one SQLite file: the embedded default, for one machine."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ...document import codec
from ...document.codec import Snapshot
from ...document.operations import Operation, Push, Set
from ...errors import ConfigurationError, StoreError
from .. import base, listing
from ..base import KeyedStore
from ..listing import ListedThread, Page
from .connections import Connections
from .layout import OpenThread, Step, erase_thread, prepare, read_thread

logger = logging.getLogger("flask_agentuity.stores.sqlite")

_PURGE_BATCH = 20
_PURGE_INTERVAL = 60.0
_MOST_COUNTED = 500
# Threads that a scan fetches at a time.
_SCANNED = 500


class SQLiteStore(KeyedStore):
    """Keeps threads in one SQLite file, for many threads and processes of one machine.

    :param path: the file; it and its folder are made at the first use.
    :param ttl: seconds without use after which a thread expires; None: never.
    :param max_bytes: the largest document.
    :param timeout: seconds to wait for other writers before a
        :exc:`~flask_agentuity.errors.StoreError`.
    :param synchronous: ``"normal"``: an acknowledged write survives the end of the process
        however it comes; a power failure may take the last writes, never half of one.
        ``"full"``: it survives a power failure too, at the price of an fsync each.
    """

    shared_by_machines = False

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
        self.max_bytes = max_bytes
        self._renew_after = (base.DEFAULT_TTL if ttl is None else ttl) / 10
        self._next_purge = 0.0
        self._connections = Connections(self.path, timeout, synchronous)

    @classmethod
    def from_url(cls, url: str, *, folder: str | None = None, **options: Any) -> SQLiteStore:
        """Return the store of ``sqlite:///PATH[?timeout=SECONDS&synchronous=normal|full]``.

        A relative path is taken from *folder*, or else from the working directory.

        :raises ConfigurationError: when there is no path, or an option is unknown or wrong.
        """
        parts = urlsplit(url)
        path = unquote(parts.path)[1:]
        if parts.netloc or not path or path.startswith(":memory:"):
            raise ConfigurationError(
                f"{url!r} names no file. Allowed: sqlite:///relative/path, sqlite:////absolute/path;"
                " for threads in memory, memory://."
            )
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name == "synchronous":
                options["synchronous"] = value.lower()
            elif name == "timeout" and _is_seconds(value):
                options["timeout"] = float(value)
            else:
                raise ConfigurationError(
                    f"{name}={value} in {url!r} is not known to the SQLite store."
                    " Allowed: timeout=SECONDS, synchronous=normal or full."
                )
        return cls(Path(folder or ".") / path, **options)

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        with self._connections.lend(thread_id) as connection:
            found = read_thread(connection, thread_id, keys)
        if found is None or self._expired(found[0]):
            return None
        used, snapshot = found
        if time.time() - used > self._renew_after:
            self._renew(thread_id)
        return snapshot

    def peek_at(self, thread_id: str) -> Snapshot | None:
        with self._connections.lend(thread_id) as connection:
            found = read_thread(connection, thread_id, None)
        return None if found is None or self._expired(found[0]) else found[1]

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        encoded = None if metadata is None else codec.encode(dict(metadata), "metadata")
        steps = prepare(operations)
        skipped: list[Push] = []
        with self._connections.write(thread_id) as connection:
            now = time.time()
            thread, note_use = self._open(connection, thread_id, steps, now)
            before = thread.size
            for step in steps:
                skipped.extend(thread.apply(step))
            if encoded is not None:
                thread.metadata = encoded
            codec.require_size(thread.size, self.max_bytes, thread_id, before)
            thread.close(now, note_use=note_use)
        if now >= self._next_purge:
            self._purge_now_and_then()
        base.warn_of_skipped(thread_id, skipped)

    def delete(self, thread_id: str) -> None:
        with self._connections.write(thread_id) as connection:
            row = connection.execute(
                "SELECT number FROM threads WHERE id = ?", (thread_id,)
            ).fetchone()
            if row:
                erase_thread(connection, row[0], thread_id)

    def list(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        wanted = metadata or {}
        listing.require_question(wanted, limit)
        conditions = ["max(t.used, t.updated) >= ?"]
        arguments: list[Any] = [0.0 if self.ttl is None else time.time() - self.ttl]
        labels = listing.encode_labels(wanted)
        found: list[ListedThread] = []
        before = listing.decode_cursor(cursor) if cursor else None
        with self._connections.lend() as connection:
            if len(labels) > 1:
                # The rarest says which threads are looked at, the others only test those.
                labels.sort(key=lambda label: _count_label(connection, label))
            for place, label in enumerate(labels):
                found_by = "SELECT thread FROM labels WHERE key = ? AND value = ?"
                conditions.append(
                    f"EXISTS ({found_by} AND thread = t.number)"
                    if place
                    else f"t.number IN ({found_by})"
                )
                arguments.extend(label)
            while len(found) <= limit:
                rows = connection.execute(
                    "SELECT t.id, t.metadata, t.created, t.updated, t.entries_size"
                    f" FROM threads t WHERE {' AND '.join(conditions)}"
                    + (" AND (t.updated, t.id) < (?, ?)" if before else "")
                    + " ORDER BY t.updated DESC, t.id DESC LIMIT ?",
                    (*arguments, *(before or ()), limit + 1),
                ).fetchall()
                for row in rows:
                    thread = self._listed(*row)
                    if listing.matches(thread.metadata, wanted):
                        found.append(thread)
                if len(rows) <= limit:
                    break
                before = rows[-1][3], rows[-1][0]
        return listing.page_of(found[: limit + 1], limit)

    def scan(self) -> Iterator[ListedThread]:
        last = 0
        while True:
            with self._connections.lend() as connection:
                rows = connection.execute(
                    "SELECT number, max(used, updated), id, metadata, created, updated,"
                    " entries_size FROM threads WHERE number > ? ORDER BY number LIMIT ?",
                    (last, _SCANNED),
                ).fetchall()
            if not rows:
                return
            for _, used, *row in rows:
                if not self._expired(used):
                    yield self._listed(*row)
            last = rows[-1][0]

    def adopt(self, thread: ListedThread, document: bytes) -> bool:
        snapshot = codec.split_document(document, thread.id) or Snapshot({})
        state = base.complete(snapshot, thread.id)
        steps = prepare([Set(key, value) for key, value in state.items()])
        metadata = codec.encode(thread.metadata, "metadata")
        with self._connections.write(thread.id) as connection:
            row = connection.execute(
                "SELECT number, updated, max(used, updated) FROM threads WHERE id = ?",
                (thread.id,),
            ).fetchone()
            if row and row[1] >= thread.updated and not self._expired(row[2]):
                return False
            if row:
                erase_thread(connection, row[0], thread.id)
            now = time.time()
            opened = OpenThread.create(connection, thread.id, now)
            for step in steps:
                opened.apply(step)
            opened.metadata = metadata
            codec.require_size(opened.size, self.max_bytes, thread.id)
            opened.close(now, note_use=False)
            connection.execute(
                "UPDATE threads SET created = ?, updated = ? WHERE id = ?",
                (thread.created, thread.updated, thread.id),
            )
            return True

    def purge(self, progress: Callable[[int], None] | None = None) -> int:
        removed = 0
        # Small transactions: requests get their turn between them.
        while batch := self._purge_batch():
            removed += batch
            if progress:
                progress(batch)
        return removed

    def take_turn(self, thread_id: str, holder: str, seconds: float) -> bool:
        now = time.time()
        query = "SELECT 1 FROM turns WHERE thread_id = ? AND holder != ? AND until > ?"
        arguments = (thread_id, holder, now)
        # Whoever waits looks often, and only looking takes no lock.
        with self._connections.lend(thread_id) as connection:
            if connection.execute(query, arguments).fetchone():
                return False
        with self._connections.write(thread_id) as connection:
            if connection.execute(query, arguments).fetchone():
                return False
            connection.execute("DELETE FROM turns WHERE until <= ?", (now,))
            connection.execute(
                "INSERT OR REPLACE INTO turns (thread_id, holder, until) VALUES (?, ?, ?)",
                (thread_id, holder, now + seconds),
            )
            return True

    def end_turn(self, thread_id: str, holder: str) -> None:
        with self._connections.write(thread_id) as connection:
            connection.execute(
                "DELETE FROM turns WHERE thread_id = ? AND holder = ?", (thread_id, holder)
            )

    def close(self) -> None:
        self._connections.close()

    def _listed(
        self, thread_id: str, encoded: bytes, created: float, updated: float, entries_size: int
    ) -> ListedThread:
        size = codec.document_size(entries_size, len(encoded))
        try:
            metadata = codec.decode(encoded)
        except ValueError as error:
            # One damaged thread does not hide all the others; restoring it raises.
            logger.error("%s", codec.damaged(thread_id, str(error)))  # noqa: TRY400
            metadata = {}
        return ListedThread(thread_id, metadata, created, updated, size)

    def _open(
        self, connection: sqlite3.Connection, thread_id: str, steps: Sequence[Step], now: float
    ) -> tuple[OpenThread, bool]:
        """Return a thread for writing, and whether its use has to be noted."""
        found = OpenThread.find(connection, thread_id, steps)
        if found is not None:
            thread, last_use, noted_use = found
            if not self._expired(last_use):
                return thread, now - noted_use > self._renew_after
            thread.erase()
        return OpenThread.create(connection, thread_id, now), False

    def _expired(self, used: float) -> bool:
        return self.ttl is not None and time.time() > used + self.ttl

    def _renew(self, thread_id: str) -> None:
        try:
            with self._connections.write(thread_id) as connection:
                connection.execute(
                    "UPDATE threads SET used = ? WHERE id = ?", (time.time(), thread_id)
                )
        except StoreError as error:
            # Nothing is lost: the next read of the thread tries again.
            logger.debug("The use of a thread could not be noted: %s", error)

    def _purge_now_and_then(self) -> None:
        self._next_purge = time.time() + _PURGE_INTERVAL
        try:
            if self._purge_batch() == _PURGE_BATCH:
                self._next_purge = 0.0
        except StoreError as error:
            logger.debug("Expired threads could not be removed now: %s", error)

    def _purge_batch(self) -> int:
        if self.ttl is None:
            return 0
        cutoff = time.time() - self.ttl
        query = "SELECT number, id FROM threads WHERE used < ? AND updated < ? LIMIT ?"
        arguments = (cutoff, cutoff, _PURGE_BATCH)
        with self._connections.lend() as connection:
            if not connection.execute(query, arguments).fetchone():
                return 0
        with self._connections.write() as connection:
            expired = connection.execute(query, arguments).fetchall()
            for number, thread_id in expired:
                erase_thread(connection, number, thread_id)
        return len(expired)


def _count_label(connection: sqlite3.Connection, label: tuple[str, str]) -> int:
    """Return how many threads have a label, as far as it pays to count."""
    (count,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM labels WHERE key = ? AND value = ? LIMIT ?)",
        (*label, _MOST_COUNTED),
    ).fetchone()
    return int(count)


def _is_seconds(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False
