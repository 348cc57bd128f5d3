"""Threads in Redis or Valkey, for many machines.

A thread is a hash with an entry for each key of the state. The entry holds a small value, or the
size of a value that is stored in a string: a long one, or a list. A push appends to the string of
its list, and an edit changes a part of it, so neither sends more if the list is longer.

A write is one script. A read is plain commands in one packet, with a version that shows whether
their replies belong together: a long value costs several times as much if it passes through a
script, and a Redis without free memory refuses transactions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

from ...document import codec
from ...document.codec import Snapshot
from ...document.operations import Edit, EditMetadata, Set, SetMetadata
from ...errors import TurnLost
from .. import base, listing
from ..expected import Expected
from ..listing import ListedThread, Page, Query, require_times
from ..subjects import ALL_THREADS
from ..writing import Conflict, Write, Written
from . import index as redis_index
from .advice import advise
from .calls import Caller
from .client import Client, client_maker
from .failures import ERRORS
from .keys import (
    Keyspace,
    decode_owner,
    encode_owner,
    encode_term,
    owner_term,
    require_partitions,
    require_prefix,
    string_name,
)
from .line import Line
from .many_fields import take_fields
from .merging import Merger
from .moving import MovingInRedis
from .reading import compose, head_field, pairs
from .runs import RedisRuns
from .script_reading import read_by_script
from .scripts import DELETE, DELETE_FOR, FENCED_DELETE_FOR, RENEW
from .steps import Steps
from .turns import RedisTurns
from .writer import REMEMBERED, Writer

logger = logging.getLogger("flask_agentuity.stores.redis")

#: Seconds to wait for a connection, and for a reply.
DEFAULT_TIMEOUT = 2.0
#: Into how many parts the threads of a cluster are divided.
CLUSTER_PARTITIONS = 64

_EDITS = frozenset((Edit, EditMetadata))


class RedisStore(RedisTurns, MovingInRedis):
    """Keeps threads in Redis, from 5.0 on, or Valkey, for many machines.

    :param client: a client of redis-py, ``Redis`` or ``RedisCluster``, or a function that
        makes one at the first use. The client's timeouts apply, but not its retries. A client
        that was passed in is not closed with the store.
    :param ttl: seconds without use after which a thread expires; None: never.
    :param max_bytes: the largest document.
    :param prefix: what the names of all keys in Redis begin with.
    :param partitions: the number of parts into which threads and their index are divided, each
        in one slot of a cluster; None: 64 in a cluster, otherwise 1. It cannot be changed later.

    Redis must not evict keys before they expire (use ``maxmemory-policy noeviction``, or a
    ``volatile`` policy together with ``ttl=None``), because an evicted thread is lost.

    Threads that were written by a version of this package without edits can be read. The first
    write to such a thread converts it. Processes that still run the older version then find the
    thread damaged and do not change it, so update all processes at the same time.
    """

    edits = True
    owners = True

    def __init__(
        self,
        client: Client | Callable[[], Client],
        *,
        ttl: float | None = base.DEFAULT_TTL,
        max_bytes: int = codec.MAX_DOCUMENT_BYTES,
        prefix: str = "agentuity:",
        partitions: int | None = None,
    ) -> None:
        require_prefix(prefix)
        if partitions is not None:
            require_partitions(partitions)
        self.ttl = ttl
        self.max_bytes: int = max_bytes
        self.prefix = prefix
        self._milliseconds = 0 if ttl is None else max(1, round(ttl * 1000))
        self._given = client, partitions
        self._caller = Caller(client)
        self._writer = Writer(self._caller, self._milliseconds, max_bytes)
        self.runs = RedisRuns(self._caller, lambda thread_id: self._names(thread_id)[0])
        self._merger = Merger(self._caller, self._writer, self.read)
        self._keyspace = None if partitions is None else Keyspace(prefix, partitions)

    @classmethod
    def from_url(cls, url: str, *, timeout: float = DEFAULT_TIMEOUT, **options: Any) -> RedisStore:
        """Return the store at a URL, for one Redis, a cluster or a master that Sentinel names.

        ``redis://[USER:PASSWORD@]HOST:PORT/DB``, ``rediss://`` (TLS), ``unix:///PATH?db=DB``,
        ``redis+cluster://HOST:PORT,HOST:PORT``, ``redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB``;
        ``valkey`` can replace ``redis``. The query may set ``timeout`` (seconds for a connection
        and for a reply), ``prefix`` and ``partitions``; other options are passed to redis-py.
        Nothing is retried: if Redis is down, a call takes its timeout once.

        :raises ConfigurationError: if the URL or an option is wrong.
        """
        make, own = client_maker(url, timeout)
        return cls(make, **{**options, **own})

    @property
    def max_keys(self) -> int:
        """The most keys that a state may have."""
        return self._writer.max_keys

    @max_keys.setter
    def max_keys(self, value: int) -> None:
        self._writer.max_keys = value

    def for_tenants(self) -> RedisStore:
        """Return the store for a service's tenants: in the same Redis, with another prefix."""
        client, partitions = self._given
        prefix = f"{self.prefix.removesuffix(':')}-tenants:"
        ttl, limit = self.ttl, self.max_bytes
        tenants = RedisStore(client, ttl=ttl, max_bytes=limit, prefix=prefix, partitions=partitions)
        tenants.max_keys = self.max_keys
        return tenants

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        if keys is None:
            return self._read_all(thread_id, self._milliseconds)
        names = self._names(thread_id)
        wanted = [codec.encode_key(key) for key in keys]
        return self._caller.call(
            names[0], thread_id, lambda line: self._read(line, names, thread_id, wanted)
        )

    def read_for(
        self, person: str | None, thread_id: str, keys: Collection[str] | None = None
    ) -> Snapshot | None:
        wanted = () if keys is None else tuple(map(codec.encode_key, keys))
        about = encode_owner(person), b"*" if keys is None else b"", *wanted
        names = self._names(thread_id)
        found = read_by_script(self._caller, names, thread_id, self._milliseconds, about, wanted)
        if isinstance(found, bytes):
            return Snapshot({}, owner=decode_owner(found))
        return compose(thread_id, *found, is_all=keys is None)

    def read_without_renewing(self, thread_id: str) -> Snapshot | None:
        return self._read_all(thread_id, 0)

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        if len(write.operations) > self.max_keys:
            self._require_possible_keys(thread_id, write.operations)
        names = self._names(thread_id)
        if _EDITS.isdisjoint(map(type, write.operations)):
            return self._writer.write(names, thread_id, write)
        return self._merger.write(names, thread_id, write)

    def delete(self, thread_id: str) -> None:
        names = self._names(thread_id)

        def talk(line: Line) -> None:
            sent = time.monotonic()
            line.clock.note(sent, int(line.run(DELETE, names, (REMEMBERED,))))

        self._caller.call(names[0], thread_id, talk)

    def delete_for(self, thread_id: str, expected: Expected) -> None:
        names = self._names(thread_id)
        arguments = REMEMBERED, expected.version, encode_owner(expected.owner)

        def talk(line: Line) -> bytes:
            sent = time.monotonic()
            if expected.turn is None:
                status, *deleted = line.run(DELETE_FOR, names, arguments)
            else:
                status, *deleted = line.run(FENCED_DELETE_FOR, names, (*arguments, expected.turn))
            if deleted:
                line.clock.note(sent, int(deleted[0]))
            return bytes(status)

        if self._caller.call(names[0], thread_id, talk) == b"fenced":
            raise TurnLost(thread_id)

    def find(self, query: Query) -> Page:
        listed: dict[str, ListedThread] = {}

        def accept(row: redis_index.Row) -> bool:
            listed[row.id] = _listed(row)
            return query.matches(listed[row.id])

        partitions, ttl = self._partitions(ALL_THREADS), self._milliseconds
        rows = redis_index.find(
            self._caller, partitions, _terms_of(query), query.after, query.limit + 1, accept, ttl
        )
        return query.page_of([listed[row.id] for row in rows])

    def describe(self, thread_id: str) -> ListedThread | None:
        row = redis_index.describe(self._caller, self._names(thread_id), thread_id)
        return None if row is None else _listed(row)

    def scan(self) -> Iterator[ListedThread]:
        for row in redis_index.scan(self._caller, self._partitions(ALL_THREADS)):
            yield _listed(row)

    def scan_for(self, query: Query) -> Iterator[ListedThread]:
        partitions, terms = self._partitions(ALL_THREADS), _terms_of(query)
        for row in redis_index.scan(self._caller, partitions, terms):
            if query.matches(thread := _listed(row)):
                yield thread

    def import_thread(self, thread: ListedThread, document: bytes) -> bool:
        require_times(thread)
        snapshot = codec.split_document(document, thread.id) or Snapshot({})
        state = base.complete(snapshot, thread.id)
        steps = Steps()
        steps.import_thread(thread)
        for key, value in state.items():
            steps.add(Set(key, value))
        steps.add(SetMetadata(codec.encode(thread.metadata, "metadata")))
        return self._writer.import_thread(self._names(thread.id), thread, steps)

    def purge(self, progress: Callable[[int], None] | None = None) -> int:
        partitions = self._partitions(ALL_THREADS)
        return redis_index.sweep(self._caller, partitions, self._milliseconds, progress)

    def count_expired(self) -> int:
        return redis_index.sweep(self._caller, self._partitions(ALL_THREADS), 0, remove=False)

    def warnings(self) -> Sequence[str]:
        asked = (b"INFO", b"memory"), (b"INFO", b"persistence"), (b"CONFIG", b"GET", b"save")
        memory, persistence, save = self._caller.call(
            self._partitions(ALL_THREADS).of("").index,
            ALL_THREADS,
            lambda line: line.exchange(*asked),
        )
        return advise(memory, persistence, save, expires=self.ttl is not None)

    def close(self) -> None:
        self._caller.close()

    def _partitions(self, thread_id: str) -> Keyspace:
        if self._keyspace is None:
            count = CLUSTER_PARTITIONS if self._caller.is_cluster(thread_id) else 1
            self._keyspace = Keyspace(self.prefix, count)
        return self._keyspace

    def _names(self, thread_id: str) -> tuple[bytes, bytes]:
        """Return the keys of a thread and of its index."""
        return (self._keyspace or self._partitions(thread_id)).names(thread_id)

    def _read(
        self, line: Line, names: tuple[bytes, bytes], thread_id: str, keys: Sequence[bytes]
    ) -> Snapshot | None:
        """Read a thread with the strings of *keys*, and renew its time to live if necessary."""
        thread, head = names[0], b"head"
        commands: list[tuple[bytes, ...]] = [(b"HGETALL", thread)]
        commands += [(b"GET", string_name(thread, key)) for key in keys]
        take = partial(take_fields, wanted=keys)
        while True:
            replies = line.query(*commands, (b"HGET", thread, head), (b"PTTL", thread), take=take)
            fields, left = pairs(replies[0]), replies[-1]
            # Commands that arrive in one packet run without interruption. If they arrive in two,
            # another write may come between, and the replies do not belong together.
            if not fields or (head in fields and fields[head] == replies[-2]):
                break
            head = head_field(fields)
            if head not in fields:
                break
        ttl = self._milliseconds
        if fields and ttl and (left < ttl * 0.9 or left > ttl):
            try:
                line.run(RENEW, names, (ttl, REMEMBERED))
            except ERRORS as error:
                # The next read of the thread tries again.
                logger.debug(
                    "The expiry of thread %s could not be postponed: %s",
                    thread_id,
                    error,
                    extra={"thread_id": thread_id},
                )
        return compose(thread_id, fields, dict(zip(keys, replies[1:-2], strict=True)))

    def _read_all(self, thread_id: str, renewed_for: int) -> Snapshot | None:
        """Read everything, and renew the time to live, in milliseconds (0: leave it alone)."""
        names = self._names(thread_id)
        found = read_by_script(self._caller, names, thread_id, renewed_for)
        assert not isinstance(found, bytes)
        return compose(thread_id, *found, is_all=True)


def _terms_of(query: Query) -> list[bytes]:
    """Return the index terms of the threads that *query* asks for."""
    terms = [encode_term(*term) for term in listing.index_terms(query.metadata)]
    if query.owner is not None:
        terms.append(owner_term(encode_owner(query.owner)))
    return terms


def _listed(row: redis_index.Row) -> ListedThread:
    try:
        metadata = codec.decode_metadata(row.metadata)
    except ValueError as error:
        # One damaged thread must not hide the others. Restoring it raises.
        logger.error(  # noqa: TRY400 - the text says enough
            "A damaged thread is listed without its metadata: %s",
            codec.damaged(row.id, str(error)),
            extra={"thread_id": row.id},
        )
        metadata = {}
    return ListedThread(
        row.id, metadata, row.created, row.updated, row.size, row.owner, row.expires
    )
