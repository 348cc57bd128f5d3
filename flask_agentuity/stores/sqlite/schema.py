"""The tables of the SQLite file, and the constants for the layout of threads in it.

A list is kept as *segments*: rows of a few kilobytes that hold several items each, as JSON
joined by commas. A push writes the last segment only, an edit those segments that it
touches, so both cost the same at any length. The segments of one list are numbered in
ascending order, with free numbers between them for segments that are split.
"""

from __future__ import annotations

#: Marks a file as ours (SQLite's application_id): "agth".
APPLICATION_ID = 0x61677468
FORMAT_VERSION = 4

#: The number of bytes to which a segment is filled. Up to FULL_BYTES, there is room to edit and
#: insert in place.
SEGMENT_BYTES = 3_800
#: A longer segment is split: its row would no longer fit into a page of 4,096 bytes.
FULL_BYTES = 4_040
#: Values up to this size are fetched with every read; larger ones and lists only when wanted.
INLINE_BYTES = 1_000
#: Segments of one entry are numbered within this many bits below the entry's own number.
SEGMENT_BITS = 24
#: The number of a list's first segment, in its range: there is room for segments before it.
FIRST_SEGMENT = 1 << 22
#: The distance between the numbers of segments that follow each other.
STRIDE = 64
#: With more keys than these, a statement picks all entries instead of naming them.
MOST_NAMED = 100

#: The kinds of an entry: a short value in its row, a long value in one segment, a list.
INLINE, LARGE, LIST = range(3)

# The turns on threads. No token is used twice. `renewed` is a time by the clock of the process.
_LEASES = """CREATE TABLE leases (
    token INTEGER PRIMARY KEY AUTOINCREMENT,
    thread_id TEXT NOT NULL UNIQUE,
    holder TEXT NOT NULL,
    renewals INTEGER NOT NULL DEFAULT 0,
    renewed REAL NOT NULL,
    waiting INTEGER NOT NULL DEFAULT 0
);"""

# `expires` is NULL while a run continues, `tail` is the offset of the last chunk. `run_changes` has
# one row: a process that waits for changes of runs looks at it.
_RUNS = """CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    thread_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    format TEXT NOT NULL,
    holder TEXT NOT NULL,
    started REAL NOT NULL,
    status TEXT NOT NULL DEFAULT 'running',
    length INTEGER NOT NULL DEFAULT 0,
    tail INTEGER NOT NULL DEFAULT 0,
    stopping INTEGER NOT NULL DEFAULT 0,
    truncated INTEGER NOT NULL DEFAULT 0,
    keep REAL NOT NULL,
    updated REAL NOT NULL,
    expires REAL,
    UNIQUE (thread_id, run_id)
);
CREATE TABLE run_chunks (
    number INTEGER PRIMARY KEY,
    data BLOB NOT NULL
);
CREATE TABLE run_changes (count INTEGER NOT NULL);
INSERT INTO run_changes VALUES (0);"""

# What finds threads in the order of a listing; see ordering.py.
_ORDER = """CREATE INDEX threads_listed ON threads (listed, id);
CREATE INDEX threads_stale ON threads (stale, owner) WHERE stale = 1;
CREATE INDEX threads_owner ON threads (owner, listed, id) WHERE owner IS NOT NULL;
CREATE TABLE index_terms (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    listed REAL NOT NULL,
    thread INTEGER NOT NULL,
    PRIMARY KEY (key, value, listed, thread)
) WITHOUT ROWID;"""
_TERMS_OF_THREAD = "CREATE INDEX index_terms_thread ON index_terms (thread);"

# `version` is 0 in threads of a file that was upgraded, until they are written. `born` is the
# version of the first write, `deleted` when an earlier thread with this id was deleted.
# `items_before` counts the items of a list before its last segment. It is valid there as long
# as `epoch` is that of the thread.
SCHEMA = f"""
CREATE TABLE threads (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    used REAL NOT NULL,
    entries_size INTEGER NOT NULL,
    metadata BLOB NOT NULL,
    version INTEGER NOT NULL DEFAULT 0,
    born INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    deleted REAL,
    owner TEXT,
    listed REAL NOT NULL DEFAULT 0,
    stale INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX threads_used ON threads (used);
{_ORDER}
{_TERMS_OF_THREAD}
CREATE TABLE thread_entries (
    number INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL,
    key TEXT NOT NULL,
    kind INTEGER NOT NULL,
    nulls INTEGER NOT NULL,
    value BLOB,
    assigned INTEGER NOT NULL DEFAULT 0,
    UNIQUE (thread, key)
);
CREATE TABLE segments (
    number INTEGER PRIMARY KEY,
    items INTEGER NOT NULL,
    body BLOB NOT NULL,
    items_before INTEGER,
    epoch INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE tombstones (
    thread_id TEXT PRIMARY KEY,
    deleted REAL NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tombstones_deleted ON tombstones (deleted);
{_LEASES}
{_RUNS}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
"""

# A process with the program of format 2 may still have the file open, and it looks at the
# format only when it opens it. All its statements that write a thread name the table `entries`:
# without that table they fail and change nothing.
_UPGRADE_FROM_2 = """
ALTER TABLE entries RENAME TO state_entries;
ALTER TABLE state_entries ADD COLUMN assigned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE threads ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE threads ADD COLUMN born INTEGER NOT NULL DEFAULT 0;
ALTER TABLE threads ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE threads ADD COLUMN deleted REAL;
ALTER TABLE segments ADD COLUMN items_before INTEGER;
ALTER TABLE segments ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
CREATE TABLE tombstones (
    thread_id TEXT PRIMARY KEY,
    deleted REAL NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tombstones_deleted ON tombstones (deleted);
PRAGMA user_version = 3;
"""

# Every new table, column and index of format 4 is added here and to SCHEMA. A turn that is taken
# stays so, until those who wait have seen that it is not renewed. A process with the program of
# format 3 that has the file open fails as well: all its statements that read a thread name the
# table `state_entries`, and it writes nothing that it has not read before.
_UPGRADE_FROM_3 = f"""
{_LEASES}
INSERT INTO leases (thread_id, holder, renewed) SELECT thread_id, holder, 0 FROM turns;
DROP TABLE turns;
{_RUNS}
ALTER TABLE state_entries RENAME TO thread_entries;
ALTER TABLE threads ADD COLUMN owner TEXT;
ALTER TABLE threads ADD COLUMN listed REAL NOT NULL DEFAULT 0;
ALTER TABLE threads ADD COLUMN stale INTEGER NOT NULL DEFAULT 0;
UPDATE threads SET listed = updated;
{_ORDER}
INSERT INTO index_terms (key, value, listed, thread)
    SELECT key, value, listed, thread FROM labels JOIN threads ON number = thread;
DROP TABLE labels;
{_TERMS_OF_THREAD}
PRAGMA user_version = 4;
"""

#: What upgrades a file of an earlier format to the next one, for each format.
UPGRADES = {2: _UPGRADE_FROM_2, 3: _UPGRADE_FROM_3}

_SEGMENTS = (1 << SEGMENT_BITS) - 1

#: A condition on `segments`: they belong to the entry `e`.
OF_ENTRY = f"BETWEEN e.number << {SEGMENT_BITS} AND e.number << {SEGMENT_BITS} | {_SEGMENTS}"


def segment_range(entry: int) -> tuple[int, int]:
    """Return the first and the last number that a segment of *entry* can have."""
    first = entry << SEGMENT_BITS
    return first, first + _SEGMENTS
