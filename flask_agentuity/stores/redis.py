"""Threads in Redis or Valkey, for many machines.

A thread is two keys in one cluster slot: a hash with an entry for each key of the state, a
small value itself or else its size, and a sorted set with the large ones. A list is kept as
*segments*, runs of a few kilobytes of items, so that a push rewrites the last one only and
costs the same at any length. In a segment the items are parted by line feeds, which encoded
JSON has nowhere else: so a script can cut a list to its window without knowing JSON, and a
comma in the place of each makes the list again.

Writing is one script. Reading is plain commands that are sent at once, with a version that
shows whether they belong together: a long value costs several times as much when it passes
through a script, and a transaction is refused by a Redis without memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from .. import codec
from ..codec import Snapshot
from ..errors import (
    AuthenticationFailed,
    ConfigurationError,
    OutcomeUnknown,
    RequestTimeout,
    ServiceUnavailable,
    StateTooLarge,
    StoreError,
)
from ..operations import Clear, Delete, Operation, Push, Set
from . import base
from .base import ThreadStore
from .redis_client import Client, client_maker
from .redis_scripts import DELETE, END_TURN, MERGE, TAKE_TURN, TOUCH, Script

# Not before redis_client, which says what to install where it is missing.
import redis  # isort: skip
from redis import exceptions  # isort: skip

#: A segment is not appended to beyond this many bytes; it is what a push may have to copy.
SEGMENT_BYTES = 4000
#: Values up to this size are fetched with every read; larger ones and lists only when wanted.
INLINE_BYTES = 1000
#: Seconds to wait for a connection, and for an answer.
DEFAULT_TIMEOUT = 2.0
#: Seconds in which calls fail at once after one ran into its timeout. A request that could
#: not read still tries to save: it must not wait for a dead Redis twice.
TIMEOUT_PAUSE = 1.0

_Reply = TypeVar("_Reply")


class RedisStore(ThreadStore):
    """Keeps threads in Redis or Valkey, for many machines.

    :param client: a client of redis-py, ``Redis`` or ``RedisCluster``, or a function that
        makes one at the first use. How long it waits for a connection and for an answer is
        the client's own setting; what it would repeat by itself is not repeated. A client
        that was handed in is not closed with the store.
    :param ttl: seconds without use after which a thread expires; None: never.
    :param max_bytes: the largest document.
    :param prefix: what the names of all keys in Redis begin with.

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
    ) -> None:
        if "{" in prefix or "}" in prefix:
            raise ConfigurationError(
                f"prefix={prefix!r} cannot be used: braces say which slot of a cluster a key is in."
            )
        self.ttl = ttl
        self.max_bytes = max_bytes
        self.prefix = prefix
        self._milliseconds = 0 if ttl is None else max(1, round(ttl * 1000))
        self._paused_until = 0.0
        if isinstance(client, Client):
            self._make: Callable[[], Client] | None = None
            self._client: Client | None = client
        elif callable(client):
            self._make = client
            self._client = None
        else:
            raise ConfigurationError(
                f"{client!r} is no client of redis-py. Allowed: redis.Redis, redis.RedisCluster."
            )

    @classmethod
    def from_url(cls, url: str, *, timeout: float = DEFAULT_TIMEOUT, **options: Any) -> RedisStore:
        """Return the store at a URL, for one Redis, a cluster or what Sentinel watches.

        ``redis://[USER:PASSWORD@]HOST:PORT/DB``, ``rediss://`` (TLS), ``unix:///PATH?db=DB``,
        ``redis+cluster://HOST:PORT,HOST:PORT``, ``redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB``;
        ``valkey`` may stand for ``redis``. The query may set ``timeout`` (seconds for a
        connection and for an answer) and ``prefix``; whatever else it has goes to redis-py.
        Nothing is repeated: a dead Redis costs a call its timeout, once.

        :raises ConfigurationError: when the URL or an option is wrong.
        """
        make, prefix = client_maker(url, timeout)
        if prefix is not None:
            options["prefix"] = prefix
        return cls(make, **options)

    def restore(self, thread_id: str) -> bytes | None:
        snapshot = self.read(thread_id)
        if snapshot is None:
            return None
        document = codec.join_document(base.complete(snapshot, thread_id), snapshot.metadata)
        try:
            codec.decode(document)
        except ValueError as error:
            raise codec.damaged(thread_id, str(error)) from None
        return document

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        names = self._names(thread_id)
        wanted = None if keys is None else [codec.encode_key(key) for key in keys]
        fields, members = self._call(
            thread_id,
            lambda connection: _read(connection, names, self._milliseconds, wanted),
        )
        if not fields:
            return None
        try:
            return _snapshot(fields, wanted, members)
        except ValueError as error:
            raise codec.damaged(thread_id, str(error)) from None

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        snapshot = codec.split_document(document, thread_id) or Snapshot({})
        state = base.complete(snapshot, thread_id)
        self.merge(thread_id, [Clear(), *(Set(key, state[key]) for key in state)], metadata)

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        encoded = b"" if metadata is None else codec.encode(dict(metadata), "metadata")
        version = os.urandom(8)
        arguments = [self._milliseconds, self.max_bytes, encoded, SEGMENT_BYTES, version]
        runs: list[list[Push]] = []
        for run in base.runs(operations):
            if pushes := [push for push in run if isinstance(push, Push)]:
                arguments += _push_step(len(runs), pushes)
                runs.append(pushes)
            else:
                arguments += _step(run[0])
        names = self._names(thread_id)
        size, *skipped = self._call(
            thread_id,
            lambda connection: _run(connection, MERGE, names, arguments),
            changes=True,
        )
        if size < 0:
            raise StateTooLarge(-size, self.max_bytes, thread_id)
        base.warn_of_skipped(thread_id, [push for number in skipped for push in runs[number]])

    def delete(self, thread_id: str) -> None:
        names = self._names(thread_id)
        self._call(thread_id, lambda connection: _run(connection, DELETE, names))

    def take_turn(self, thread_id: str, holder: str, seconds: float) -> bool:
        milliseconds = max(1, round(seconds * 1000))
        return bool(self._call_turn(thread_id, TAKE_TURN, [holder, milliseconds]))

    def end_turn(self, thread_id: str, holder: str) -> None:
        self._call_turn(thread_id, END_TURN, [holder])

    def _call_turn(self, thread_id: str, script: Script, arguments: Sequence[Any]) -> Any:
        name, _ = self._names(thread_id)
        names = (f"{name}:turn",)
        return self._call(thread_id, lambda connection: _run(connection, script, names, arguments))

    def close(self) -> None:
        if self._make and self._client:
            self._client.close()

    def _names(self, thread_id: str) -> tuple[str, str]:
        # Braces: what is between them decides of a cluster's slot.
        name = f"{self.prefix}{{{thread_id}}}"
        return name, f"{name}:segments"

    def _call(
        self, thread_id: str, talk: Callable[[Any], _Reply], *, changes: bool = False
    ) -> _Reply:
        """Return what *talk* brings from a connection to the Redis that has the thread.

        *changes*: when the answer is lost, whether it was done matters to the caller.
        """
        if time.monotonic() < self._paused_until:
            raise ServiceUnavailable(
                f"Redis has just let a call wait in vain; nothing was sent for thread {thread_id}."
            )
        redirected = False
        while True:
            client: Client | None = None
            try:
                client = self._connected()
                pool = _pool(client, self._names(thread_id)[0])
                connection = pool.get_connection()
            except (exceptions.RedisError, exceptions.RedisClusterException) as error:
                raise self._not_sent(client, thread_id, error) from error
            try:
                return talk(connection)
            except (exceptions.RedisError, exceptions.RedisClusterException) as error:
                moved = isinstance(error, exceptions.MovedError)
                if not moved or redirected or not isinstance(client, redis.RedisCluster):
                    raise self._failed(client, thread_id, error, changes) from error
            finally:
                pool.release(connection)
            # Nothing was done: the slot is another node's now, and the map was old.
            redirected = True
            self._look_around(client)

    def _connected(self) -> Client:
        if self._client is not None:
            return self._client
        assert self._make is not None
        # setdefault is atomic: of two clients made at once, the second is let go.
        made = self._make()
        client: Client = vars(self).setdefault("_made", made)
        if client is not made:
            made.close()
        self._client = client
        return client

    def _not_sent(self, client: Client | None, thread_id: str, error: Exception) -> StoreError:
        if isinstance(error, _REFUSALS):
            return AuthenticationFailed(f"Redis refused to serve thread {thread_id}: {error}")
        self._note(client, error)
        return ServiceUnavailable(
            f"There is no connection to Redis; nothing was sent for thread {thread_id}: {error}"
        )

    def _failed(
        self, client: Client, thread_id: str, error: Exception, changes: bool
    ) -> StoreError:
        # A longer command without authentication is a fault of the protocol for Redis.
        if isinstance(error, _REFUSALS) or "unauthenticated" in str(error):
            return AuthenticationFailed(f"Redis refused to serve thread {thread_id}: {error}")
        if isinstance(error, _UNREADY):
            self._note(client, error)
            return ServiceUnavailable(
                f"Redis cannot serve thread {thread_id} now; nothing was changed: {error}"
            )
        if isinstance(error, exceptions.ResponseError):
            if "DAMAGED" in str(error):
                return codec.damaged(thread_id, "a segment is missing")
            return StoreError(f"Redis refused thread {thread_id}; nothing was changed: {error}")
        self._note(client, error)
        if changes:
            return OutcomeUnknown(
                f"Redis did not answer; whether thread {thread_id} was changed is unknown: {error}"
            )
        if isinstance(error, exceptions.TimeoutError):
            return RequestTimeout(f"Redis did not answer for thread {thread_id}: {error}")
        return StoreError(f"The connection to Redis broke, thread {thread_id}: {error}")

    def _note(self, client: Client | None, error: Exception) -> None:
        if isinstance(error, exceptions.TimeoutError):
            self._paused_until = time.monotonic() + TIMEOUT_PAUSE
        elif isinstance(client, redis.RedisCluster):
            self._look_around(client)

    def _look_around(self, client: redis.RedisCluster) -> None:
        """Ask a cluster anew which node has which slots: after a failover another has."""
        with suppress(exceptions.RedisError, exceptions.RedisClusterException):
            client.nodes_manager.initialize()


#: Answers of a Redis that has not applied anything, and may do so later.
_UNREADY = (
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.AskError,
)
_REFUSALS = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
)


def _pool(client: Client, name: str) -> redis.ConnectionPool:
    if isinstance(client, redis.RedisCluster):
        node = client.get_node_from_key(name)  # type: ignore[no-untyped-call]
        return client.get_redis_connection(node).connection_pool
    return client.connection_pool


def _exchange(connection: Any, *commands: tuple[Any, ...]) -> list[Any]:
    """Send *commands* at once and return their replies, errors among them.

    Not by the client's own methods: many clients are set to repeat a command whose answer
    was lost, and a push that is repeated is there twice.
    """
    replies: list[Any] = []
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            try:
                replies.append(connection.read_response(disable_decoding=True))
            except (exceptions.ResponseError, exceptions.BusyLoadingError) as error:
                replies.append(error)
    except BaseException:
        # The next to use the connection would read the answers to these commands.
        connection.disconnect()
        raise
    return replies


def _run(
    connection: Any, script: Script, names: Sequence[str], arguments: Sequence[Any] = ()
) -> Any:
    (reply,) = _exchange(connection, ("EVALSHA", script.digest, len(names), *names, *arguments))
    if isinstance(reply, exceptions.NoScriptError):
        (reply,) = _exchange(connection, ("EVAL", script.text, len(names), *names, *arguments))
    if isinstance(reply, Exception):
        raise reply
    return reply


def _read(
    connection: Any, names: tuple[str, str], milliseconds: int, wanted: Sequence[bytes] | None
) -> tuple[dict[bytes, bytes], list[list[bytes]]]:
    """Return the entries of a thread, and the segments of each wanted key (None: of all)."""
    entries, segments = names
    if wanted is None:
        ranges = [(b"-", b"+")]
    else:
        # A colon follows the digits in the order of bytes.
        ranges = [(b"[" + key, b"(" + key + b":") for key in wanted]
    while True:
        *replies, version = _exchange(
            connection,
            ("HGETALL", entries),
            *(("ZRANGEBYLEX", segments, *one) for one in ranges),
            ("EVALSHA", TOUCH.digest, 2, *names, milliseconds),
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        if isinstance(version, exceptions.ResponseError):
            version = _run(connection, TOUCH, names, [milliseconds])
        fields, *members = replies
        if not isinstance(fields, dict):
            fields = dict(zip(fields[::2], fields[1::2], strict=True))
        # Redis runs what came in one packet without a break. Where it came in two, another's
        # change may lie between, and the parts would not belong together.
        if not fields or fields.get(b"version") == version:
            return fields, members


def _snapshot(
    fields: dict[bytes, bytes], wanted: Sequence[bytes] | None, members: list[list[bytes]]
) -> Snapshot:
    """Put a thread together from its entries and segments.

    :raises ValueError: when they are not as the script writes them.
    """
    entries = []
    for key, text in fields.items():
        if key.startswith(b'"'):
            number, _, rest = text.partition(b" ")
            entries.append((int(number), key, rest))
    entries.sort()
    if wanted is None:
        segments = _by_key(members[0], [(key, rest) for _, key, rest in entries])
    else:
        segments = dict(zip(wanted, members, strict=True))
    return Snapshot(
        {codec.decode(key): _value(key, rest, segments.get(key)) for _, key, rest in entries},
        fields.get(b"metadata", b"{}"),
    )


def _by_key(
    members: list[bytes], entries: Sequence[tuple[bytes, bytes]]
) -> dict[bytes, list[bytes]]:
    """Part the segments of a whole thread: they are in the order of their keys' bytes."""
    found = {}
    start = 0
    for key, rest in sorted(entries):
        if not rest.startswith(b"="):
            end = start + _segment_count(rest)
            found[key] = members[start:end]
            start = end
    return found


def _segment_count(rest: bytes) -> int:
    if rest.startswith(b"*"):
        return 1
    first, last, _, _ = rest[1:].split(b" ")
    return int(last) - int(first) + 1


def _value(key: bytes, rest: bytes, members: list[bytes] | None) -> bytes | None:
    if rest.startswith(b"="):
        return rest[1:]
    if members is None:
        return None
    head = len(key) + 11
    if any(not member.startswith(key) for member in members):
        raise ValueError("a segment is missing")
    bodies = [member[head:] for member in members]
    if rest.startswith(b"["):
        # Small parts are changed, and joined once: copying a whole history takes its time.
        bodies = [body.replace(b"\n", b",") for body in bodies] or [b""]
        bodies[0] = b"[" + bodies[0]
        bodies[-1] += b"]"
    value = b",".join(bodies)
    if len(value) != int(rest[1:].rpartition(b" ")[2]):
        raise ValueError("a value has not the size that was stored")
    return value


def _step(operation: Operation) -> list[Any]:
    """Return the arguments of one operation that is not a push, for the script."""
    match operation:
        case Set(key, value, only_if_missing):
            kind, items, bodies = b"=", 0, [value]
            if codec.is_list(value):
                encoded = codec.items_of(value)
                kind, items = b"[", len(encoded)
                bodies = [body for _, body in base.pack(encoded, b"\n", SEGMENT_BYTES)]
            elif len(value) > INLINE_BYTES:
                kind = b"*"
            default = int(only_if_missing)
            head = [b"set", codec.encode_key(key), default, kind]
            return [*head, len(value), items, len(bodies), *bodies]
        case Delete(key):
            return [b"delete", codec.encode_key(key)]
        case _:
            return [b"clear"]


def _push_step(number: int, run: Sequence[Push]) -> list[Any]:
    """Return the arguments of one run of pushes, for the script."""
    records = run[0].max_records
    window = b"" if records is None else records
    packed = base.pack([push.value for push in run], b"\n", SEGMENT_BYTES)
    head = [b"push", codec.encode_key(run[0].key), number, window, len(packed)]
    return [*head, *(argument for piece in packed for argument in piece)]
