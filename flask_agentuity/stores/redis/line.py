"""A connection to Redis: commands are sent in one packet, and their replies are read.

If the package hiredis is installed, the socket of redis-py's connection is used directly, which
takes a fraction of the time. Connections with special behavior (Sentinel, health checks, a cache)
use redis-py's own methods.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from .client import AbstractConnection, exceptions, redis
from .clock import ServerClock
from .scripts import Script

try:
    import hiredis
except ImportError:
    hiredis = None  # type: ignore[assignment]

Command = tuple[Any, ...]
#: Takes the elements of a long list one by one.
Take = Callable[[Iterator[Any]], Any]


def _pack(command: Command) -> bytes:
    """The replacement for hiredis's function if hiredis is not installed."""
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        text = argument if type(argument) is bytes else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(parts)


_pack_command = _pack if hiredis is None else hiredis.pack_command
_MISSING = object()
# A large buffer reads a long history in few pieces, but takes time to allocate for a single call.
_KEPT_BUFFER, _BORROWED_BUFFER = 262_144, 65_536
_PUSH = getattr(hiredis, "PushNotification", None)
# A list of 1,000 elements or more begins as "*1000": with a digit in this place.
_LONG = 4
# The marks of a list and of a map, with the number of elements that their length counts.
_LISTS = {ord("*"): 1, ord("%"): 2}
# Most replies are of these types, and need no further look.
_DATA = frozenset((bytes, int, list, dict, type(None)))


class Line:
    """A connection that was taken from *pool*.

    :param clock: the clock of its server.
    :param keep: whether it may stay out of the pool while it is not in use.
    """

    __slots__ = (
        "_buffer",
        "_connection",
        "_has_news",
        "_reader",
        "_sock",
        "clock",
        "keep",
        "pool",
    )

    def __init__(
        self, connection: Any, pool: redis.ConnectionPool, clock: ServerClock, *, keep: bool
    ) -> None:
        self._connection = connection
        self.pool = pool
        self.clock = clock
        self.keep = keep and _is_plain(connection)
        self._sock: Any = connection._sock if self.keep else None
        self._has_news = _watch(connection) if self.keep else None
        self._reader: Any = None
        if hiredis is not None and _is_plain(connection):
            self._sock = connection._sock
            self._buffer = bytearray(_KEPT_BUFFER if self.keep else _BORROWED_BUFFER)
            self._reader = hiredis.Reader(
                protocolError=exceptions.InvalidResponse,
                replyError=connection._parser.parse_error,
                notEnoughData=_MISSING,
            )

    def is_ready(self) -> bool:
        """Return whether a kept connection is still open, with no unread reply on it."""
        connection, reader = self._connection, self._reader
        assert self._has_news is not None
        if connection._sock is not self._sock:
            return False
        if reader is None:
            return not self._has_news()
        if (reader.has_data() or self._has_news()) and not self._takes_notifications():
            return False
        # A server that is about to move marks its connections by a notification.
        return not getattr(connection, "_should_reconnect", False)

    def discard(self) -> None:
        """Close the connection and give it back to its pool, which opens it when needed."""
        self._connection.disconnect()
        self.release()

    def release(self) -> None:
        """Give the connection back to its pool."""
        self.pool.release(self._connection)

    def exchange(self, *commands: Command, take: Take | None = None) -> list[Any]:
        """Send *commands* in one packet and return their replies, including error replies.

        The methods of a client are not used, because many clients repeat a command whose reply
        was lost, and a repeated push would be stored twice.

        :param take: is called with the elements of the first reply, as they arrive, if they are
            many; its result takes the place of the reply. It must use all of them.
        """
        try:
            packed = b"".join(map(_pack_command, commands))
            if self._reader is None:
                return self._exchange_by_redis(packed, len(commands))
            return self._exchange(packed, len(commands), take)
        except BaseException:
            # Otherwise the next user of the connection would read the replies to these commands.
            self._connection.disconnect()
            raise

    def query(self, *commands: Command, take: Take | None = None) -> list[Any]:
        """Send *commands* in one packet and return their replies.

        :param take: see :meth:`exchange`.
        :raises RedisError: if a reply is an error.
        """
        replies = self.exchange(*commands, take=take)
        if not _DATA.issuperset(map(type, replies)):
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    def run(
        self,
        script: Script,
        names: Sequence[bytes],
        arguments: Sequence[Any] = (),
        take: Take | None = None,
    ) -> Any:
        """Run a script and return its reply.

        :param take: see :meth:`exchange`.
        :raises RedisError: if the reply is an error.
        """
        call = (len(names), *names, *arguments)
        (reply,) = self.exchange((b"EVALSHA", script.digest, *call), take=take)
        if isinstance(reply, exceptions.NoScriptError):
            (reply,) = self.query((b"EVAL", script.text, *call), take=take)
        elif isinstance(reply, Exception):
            raise reply
        return reply

    def run_each(self, script: Script, calls: Sequence[tuple[bytes, Sequence[Any]]]) -> list[Any]:
        """Run a script for several keys and return the replies, including error replies."""
        commands = [(b"EVALSHA", script.digest, 1, name, *arguments) for name, arguments in calls]
        replies = self.exchange(*commands)
        if any(isinstance(reply, exceptions.NoScriptError) for reply in replies):
            self.exchange((b"SCRIPT", b"LOAD", script.text))
            replies = self.exchange(*commands)
        return replies

    def _exchange_by_redis(self, packed: bytes, count: int) -> list[Any]:
        connection = self._connection
        replies: list[Any] = []
        connection.send_packed_command([packed])
        for _ in range(count):
            try:
                replies.append(connection.read_response(disable_decoding=True))
            except exceptions.ResponseError as error:
                replies.append(error)
        return replies

    def _exchange(self, packed: bytes, count: int, take: Take | None) -> list[Any]:
        try:
            self._sock.sendall(packed)
            if take is None:
                self._receive()
            elif (length := self._receive_first()) >= 0:
                return [take(self._elements(length)), *self._complete([], count - 1)]
            gets = self._reader.gets
            replies = [gets() for _ in range(count)]
            # Usually they have arrived together.
            if not _DATA.issuperset(map(type, replies)):
                replies = self._complete(replies, count)
        except TimeoutError as error:
            raise exceptions.TimeoutError(f"Redis did not answer in time ({error})") from error
        except OSError as error:
            raise exceptions.ConnectionError(f"the connection failed: {error}") from error
        return replies

    def _complete(self, received: list[Any], count: int) -> list[Any]:
        """Return *count* replies. They begin with those that were *received*."""
        replies: list[Any] = []
        received.reverse()
        while len(replies) < count:
            reply = received.pop() if received else self._reader.gets()
            if reply is _MISSING:
                if not received:
                    self._receive()
            elif _PUSH is not None and type(reply) is _PUSH:
                self._connection._parser.handle_push_response(reply)
            elif isinstance(reply, exceptions.ConnectionError):
                raise reply
            else:
                replies.append(reply)
        return replies

    def _takes_notifications(self) -> bool:
        """Read unsolicited data from the server; False if it is not only notifications."""
        assert self._has_news is not None
        try:
            while self._has_news():
                self._receive()
            while (reply := self._reader.gets()) is not _MISSING:
                if _PUSH is None or type(reply) is not _PUSH:
                    return False
                self._connection._parser.handle_push_response(reply)
        except (exceptions.RedisError, OSError):
            return False
        return not self._reader.has_data()

    def _receive_first(self) -> int:
        """Receive the beginning of a reply, and return its length if it is a long list.

        Then its head is not passed to the reader, for which each element is a reply. Otherwise
        return -1.
        """
        buffer, size = self._buffer, self._sock.recv_into(self._buffer)
        if not size:
            raise exceptions.ConnectionError("the server closed the connection")
        # Behind these bytes, the buffer has what an earlier reply left.
        if size > _LONG and 48 <= buffer[_LONG] <= 57 and buffer[0] in _LISTS:
            end = buffer.find(b"\r\n", 0, size)
            if end > 0:
                self._reader.feed(buffer, end + 2, size - end - 2)
                return int(buffer[1:end]) * _LISTS[buffer[0]]
        self._reader.feed(buffer, 0, size)
        return -1

    def _elements(self, length: int) -> Iterator[Any]:
        gets = self._reader.gets
        for _ in range(length):
            while (element := gets()) is _MISSING:
                self._receive()
            yield element

    def _receive(self) -> None:
        size = self._sock.recv_into(self._buffer)
        if not size:
            raise exceptions.ConnectionError("the server closed the connection")
        self._reader.feed(self._buffer, 0, size)


def _is_plain(connection: Any) -> bool:
    """Return whether redis-py would only send and read on this connection."""
    kind = type(connection)
    return (
        isinstance(connection, AbstractConnection)
        and kind.read_response is AbstractConnection.read_response
        and kind.send_packed_command is AbstractConnection.send_packed_command
        and not connection.health_check_interval
        and hasattr(connection._parser, "parse_error")
    )


def _watch(connection: Any) -> Callable[[], object]:
    """Return a function that says, without waiting, if there is anything to read, also EOF."""
    sock = connection._sock
    if hiredis is None or not hasattr(select, "poll"):

        def has_news() -> bool:
            try:
                return bool(connection.can_read())
            except (exceptions.RedisError, OSError):
                return True

        return has_news
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if isinstance(sock, ssl.SSLSocket):
        # Decrypted bytes that were not read yet are not visible to poll().
        return lambda: sock.pending() or poll.poll(0)
    return partial(poll.poll, 0)
