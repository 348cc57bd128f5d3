"""Threads in Redis or Valkey, for many machines.

A thread is a hash with an entry for each key of the state, a small value itself or else what is
known of it, and a string for each large value and each list. A push appends to the string of
its list, so it costs the same at any length.

Writing is one script. Reading what a request wants is plain commands that are sent at once,
with a version that shows whether they belong together: a long value costs several times as much
when it passes through a script, and a transaction is refused by a Redis without memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ...document import codec
from ...document.codec import Snapshot
from ...document.operations import Delete, Operation, Push, Set
from ...errors import StateTooLarge
from .. import base, listing, segments
from ..base import KeyedStore
from ..listing import ListedThread, Page
from . import index as redis_index
from .calls import ERRORS, Caller, exchange, run_script
from .client import Client, client_maker
from .keys import (
    Keyspace,
    encode_label,
    label_name,
    require_partitions,
    require_prefix,
    string_name,
)
from .scripts import DELETE, END_TURN, MERGE, READ, TAKE_TURN, TOUCH, Script

logger = logging.getLogger("flask_agentuity.stores.redis")

#: Values up to this size are fetched with every read; larger ones and lists only when wanted.
INLINE_BYTES = 1000
#: Seconds to wait for a connection, and for an answer.
DEFAULT_TIMEOUT = 2.0
#: Into how many parts of its slots a cluster's threads are spread.
CLUSTER_PARTITIONS = 64


class RedisStore(KeyedStore):
    """Keeps threads in Redis, from 5.0 on, or Valkey, for many machines.

    :param client: a client of redis-py, ``Redis`` or ``RedisCluster``, or a function that
        makes one at the first use. How long it waits for a connection and for an answer is
        the client's own setting; what it would repeat by itself is not repeated. A client
        that was handed in is not closed with the store.
    :param ttl: seconds without use after which a thread expires; None: never.
    :param max_bytes: the largest document.
    :param prefix: what the names of all keys in Redis begin with.
    :param partitions: into how many parts threads and their index are spread, each of them in
        one slot of a cluster; None: 64 in a cluster, else one. It cannot be changed later.

    Redis must not evict what is not expired (``maxmemory-policy noeviction``, or one of the
    ``volatile`` policies together with ``ttl=None``): an evicted thread is lost.
    """

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
        self.max_bytes = max_bytes
        self.prefix = prefix
        self._milliseconds = 0 if ttl is None else max(1, round(ttl * 1000))
        self._limits = b"%d %d" % (self._milliseconds, max_bytes)
        self._caller = Caller(client)
        self._keyspace = None if partitions is None else Keyspace(prefix, partitions)

    @classmethod
    def from_url(cls, url: str, *, timeout: float = DEFAULT_TIMEOUT, **options: Any) -> RedisStore:
        """Return the store at a URL, for one Redis, a cluster or what Sentinel watches.

        ``redis://[USER:PASSWORD@]HOST:PORT/DB``, ``rediss://`` (TLS), ``unix:///PATH?db=DB``,
        ``redis+cluster://HOST:PORT,HOST:PORT``, ``redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB``;
        ``valkey`` may stand for ``redis``. The query may set ``timeout`` (seconds for a
        connection and for an answer), ``prefix`` and ``partitions``; whatever else it has goes
        to redis-py. Nothing is repeated: a dead Redis costs a call its timeout, once.

        :raises ConfigurationError: when the URL or an option is wrong.
        """
        make, own = client_maker(url, timeout)
        return cls(make, **{**options, **own})

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        if keys is None:
            return self._read_all(thread_id, self._milliseconds)
        names = self._names(thread_id)
        wanted = [codec.encode_key(key) for key in keys]
        fields, found = self._caller.call(
            names[0],
            thread_id,
            lambda connection: self._read(connection, names, thread_id, wanted),
        )
        return _snapshot(thread_id, fields, dict(zip(wanted, found, strict=True)))

    def peek_at(self, thread_id: str) -> Snapshot | None:
        return self._read_all(thread_id, 0)

    def _read_all(self, thread_id: str, renewed_for: int) -> Snapshot | None:
        """Read everything, and renew the thread for so many milliseconds (0: do not)."""
        names = self._names(thread_id)
        fields, pairs = self._caller.call(
            names[0],
            thread_id,
            lambda connection: run_script(connection, READ, names, (renewed_for,)),
        )
        return _snapshot(thread_id, fields, dict(zip(pairs[::2], pairs[1::2], strict=True)))

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        steps: list[bytes] = []
        keys: set[bytes] = set()
        runs: list[list[Push]] = []
        for run in segments.runs(operations):
            if pushes := [push for push in run if isinstance(push, Push)]:
                steps += _push_step(pushes)
                runs.append(pushes)
            else:
                steps += _step(run[0])
            if isinstance(run[0], Set | Delete | Push):
                keys.add(codec.encode_key(run[0].key))
        too_large, *skipped = self._merge(thread_id, keys, steps, metadata)
        if too_large:
            raise StateTooLarge(-too_large, self.max_bytes, thread_id)
        if skipped:
            base.warn_of_skipped(thread_id, [push for number in skipped for push in runs[number]])

    def delete(self, thread_id: str) -> None:
        names = self._names(thread_id)
        self._caller.call(
            names[0],
            thread_id,
            lambda connection: run_script(connection, DELETE, names),
        )

    def list(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        wanted = metadata or {}
        listing.require_question(wanted, limit)
        after = listing.decode_cursor(cursor) if cursor else None
        listed: dict[str, ListedThread] = {}

        def accept(row: redis_index.Row) -> bool:
            listed[row.id] = _listed(row)
            return listing.matches(listed[row.id].metadata, wanted)

        labels = [encode_label(*label) for label in listing.encode_labels(wanted)]
        rows = redis_index.find(
            self._caller, self._partitions("(all)"), labels, after, limit + 1, accept
        )
        return listing.page_of([listed[row.id] for row in rows], limit)

    def scan(self) -> Iterator[ListedThread]:
        for row in redis_index.scan(self._caller, self._partitions("(all)")):
            yield _listed(row)

    def adopt(self, thread: ListedThread, document: bytes) -> bool:
        snapshot = codec.split_document(document, thread.id) or Snapshot({})
        state = base.complete(snapshot, thread.id)
        times = repr(thread.created).encode(), repr(thread.updated).encode()
        steps: list[bytes] = [b"adopt", *times]
        for key, value in state.items():
            steps += _step(Set(key, value))
        reply = self._merge(
            thread.id, [codec.encode_key(key) for key in state], steps, thread.metadata
        )
        if reply is None:
            return False
        if reply[0]:
            raise StateTooLarge(-reply[0], self.max_bytes, thread.id)
        return True

    def purge(self, progress: Callable[[int], None] | None = None) -> int:
        return redis_index.sweep(self._caller, self._partitions("(all)"), progress)

    def take_turn(self, thread_id: str, holder: str, seconds: float) -> bool:
        milliseconds = max(1, round(seconds * 1000))
        return bool(self._call_turn(thread_id, TAKE_TURN, [holder, milliseconds]))

    def end_turn(self, thread_id: str, holder: str) -> None:
        self._call_turn(thread_id, END_TURN, [holder])

    def warnings(self) -> Sequence[str]:
        name = self._partitions("(all)").of("").index
        memory, persistence, save = self._caller.call(
            name,
            "(all)",
            lambda connection: exchange(
                connection, ("INFO", "memory"), ("INFO", "persistence"), ("CONFIG", "GET", "save")
            ),
        )
        found = []
        if not isinstance(memory, bytes) or not isinstance(persistence, bytes):
            found.append(
                "Redis does not say whether it removes threads when its memory is full, or what it"
                " keeps on disk: its user may not ask (INFO)."
            )
        policy = _line_of(memory, b"maxmemory_policy")
        spares = policy == "noeviction" or (policy.startswith("volatile") and self.ttl is None)
        if policy and not spares and _line_of(memory, b"maxmemory") != "0":
            found.append(
                f"Redis removes threads when its memory is full (maxmemory-policy {policy})."
                " Set it to noeviction: then writing fails, and nothing is lost."
            )
        # Who hosts it may not let one ask.
        saves = isinstance(save, Exception) or any(_pairs(save).values())
        if _line_of(persistence, b"aof_enabled") == "0" and not saves:
            found.append(
                "Redis keeps nothing on disk, and its end is that of all threads."
                " Set appendonly yes."
            )
        return found

    def close(self) -> None:
        self._caller.close()

    def _partitions(self, thread_id: str) -> Keyspace:
        if self._keyspace is None:
            count = CLUSTER_PARTITIONS if self._caller.is_cluster(thread_id) else 1
            self._keyspace = Keyspace(self.prefix, count)
        return self._keyspace

    def _names(self, thread_id: str) -> tuple[bytes, bytes]:
        """Return the names of the thread and of the index it is in."""
        partition = (self._keyspace or self._partitions(thread_id)).of(thread_id)
        return partition.thread(thread_id), partition.index

    def _merge(
        self,
        thread_id: str,
        keys: Collection[bytes],
        steps: Sequence[bytes],
        metadata: Mapping[str, Any] | None,
    ) -> Any:
        thread, index = self._names(thread_id)
        names = [thread, index, *(string_name(thread, key) for key in keys)]
        text = b""
        if metadata is not None:
            metadata = dict(metadata)
            labels = [encode_label(*label) for label in listing.encode_labels(metadata)]
            names += [label_name(index, label) for label in labels]
            text = b"\n".join([codec.encode(metadata, "metadata"), *labels])
        nulls = any(map(codec.may_hold_null, steps))
        arguments = [b"%b %d %d" % (self._limits, len(keys), nulls), text, *steps]
        return self._caller.call(
            thread,
            thread_id,
            lambda connection: run_script(connection, MERGE, names, arguments),
            changes=True,
        )

    def _read(
        self, connection: Any, names: tuple[bytes, bytes], thread_id: str, keys: Sequence[bytes]
    ) -> tuple[Any, Sequence[bytes | None]]:
        """Return the fields of a thread and the strings of *keys*, and renew it if it is time."""
        thread, _ = names
        ttl = self._milliseconds
        commands: list[tuple[Any, ...]] = [(b"HGETALL", thread)]
        commands += [(b"GET", string_name(thread, key)) for key in keys]
        commands += [(b"HGET", thread, b"thread"), (b"PTTL", thread)]
        while True:
            replies = exchange(connection, *commands)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            fields, *strings, head, left = replies
            # Redis runs what came in one packet without a break. Where it came in two, another's
            # change may lie between, and the parts would not belong together.
            if not fields or _pairs(fields).get(b"thread") == head:
                break
        if fields and ttl and (left < ttl * 0.9 or left > ttl):
            try:
                run_script(connection, TOUCH, names, (ttl,))
            except ERRORS as error:
                # Nothing is lost: the next read of the thread tries again.
                logger.debug("The use of thread %s could not be noted: %s", thread_id, error)
        return fields, strings

    def _call_turn(self, thread_id: str, script: Script, arguments: Sequence[Any]) -> Any:
        name = b"%b:turn" % self._names(thread_id)[0]
        return self._caller.call(
            name, thread_id, lambda connection: run_script(connection, script, (name,), arguments)
        )


def _listed(row: redis_index.Row) -> ListedThread:
    try:
        metadata: dict[str, Any] = codec.decode(row.metadata)
    except ValueError as error:
        # One damaged thread does not hide all the others; restoring it raises.
        logger.error("%s", codec.damaged(row.id, str(error)))  # noqa: TRY400
        metadata = {}
    return ListedThread(row.id, metadata, row.created, row.updated, row.size)


def _pairs(fields: Any) -> dict[bytes, bytes]:
    """Return fields by name, which one protocol gives as a map and the other as a list."""
    if isinstance(fields, dict):
        return fields
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _line_of(info: Any, name: bytes) -> str:
    """Return a value of what INFO says; empty where it does not say, or was not allowed to."""
    if isinstance(info, bytes):
        for line in info.splitlines():
            known, _, value = line.partition(b":")
            if known == name:
                return value.decode(errors="replace")
    return ""


def _snapshot(
    thread_id: str, fields: Any, strings: Mapping[bytes, bytes | None]
) -> Snapshot | None:
    """Put a thread together from its fields and from the strings that were fetched."""
    if not fields:
        return None
    try:
        return _put_together(_pairs(fields), strings)
    except ValueError as error:
        raise codec.damaged(thread_id, str(error)) from None


def _put_together(fields: dict[bytes, bytes], strings: Mapping[bytes, bytes | None]) -> Snapshot:
    """Return what the fields and strings of a thread hold.

    :raises ValueError: when they are not as the script writes them.
    """
    if fields.get(b"thread", b"").count(b" ") != 5:
        raise ValueError("what is known of the whole thread is not as it should be")
    entries = []
    for key, text in fields.items():
        if key.startswith(b'"'):
            number, _, rest = text.partition(b" ")
            entries.append((int(number), key, rest))
    entries.sort()
    encoded = {codec.decode(key): _value(key, rest, strings) for _, key, rest in entries}
    return Snapshot(
        encoded,
        fields.get(b"metadata", b"{}").partition(b"\n")[0],
        without_null=frozenset() if b"nulls" in fields else encoded.keys(),
    )


def _value(key: bytes, rest: bytes, strings: Mapping[bytes, bytes | None]) -> bytes | None:
    kind, known = rest[:1], rest[1:]
    if kind == b"=":
        return known
    if kind == b"[" and known == b"2":
        return codec.EMPTY_LIST
    if key not in strings:
        return None
    text = strings[key]
    if text is None:
        raise ValueError("the string of a value is missing")
    if kind == b"|":
        known, _, dead = known.split()
        text = text[int(dead) :].replace(b"\n", b",")
    value = text if kind == b"*" else b"".join((b"[", text, b"]"))
    if len(value) != int(known):
        raise ValueError("a value has not the size that was stored")
    return value


def _step(operation: Operation) -> Sequence[bytes]:
    """Return the arguments of one operation that is not a push, for the script."""
    match operation:
        case Set(key, value, only_if_missing):
            kind = b"="
            if codec.is_list(value):
                kind, value = b"[", value[1:-1]
            elif len(value) > INLINE_BYTES:
                kind = b"*"
            return b"default" if only_if_missing else b"set", codec.encode_key(key), kind, value
        case Delete(key):
            return b"delete", codec.encode_key(key)
        case _:
            return (b"clear",)


def _push_step(run: Sequence[Push]) -> Sequence[bytes]:
    """Return the arguments of one run of pushes, for the script."""
    records = run[0].max_records
    separator, window = b",", b""
    if records is not None:
        separator, window = b"\n", b"%d %d" % (records, len(run))
    items = separator.join([push.value for push in run])
    return b"push", codec.encode_key(run[0].key), window, items
