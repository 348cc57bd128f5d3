"""Calls to Redis. Each is made once, on the node that has the key."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from ...errors import ConfigurationError, ServiceUnavailable, StoreError
from ...per_process import PerProcess
from ..subjects import subject
from .client import Client, exceptions, redis
from .clock import ServerClock
from .failures import ERRORS, failed, is_answer, is_refusal, not_sent
from .line import Line
from .scripts import Script

#: Seconds in which calls fail immediately after a timeout. A request that could not read still
#: tries to save, and must not wait for a dead Redis twice.
TIMEOUT_PAUSE = 1.0

#: How often a call is redirected to another node of a cluster. If a slot has moved twice, a node
#: may know only of the first time.
MOST_REDIRECTIONS = 5

_Reply = TypeVar("_Reply")


class _Server:
    """What is known about one server: the kept connections, and its clock."""

    __slots__ = ("clock", "is_forgotten", "kept")

    def __init__(self) -> None:
        self.clock = ServerClock()
        self.kept: list[Line] = []
        self.is_forgotten = False

    def forget(self) -> None:
        """Give the connections back to their pool. Those in use are given back later."""
        self.is_forgotten = True
        while self.kept:
            # Another thread may take the last one.
            with suppress(IndexError):
                self.kept.pop().release()


class Caller:
    """Calls one Redis, a cluster or the master that Sentinel names.

    The connections of a client that the store has made itself are kept between calls, as many as
    were in use at the same time. A client that was passed in gets each back after the call.

    :param client: a client of redis-py, or a function that makes one at the first use.
    """

    def __init__(self, client: Client | Callable[[], Client]) -> None:
        self._paused_until = 0.0
        self._cluster: redis.RedisCluster | None = None
        self._pool: redis.ConnectionPool | None = None
        self._making = PerProcess(lambda: threading.Lock())
        self._servers: PerProcess[dict[redis.ConnectionPool, _Server]] = PerProcess(dict)
        self._closed = False
        if isinstance(client, Client):
            self._make: Callable[[], Client] | None = None
            self._client: Client | None = client
        elif callable(client):
            self._make = client
            self._client = None
        else:
            raise ConfigurationError(
                f"{client!r} is not a client of redis-py. Allowed: redis.Redis, redis.RedisCluster."
            )

    def close(self) -> None:
        """Close the client, unless it was passed in."""
        self._closed = True
        self._forget_servers()
        if self._make and self._client:
            self._client.close()

    def is_cluster(self, thread_id: str) -> bool:
        """Return whether this is a cluster. It makes the client if there is none yet."""
        try:
            self._meet()
        except ERRORS as error:
            raise self._not_sent(thread_id, error) from error
        return self._cluster is not None

    def call(
        self,
        name: bytes,
        thread_id: str,
        talk: Callable[[Line], _Reply],
        *,
        changes: bool = False,
        moved: exceptions.MovedError | None = None,
    ) -> _Reply:
        """Return the result of *talk*, called with a line to the Redis that has the key *name*.

        :param changes: whether the caller must know if the call took effect.
        :param moved: the reply of a node that no longer has the key.
        :raises StoreError: if there is no connection, no reply, or an error in the reply.
        """
        if self._paused_until and time.monotonic() < self._paused_until:
            raise ServiceUnavailable(
                "Redis did not answer the previous call; nothing was sent for"
                f" {subject(thread_id)}."
            )
        redirections = 0
        while True:
            server, line = self._take(name, thread_id, moved)
            try:
                reply = talk(line)
            except BaseException as error:
                line.release()
                redirections += 1
                if not isinstance(error, ERRORS):
                    raise
                if not isinstance(error, exceptions.MovedError) or redirections > MOST_REDIRECTIONS:
                    raise self._failed(name, thread_id, error, changes) from error
                # Nothing was done: another node has the slot now, and the known slots are outdated.
                moved = error
                self._find_nodes()
            else:
                if line.keep:
                    server.kept.append(line)
                    if server.is_forgotten:
                        server.forget()
                else:
                    line.release()
                return reply

    def subscription(self) -> Any:
        """Return redis-py's PubSub, which subscribes to channels on a separate connection."""
        self._meet()
        assert self._client is not None
        return self._client.pubsub()  # type: ignore[no-untyped-call]

    def failure(self, name: bytes, thread_id: str, error: Exception) -> StoreError:
        """Return the error of the store for an error in a reply, or of a connection."""
        return self._failed(name, thread_id, error, False)

    def run_each(
        self, thread_id: str, script: Script, calls: Sequence[tuple[bytes, Sequence[Any]]]
    ) -> list[Any]:
        """Run *script* for several keys, each with its own arguments, and return the replies.

        Each node gets its calls in one packet.

        :raises StoreError: as :meth:`call`.
        """
        replies: dict[int, Any] = {}
        moved: dict[int, exceptions.MovedError] = {}
        redirections: Counter[int] = Counter()
        while len(replies) < len(calls):
            for numbers in self._by_node(thread_id, calls, replies, moved):
                batch = [calls[number] for number in numbers]
                found = self.call(
                    batch[0][0],
                    thread_id,
                    partial(Line.run_each, script=script, calls=batch),
                    moved=moved.get(numbers[0]),
                )
                for number, reply in zip(numbers, found, strict=True):
                    redirections[number] += 1
                    if isinstance(reply, exceptions.MovedError) and (
                        redirections[number] <= MOST_REDIRECTIONS
                    ):
                        moved[number] = reply
                    elif isinstance(reply, Exception):
                        raise self._failed(calls[number][0], thread_id, reply, False) from reply
                    else:
                        replies[number] = reply
            if len(replies) < len(calls):
                self._find_nodes()
        return [replies[number] for number in range(len(calls))]

    def _by_node(
        self,
        thread_id: str,
        calls: Sequence[tuple[bytes, Sequence[Any]]],
        done: Collection[int],
        moved: Mapping[int, exceptions.MovedError],
    ) -> list[list[int]]:
        groups: dict[int, list[int]] = {}
        try:
            for number, (name, _) in enumerate(calls):
                if number not in done:
                    pool = self._pool_of(name, moved.get(number))
                    groups.setdefault(id(pool), []).append(number)
        except ERRORS as error:
            raise self._not_sent(thread_id, error) from error
        return list(groups.values())

    def _take(
        self, name: bytes, thread_id: str, moved: exceptions.MovedError | None
    ) -> tuple[_Server, Line]:
        try:
            pool = self._pool or self._pool_of(name, moved)
            servers = self._servers.get()
            # setdefault is atomic, so all threads get the same value.
            server = servers.get(pool) or servers.setdefault(pool, _Server())
            while server.kept:
                try:
                    line = server.kept.pop()
                except IndexError:
                    # Another thread has taken it.
                    break
                if line.is_ready():
                    return server, line
                line.discard()
            keep = self._may_keep(pool)
            return server, Line(pool.get_connection(), pool, server.clock, keep=keep)
        except ERRORS as error:
            raise self._not_sent(thread_id, error) from error

    def _may_keep(self, pool: redis.ConnectionPool) -> bool:
        # The owner of a client that was passed in may need all of its connections. Other kinds of
        # pools need each one back, to limit, replace or authenticate it.
        return (
            self._make is not None
            and not self._closed
            and type(pool) is redis.ConnectionPool
            and pool.cache is None
            and not pool.connection_kwargs.get("credential_provider")
        )

    def _forget_servers(self) -> None:
        servers = self._servers.get()
        for pool in list(servers):
            if server := servers.pop(pool, None):
                server.forget()

    def _meet(self) -> None:
        if self._client is None:
            assert self._make is not None
            # Not under the lock: if making it fails, the threads would have to fail one after
            # another.
            made = self._make()
            with self._making.get():
                if self._client is None:
                    self._client = made
            if self._client is not made:
                made.close()
        # Checked once, because it is slow for these classes.
        if isinstance(self._client, redis.RedisCluster):
            self._cluster = self._client
        else:
            self._pool = self._client.connection_pool

    def _pool_of(
        self, name: bytes, moved: exceptions.MovedError | None = None
    ) -> redis.ConnectionPool:
        if self._cluster is None:
            self._meet()
        if self._pool is not None:
            return self._pool
        cluster = self._cluster
        assert cluster is not None
        node = None
        if moved:
            # The node that was asked for the slots may not know it yet.
            node = cluster.get_node(host=moved.host, port=moved.port)  # type: ignore[no-untyped-call]
        if node is None:
            node = cluster.get_node_from_key(name)  # type: ignore[no-untyped-call]
        return cluster.get_redis_connection(node).connection_pool

    def _not_sent(self, thread_id: str, error: Exception) -> StoreError:
        if not is_refusal(error):
            self._note(error)
        return not_sent(thread_id, error)

    def _failed(self, name: bytes, thread_id: str, error: Exception, changes: bool) -> StoreError:
        if not is_answer(error):
            self._note(error)
        return failed(name, thread_id, error, changes=changes)

    def _note(self, error: Exception) -> None:
        if isinstance(error, exceptions.TimeoutError):
            self._paused_until = time.monotonic() + TIMEOUT_PAUSE
        else:
            self._find_nodes()

    def _find_nodes(self) -> None:
        """Ask a cluster which node has which slots; a failover changes it."""
        if self._cluster is not None:
            # A node that has left the cluster must not keep its connections.
            self._forget_servers()
            with suppress(*ERRORS):
                self._cluster.nodes_manager.initialize()
