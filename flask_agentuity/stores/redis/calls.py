"""Talking to Redis: each call once, on the node that has the key, and with what went wrong said."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from ...document import codec
from ...errors import (
    AuthenticationFailed,
    ConfigurationError,
    OutcomeUnknown,
    RequestTimeout,
    ServiceUnavailable,
    StoreError,
)
from .client import Client
from .scripts import Script

# Not before redis_client, which says what to install where it is missing.
import redis  # isort: skip
from redis import exceptions  # isort: skip

#: Seconds in which calls fail at once after one ran into its timeout. A request that could
#: not read still tries to save: it must not wait for a dead Redis twice.
TIMEOUT_PAUSE = 1.0

#: How often a call follows a cluster from node to node: of a slot that has moved twice, a node
#: may know the first time only.
MOST_REDIRECTIONS = 5

_Reply = TypeVar("_Reply")

#: What redis-py raises; the second is its own for a cluster that it cannot find its way in.
ERRORS = (exceptions.RedisError, exceptions.RedisClusterException)

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


class Caller:
    """Calls one Redis, a cluster or what Sentinel watches.

    :param client: a client of redis-py, or what makes one at the first use.
    """

    def __init__(self, client: Client | Callable[[], Client]) -> None:
        self._paused_until = 0.0
        self._cluster: redis.RedisCluster | None = None
        self._pool: redis.ConnectionPool | None = None
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

    def close(self) -> None:
        """Close the client, unless it was handed in."""
        if self._make and self._client:
            self._client.close()

    def is_cluster(self, thread_id: str) -> bool:
        """Return whether this is a cluster, for which the client may have to be made."""
        try:
            self._meet()
        except ERRORS as error:
            raise self._not_sent(thread_id, error) from error
        return self._cluster is not None

    def call(
        self,
        name: bytes,
        thread_id: str,
        talk: Callable[[Any], _Reply],
        *,
        changes: bool = False,
        moved: exceptions.MovedError | None = None,
    ) -> _Reply:
        """Return what *talk* brings from a connection to the Redis that has the key *name*.

        *changes*: when the answer is lost, whether it was done matters to the caller. *moved*:
        the answer of a node that does not have the key any more.
        """
        if self._paused_until and time.monotonic() < self._paused_until:
            raise ServiceUnavailable(
                f"Redis has just let a call wait in vain; nothing was sent for thread {thread_id}."
            )
        redirections = 0
        while True:
            try:
                pool = self._pool or self._pool_of(name, moved)
                connection = pool.get_connection()
            except ERRORS as error:
                raise self._not_sent(thread_id, error) from error
            try:
                return talk(connection)
            except ERRORS as error:
                redirections += 1
                if not isinstance(error, exceptions.MovedError) or (
                    redirections > MOST_REDIRECTIONS
                ):
                    raise self._failed(name, thread_id, error, changes) from error
                # Nothing was done: the slot is another node's now, and the map was old.
                moved = error
            finally:
                pool.release(connection)
            self._look_around()

    def run_each(
        self, thread_id: str, script: Script, calls: Sequence[tuple[bytes, Sequence[Any]]]
    ) -> list[Any]:
        """Return the replies of *script* for each name of a key and its arguments.

        What one node has is sent to it at once.
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
                    partial(run_scripts, script=script, calls=batch),
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
                self._look_around()
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

    def _meet(self) -> None:
        if self._client is None:
            assert self._make is not None
            # setdefault is atomic: of two clients made at once, the second is let go.
            made = self._make()
            self._client = vars(self).setdefault("_made", made)
            if self._client is not made:
                made.close()
        # Asked once: these classes take their time to say what they are.
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
            # Whoever was asked for the map may not have heard of it yet.
            node = cluster.get_node(host=moved.host, port=moved.port)  # type: ignore[no-untyped-call]
        if node is None:
            node = cluster.get_node_from_key(name)  # type: ignore[no-untyped-call]
        return cluster.get_redis_connection(node).connection_pool

    def _not_sent(self, thread_id: str, error: Exception) -> StoreError:
        if _is_refusal(error):
            return _refused(thread_id, error)
        self._note(error)
        return ServiceUnavailable(
            f"There is no connection to Redis; nothing was sent for thread {thread_id}: {error}"
        )

    def _failed(self, name: bytes, thread_id: str, error: Exception, changes: bool) -> StoreError:
        if _is_refusal(error):
            return _refused(thread_id, error)
        if isinstance(error, _UNREADY) or str(error).startswith("NOREPLICAS"):
            self._note(error)
            return ServiceUnavailable(
                f"Redis cannot serve thread {thread_id} now; nothing was changed: {error}"
            )
        if isinstance(error, exceptions.ResponseError):
            if "DAMAGED" in str(error):
                return codec.damaged(thread_id, "a part is missing, or not what it should be")
            # What follows is of use to nobody: the name of the script and a line in it.
            words = str(error).partition(" script: ")[0].rstrip(".")
            return StoreError(
                f"Redis refused thread {thread_id}; nothing was changed: {words}."
                f"{_remedy(words, name)}"
            )
        self._note(error)
        if changes:
            return OutcomeUnknown(
                f"Redis did not answer; whether thread {thread_id} was changed is unknown: {error}"
            )
        if isinstance(error, exceptions.TimeoutError):
            return RequestTimeout(f"Redis did not answer for thread {thread_id}: {error}")
        return StoreError(f"The connection to Redis broke, thread {thread_id}: {error}")

    def _note(self, error: Exception) -> None:
        if isinstance(error, exceptions.TimeoutError):
            self._paused_until = time.monotonic() + TIMEOUT_PAUSE
        else:
            self._look_around()

    def _look_around(self) -> None:
        """Ask a cluster anew which node has which slots: after a failover another has."""
        if self._cluster is not None:
            with suppress(*ERRORS):
                self._cluster.nodes_manager.initialize()


def _is_refusal(error: Exception) -> bool:
    # A longer command without authentication is a fault of the protocol for Redis.
    return isinstance(error, _REFUSALS) or "unauthenticated" in str(error)


def _refused(thread_id: str, error: Exception) -> StoreError:
    remedy = (
        "Allow its user all that threads need: ~* +@all -@dangerous +info."
        if isinstance(error, exceptions.NoPermissionError)
        else "Give user and password in the URL: redis://USER:PASSWORD@HOST, percent-encoded."
    )
    words = str(error).rstrip(".")
    return AuthenticationFailed(f"Redis refused to serve thread {thread_id}: {words}. {remedy}")


def _remedy(words: str, name: bytes) -> str:
    if "'maxmemory'" in words:
        return " Raise its maxmemory, or delete threads."
    if words.startswith("WRONGTYPE"):
        # The thread's, its index's or a part's: all begin alike.
        shown = name.partition(b"}")[0].decode(errors="replace")
        return (
            f" Another program uses a key that begins with {shown}}}. Give threads another prefix"
            " (?prefix=), or remove that key."
        )
    return ""


def exchange(connection: Any, *commands: tuple[Any, ...]) -> list[Any]:
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
            except exceptions.ResponseError as error:
                replies.append(error)
    except BaseException:
        # The next to use the connection would read the answers to these commands.
        connection.disconnect()
        raise
    return replies


def run_script(
    connection: Any, script: Script, names: Sequence[bytes], arguments: Sequence[Any] = ()
) -> Any:
    """Return the reply of a script."""
    call = (len(names), *names, *arguments)
    (reply,) = exchange(connection, (b"EVALSHA", script.digest, *call))
    if isinstance(reply, exceptions.NoScriptError):
        (reply,) = exchange(connection, (b"EVAL", script.text, *call))
    if isinstance(reply, Exception):
        raise reply
    return reply


def run_scripts(
    connection: Any, script: Script, calls: Sequence[tuple[bytes, Sequence[Any]]]
) -> list[Any]:
    """Return the replies of a script to several calls with a name each, errors among them."""
    commands = [(b"EVALSHA", script.digest, 1, name, *arguments) for name, arguments in calls]
    replies = exchange(connection, *commands)
    if any(isinstance(reply, exceptions.NoScriptError) for reply in replies):
        exchange(connection, (b"SCRIPT", b"LOAD", script.text))
        replies = exchange(connection, *commands)
    return replies
