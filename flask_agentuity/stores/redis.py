"""Threads in Redis or Valkey, for many machines.

A thread is two hashes in one cluster slot. The first has a field for each key of the
state: a small value itself, or else where the value is. The second has the *segments*:
large values, and lists as runs of a few kilobytes of items, so that a push rewrites the
last run only and costs the same at any length. Inside a run the items are parted by line
feeds, which encoded JSON has nowhere else: so the script that cuts a list to its window
needs to know nothing of JSON, and a comma in the place of each makes the list again.

Each call is one script and one round trip.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

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
from .redis_scripts import DELETE, MERGE, READ, Script

# Not before redis_client, which says what to install where it is missing.
import redis  # isort: skip
from redis import exceptions  # isort: skip

#: A segment is not appended to beyond this many bytes; it is what a push may have to copy.
SEGMENT_BYTES = 8000
#: Values up to this size are fetched with every read; larger ones and lists only when wanted.
INLINE_BYTES = 1000
#: Seconds to wait for a connection, and for an answer.
DEFAULT_TIMEOUT = 2.0
#: Seconds in which calls fail at once after one ran into its timeout. A request that could
#: not read still tries to save: it must not wait for a dead Redis twice.
TIMEOUT_PAUSE = 1.0


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
        wanted = ["all"] if keys is None else ["keys", *keys]
        reply = self._call(READ, thread_id, [self._milliseconds, *wanted])
        if reply is None:
            return None
        try:
            return _snapshot(*reply)
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
        arguments: list[Any] = [self._milliseconds, self.max_bytes, encoded, SEGMENT_BYTES]
        runs: list[list[Push]] = []
        for operation, run in _runs(operations):
            if isinstance(operation, Push):
                arguments += _push_step(len(runs), run)
                runs.append(run)
            else:
                arguments += _step(operation)
        size, *skipped = self._call(MERGE, thread_id, arguments)
        if size < 0:
            raise StateTooLarge(-size, self.max_bytes, thread_id)
        base.warn_of_skipped(thread_id, [push for number in skipped for push in runs[number]])

    def delete(self, thread_id: str) -> None:
        self._call(DELETE, thread_id, [])

    def close(self) -> None:
        if self._make and self._client:
            self._client.close()

    def _call(self, script: Script, thread_id: str, arguments: Sequence[Any]) -> Any:
        """Run *script* on one thread: one round trip, and never a second try."""
        if time.monotonic() < self._paused_until:
            raise ServiceUnavailable(
                f"Redis has just let a call wait in vain; nothing was sent for thread {thread_id}."
            )
        name = f"{self.prefix}{{{thread_id}}}"
        arguments = [2, name, f"{name}:segments", *arguments]
        client: Client | None = None
        try:
            client = self._connected()
            pool = _pool(client, name)
            connection = pool.get_connection()
        except (exceptions.RedisError, exceptions.RedisClusterException) as error:
            raise self._not_sent(client, thread_id, error) from error
        try:
            try:
                return _exchange(connection, "EVALSHA", script.digest, *arguments)
            except exceptions.NoScriptError:
                return _exchange(connection, "EVAL", script.text, *arguments)
            except (exceptions.AskError, exceptions.TryAgainError):
                if not isinstance(client, redis.RedisCluster):
                    raise
                # The slot is moving or was moved: the client finds out where it is now. A
                # node that is named keeps it from repeating what may have been applied.
                node = client.get_node_from_key(name)  # type: ignore[no-untyped-call]
                return client.execute_command(  # type: ignore[no-untyped-call]
                    "EVAL", script.text, *arguments, target_nodes=node, NEVER_DECODE=True
                )
        except (exceptions.RedisError, exceptions.RedisClusterException) as error:
            raise self._failed(client, script, thread_id, error) from error
        finally:
            pool.release(connection)

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
        self, client: Client, script: Script, thread_id: str, error: Exception
    ) -> StoreError:
        if isinstance(error, _REFUSALS):
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
        if script.changes:
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
            # After a failover another node has the slot.
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


def _exchange(connection: Any, *command: Any) -> Any:
    # Not by the client's execute_command(): many clients are set to repeat a command whose
    # answer was lost, and a push that is repeated is there twice.
    try:
        connection.send_command(*command)
        return connection.read_response(disable_decoding=True)
    except (exceptions.ResponseError, exceptions.BusyLoadingError):
        raise
    except BaseException:
        # The next to use the connection would read the answer to this command.
        connection.disconnect()
        raise


def _snapshot(lengths: bytes, reply: bytes) -> Snapshot:
    """Take apart what the read script put together.

    :raises ValueError: when something is not as the merge script wrote it.
    """
    metadata = b"{}"
    found: list[tuple[int, str, bytes | None]] = []
    numbers = map(int, lengths.split())
    at = 0
    for field_size, text_size, body_size in zip(numbers, numbers, numbers, strict=True):
        field = reply[at : at + field_size]
        at += field_size
        text = reply[at : at + text_size]
        at += text_size
        value: bytes | None = None
        if body_size >= 0:
            value = reply[at : at + body_size]
            at += body_size
        if field == b"metadata":
            metadata = text
        elif field.startswith(b">"):
            number, _, rest = text.partition(b" ")
            found.append((int(number), field[1:].decode(), _value(rest, value)))
    found.sort()
    return Snapshot({key: value for _, key, value in found}, metadata)


def _value(rest: bytes, body: bytes | None) -> bytes | None:
    if rest.startswith(b"="):
        return rest[1:]
    if body is None:
        return None
    if rest.startswith(b"["):
        body = b"[%b]" % body.replace(b"\n", b",")
    if len(body) != int(rest[1:].rpartition(b" ")[2]):
        raise ValueError("a value has not the size that was stored")
    return body


def _runs(operations: Sequence[Operation]) -> Iterator[tuple[Operation, list[Push]]]:
    """Bring pushes in a row to one key with one window together; others come alone."""

    def together(operation: Operation) -> object:
        if isinstance(operation, Push):
            return operation.key, operation.max_records
        return id(operation)

    for _, group in groupby(operations, together):
        run = list(group)
        yield run[0], [push for push in run if isinstance(push, Push)]


def _step(operation: Operation) -> list[Any]:
    """Return the arguments of one operation that is not a push, for the merge script."""
    match operation:
        case Set(key, value, only_if_missing):
            kind, items, pieces = b"=", 0, [value]
            if codec.is_list(value):
                encoded = codec.items_of(value)
                kind, items = b"[", len(encoded)
                pieces = [body for _, body in _pack(encoded)]
            elif len(value) > INLINE_BYTES:
                kind = b"*"
            name = b"default" if only_if_missing else b"set"
            return [name, key, _overhead(key), kind, len(value), items, len(pieces), *pieces]
        case Delete(key):
            return [b"delete", key, _overhead(key)]
        case _:
            return [b"clear"]


def _push_step(number: int, run: Sequence[Push]) -> list[Any]:
    """Return the arguments of one run of pushes, for the merge script."""
    key, records = run[0].key, run[0].max_records
    pieces = _pack([push.value for push in run])
    window = b"" if records is None else records
    step = [b"push", key, _overhead(key), number, window, len(pieces)]
    return [*step, *(argument for piece in pieces for argument in piece)]


def _overhead(key: str) -> int:
    return codec.entry_size(codec.encode_key(key), 0)


def _pack(items: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Join *items* into as few segments as hold them, each with its number of items."""
    packed: list[tuple[int, bytes]] = []
    run: list[bytes] = []
    size = 0
    for item in items:
        if run and size + len(item) > SEGMENT_BYTES:
            packed.append((len(run), b"\n".join(run)))
            run, size = [], 0
        run.append(item)
        size += len(item) + 1
    if run:
        packed.append((len(run), b"\n".join(run)))
    return packed
