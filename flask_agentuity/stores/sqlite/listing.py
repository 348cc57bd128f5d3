"""Finding threads in the file: pages of a listing, and all threads one after the other."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ...document import codec
from .. import listing
from ..finding import Finding
from ..listing import AHEAD, ListedThread, Page, Query, plausible_time
from .connections import Connections
from .purging import Purging

# Threads that a scan fetches at a time.
_SCANNED = 500

logger = logging.getLogger("flask_agentuity.stores.sqlite")

# Index terms that more threads have are not counted further.
_MOST_COUNTED = 500

_COLUMNS = "t.id, t.metadata, t.created, t.updated, t.entries_size, t.owner, t.used"
# A thread without state and metadata is kept, but not shown.
_IS_SHOWN = "(t.entries_size > 0 OR length(t.metadata) > 2)"
_HAS_TERM = (
    "EXISTS (SELECT 1 FROM index_terms WHERE key = ? AND value = ? AND listed = t.listed"
    " AND thread = t.number)"
)

_SCAN = (
    f"SELECT t.number, {_COLUMNS} FROM threads t"
    f" WHERE t.number > ? AND {_IS_SHOWN} ORDER BY t.number LIMIT ?"
)
_IDS = f"SELECT t.id FROM threads t WHERE t.id >= ? AND t.id < ? AND {_IS_SHOWN} LIMIT ?"


class SQLiteFinding(Finding):
    """How the threads of a store in a file are found."""

    owners = True
    ttl: float | None
    _connections: Connections
    _purging: Purging

    def find(self, query: Query) -> Page:
        found, now = self._find(query), time.time()
        if found and found[0].updated > now + AHEAD and self._purging.correct(now):
            found = self._find(query)
        return query.page_of(found)

    def _find(self, query: Query) -> list[ListedThread]:
        with self._connections.read() as connection:
            return list_threads(connection, query, self.ttl)

    def describe(self, thread_id: str) -> ListedThread | None:
        with self._connections.read(thread_id) as connection:
            return describe_thread(connection, thread_id, self.ttl)

    def scan(self) -> Iterator[ListedThread]:
        last = 0
        while True:
            with self._connections.read() as connection:
                rows = scan_threads(connection, last, _SCANNED, self.ttl)
            if not rows:
                return
            for _, thread in rows:
                if thread.expires is None or time.time() <= thread.expires:
                    yield thread
            last = rows[-1][0]

    def scan_for(self, query: Query) -> Iterator[ListedThread]:
        with self._connections.read() as connection:
            # Numbers only: of many threads they are some megabytes.
            numbers = find_numbers(connection, query)
        for first in range(0, len(numbers), _SCANNED):
            with self._connections.read() as connection:
                rows = threads_of(connection, numbers[first : first + _SCANNED], self.ttl)
            for thread in rows:
                is_expired = thread.expires is not None and time.time() > thread.expires
                if not is_expired and query.matches(thread):
                    yield thread

    def find_ids(self, prefix: str, limit: int) -> Sequence[str]:
        with self._connections.read() as connection:
            return list_ids(connection, prefix, limit)


def list_threads(
    connection: sqlite3.Connection, query: Query, ttl: float | None
) -> list[ListedThread]:
    """Return the threads of a page, the latest updated first, and one more if there is one.

    :param ttl: seconds without use after which a thread expires; None: never.
    """
    used_since = 0.0 if ttl is None else time.time() - ttl
    limit, before = query.limit + 1, query.after
    terms = listing.index_terms(query.metadata)
    if len(terms) > 1:
        # The rarest term selects threads, and the others are tested on them.
        terms.sort(key=lambda term: _count_term(connection, term))
    found: list[ListedThread] = []
    while len(found) < limit:
        statement, arguments = _page(query.owner, terms, used_since, before, limit)
        rows = connection.execute(statement, arguments).fetchall()
        is_last = len(rows) < limit
        if before:
            # A thread with a damaged time has another place than in the index.
            rows = [row for row in rows if _place(row) < before]
        rows.sort(key=_place, reverse=True)
        del rows[limit:]
        threads = (_listed(*row, ttl=ttl) for row in rows)
        found += [thread for thread in threads if query.matches(thread)]
        if is_last or not rows:
            break
        before = _place(rows[-1])
    return found[:limit]


def find_numbers(connection: sqlite3.Connection, query: Query) -> list[int]:
    """Return the numbers of the threads that have the owner, or else the rarest index term."""
    if query.owner is not None:
        rows = connection.execute("SELECT number FROM threads WHERE owner = ?", (query.owner,))
    else:
        terms = listing.index_terms(query.metadata)
        rarest = min(terms, key=lambda term: _count_term(connection, term))
        rows = connection.execute(
            "SELECT thread FROM index_terms WHERE key = ? AND value = ?", rarest
        )
    return [number for (number,) in rows]


def threads_of(
    connection: sqlite3.Connection, numbers: Sequence[int], ttl: float | None
) -> list[ListedThread]:
    """Return the threads with these numbers, except those that are not shown."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM threads t WHERE {_IS_SHOWN}"
        f" AND t.number IN ({', '.join('?' * len(numbers))})",
        numbers,
    ).fetchall()
    return [_listed(*row, ttl=ttl) for row in rows]


def _page(
    owner: str | None,
    terms: Sequence[tuple[str, str]],
    used_since: float,
    before: tuple[float, str] | None,
    limit: int,
) -> tuple[str, list[Any]]:
    """Return a statement that finds up to *limit* threads in the order of the indexes, and as many
    stale ones. One statement sees the file at one moment.
    """
    ordered, stale = _Part(used_since, owner), _Part(used_since, owner)
    # An owner and the rarest term are in indexes with the order of listings.
    if terms and owner is None:
        tables, place = "index_terms i CROSS JOIN threads t", "i.listed"
        ordered.add("i.key = ? AND i.value = ? AND t.number = i.thread", *terms[0])
        if before:
            ordered.add("i.listed <= ?", before[0])
        ordered.add_terms(terms[1:])
    else:
        tables, place = "threads t", "t.listed"
        ordered.add_terms(terms)
    stale.add_terms(terms)
    if before:
        ordered.add("(t.listed, t.id) < (?, ?)", *before)
        stale.add("(t.updated, t.id) < (?, ?)", *before)
    return (
        f"SELECT * FROM (SELECT {_COLUMNS} FROM {tables} WHERE t.stale = 0 AND {ordered.where}"
        f" ORDER BY {place} DESC, t.id DESC LIMIT ?)"
        " UNION ALL"
        f" SELECT * FROM (SELECT {_COLUMNS} FROM threads t INDEXED BY threads_stale"
        f" WHERE t.stale = 1 AND {stale.where} ORDER BY t.updated DESC, t.id DESC LIMIT ?)",
        [*ordered.arguments, limit, *stale.arguments, limit],
    )


class _Part:
    """The conditions of one part of a statement."""

    def __init__(self, used_since: float, owner: str | None) -> None:
        self.where = f"{_IS_SHOWN} AND max(t.used, t.updated) >= ?"
        self.arguments: list[Any] = [used_since]
        if owner is not None:
            self.add("t.owner = ?", owner)

    def add(self, condition: str, *arguments: object) -> None:
        self.where += f" AND {condition}"
        self.arguments += arguments

    def add_terms(self, terms: Sequence[tuple[str, str]]) -> None:
        for term in terms:
            self.add(_HAS_TERM, *term)


def list_ids(connection: sqlite3.Connection, prefix: str, limit: int) -> list[str]:
    """Return up to *limit* ids of threads that begin with *prefix*."""
    # The characters of an id come before this one.
    rows = connection.execute(_IDS, (prefix, f"{prefix}\U0010ffff", limit))
    return [thread_id for (thread_id,) in rows]


def describe_thread(
    connection: sqlite3.Connection, thread_id: str, ttl: float | None
) -> ListedThread | None:
    """Return a thread as a listing shows it; None if it would not be listed."""
    used_since = 0.0 if ttl is None else time.time() - ttl
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM threads t"
        f" WHERE t.id = ? AND {_IS_SHOWN} AND max(t.used, t.updated) >= ?",
        (thread_id, used_since),
    ).fetchone()
    return None if row is None else _listed(*row, ttl=ttl)


def scan_threads(
    connection: sqlite3.Connection, after: int, limit: int, ttl: float | None
) -> list[tuple[int, ListedThread]]:
    """Return threads with a number above *after*, each with its number."""
    rows = connection.execute(_SCAN, (after, limit)).fetchall()
    return [(number, _listed(*row, ttl=ttl)) for number, *row in rows]


def _count_term(connection: sqlite3.Connection, term: tuple[str, str]) -> int:
    """Return how many threads have an index term, up to a limit."""
    (count,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM index_terms WHERE key = ? AND value = ? LIMIT ?)",
        (*term, _MOST_COUNTED),
    ).fetchone()
    return int(count)


def _listed(
    thread_id: str,
    encoded: bytes,
    created: float,
    updated: float,
    entries_size: int,
    owner: str | None,
    used: float,
    *,
    ttl: float | None,
) -> ListedThread:
    size = 0
    try:
        size = codec.document_size(entries_size, len(encoded))
        metadata = codec.decode_metadata(encoded)
    except (ValueError, TypeError) as error:
        # One damaged thread does not hide the others; restoring it raises an error.
        logger.error(  # noqa: TRY400 - the text says enough
            "A damaged thread is listed without its metadata: %s",
            codec.damaged(thread_id, str(error)),
            extra={"thread_id": thread_id},
        )
        metadata = {}
    created, updated, used = map(plausible_time, (created, updated, used))
    expires = None if ttl is None else plausible_time(max(used, updated) + ttl)
    known = owner if isinstance(owner, str) else None
    return ListedThread(thread_id, metadata, created, updated, size, known, expires)


def _place(row: tuple[Any, ...]) -> tuple[float, str]:
    """Return the place of a row in a listing."""
    return plausible_time(row[3]), row[0]
