"""The names of keys in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote, unquote
from zlib import crc32

from ...document import codec
from ...errors import ConfigurationError


class Partition:
    """Threads and their index. All of them are in one slot of a cluster.

    The name of a thread is that of its index, a colon and its id.
    """

    def __init__(self, prefix: str, number: int) -> None:
        # The text between the braces determines the slot in a cluster.
        self.index = b"%b{%d}" % (prefix.encode(), number)


class Keyspace:
    """All partitions under one prefix.

    :param count: how many there are. All stores that share threads need the same number.
    """

    def __init__(self, prefix: str, count: int) -> None:
        self._partitions = [Partition(prefix, number) for number in range(count)]
        self._single = self._partitions[0] if count == 1 else None

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._partitions)

    def names(self, thread_id: str) -> tuple[bytes, bytes]:
        """Return the names of a thread's hash and of its index."""
        index = (self._single or self.of(thread_id)).index
        return b"%b:%b" % (index, thread_id.encode()), index

    def of(self, thread_id: str) -> Partition:
        """Return the partition of a thread."""
        if self._single is not None:
            return self._single
        return self._partitions[crc32(thread_id.encode()) % len(self._partitions)]


def string_name(thread: bytes, key: bytes) -> bytes:
    """Return the name of the string of an encoded key."""
    return b"%b.%b" % (thread, key)


def term_name(index: bytes, term: bytes) -> bytes:
    """Return the name of the index of threads with an index term."""
    return b"%b.%b" % (index, term)


def encode_term(key: str, value: str) -> bytes:
    """Return an index term of a thread; it has no line feed."""
    return b"%b:%b" % (codec.encode_key(key), value.encode())


@lru_cache(maxsize=256)
def encode_owner(owner: str | None) -> bytes:
    """Return an owner as Redis keeps it, without white space; ``b""`` stands for None."""
    return quote(owner, safe="").encode() if owner is not None else b""


@lru_cache(maxsize=256)
def decode_owner(owner: bytes | None) -> str | None:
    """Return the owner that :func:`encode_owner` has encoded."""
    return unquote(owner.decode()) if owner else None


def owner_term(owner: bytes) -> bytes:
    """Return the index term of an encoded owner. Those of metadata begin with a quotation mark."""
    return b"@%b" % owner


def require_prefix(prefix: str) -> None:
    """Refuse a prefix that would change the slots of keys.

    :raises ConfigurationError: if it does.
    """
    if "{" in prefix or "}" in prefix:
        raise ConfigurationError(
            f"prefix={prefix!r} cannot be used: braces determine the slot of a key in a cluster."
        )


def require_partitions(count: object) -> None:
    """Refuse a wrong number of partitions.

    :raises ConfigurationError: if it is wrong.
    """
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 16_384:
        raise ConfigurationError(
            f"partitions={count!r} is wrong. Allowed: a whole number from 1 to 16384."
        )
