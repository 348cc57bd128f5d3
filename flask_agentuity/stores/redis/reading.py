"""Composing a thread from the fields and strings that were read from Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...document import codec
from ...document.codec import Snapshot
from .keys import decode_owner
from .seen import Seen

#: With more fields than this, a thread is composed in a way that takes less memory and more time.
_MANY = 100
#: The fields of a hash that is not a thread.
_NO_THREAD = frozenset((b"gone", b"lock"))


def pairs(fields: Any) -> dict[bytes, bytes]:
    """Return pairs as a dictionary. They are a map in RESP3 and a list in RESP2."""
    if isinstance(fields, dict):
        return fields
    return dict(zip(fields[::2], fields[1::2], strict=True))


def head_field(fields: Mapping[bytes, bytes]) -> bytes:
    """Return the name of the field with the head of a thread, which depends on the format."""
    return b"head" if b"head" in fields or b"thread" not in fields else b"thread"


def compose(
    thread_id: str,
    fields: dict[bytes, bytes],
    strings: Mapping[bytes, bytes | None],
    *,
    is_all: bool = False,
) -> Snapshot | None:
    """Return a snapshot of a thread; None if there is none, or an empty one without an owner.

    :param strings: the strings that were read, by encoded keys.
    :param is_all: whether these are all strings, not those of requested keys.
    :raises StoreError: if the thread is damaged.
    """
    head = fields.get(b"head")
    if head is None and not fields.keys() - _NO_THREAD:
        return None
    try:
        if head is not None or head_field(fields) == b"head":
            return _compose(head or b"", fields, strings, is_all)
        return _compose_former(fields, strings)
    except ValueError as error:
        raise codec.damaged(thread_id, str(error)) from None


def _compose(
    head: bytes, fields: dict[bytes, bytes], strings: Mapping[bytes, bytes | None], is_all: bool
) -> Snapshot | None:
    parts = head.split(b" ")
    if len(parts) != 7:
        raise ValueError("its head is missing or invalid")
    if len(fields) > _MANY:
        return _compose_many(head, int(parts[5]), fields, strings, is_all)
    entries = []
    for key, text in fields.items():
        if key.startswith(b'"'):
            number, _, rest = text.split(b" ", 2)
            entries.append((int(number), key, rest))
    if not entries and b"metadata" not in fields and b"owner" not in fields:
        return None
    entries.sort()
    encoded = {codec.decode_key(key): _value(key, rest, strings) for _, key, rest in entries}
    return _snapshot(encoded, fields, int(parts[5]), Seen(head, fields, strings))


def _compose_many(
    head: bytes,
    version: int,
    fields: dict[bytes, bytes],
    strings: Mapping[bytes, bytes | None],
    is_all: bool,
) -> Snapshot:
    """Return a snapshot of a thread with many keys, in little memory.

    Of what was read, only what belongs to requested keys is kept for the next write.
    """
    numbers = [
        (int(text.partition(b" ")[0]), key) for key, text in fields.items() if key.startswith(b'"')
    ]
    numbers.sort()
    requested = {} if is_all else strings
    seen = Seen(head, {key: fields[key] for key in requested if key in fields}, requested)
    encoded: dict[str, bytes | None] = {}
    for _, key in numbers:
        rest = fields.pop(key).split(b" ", 2)[2]
        encoded[codec.decode_key(key)] = _value(key, rest, strings)
    return _snapshot(encoded, fields, version, seen)


def _value(key: bytes, rest: bytes, strings: Mapping[bytes, bytes | None]) -> bytes | None:
    kind, known = rest[:1], rest[1:]
    if kind == b"=":
        return known
    if known.startswith(b"2 0 "):
        return codec.EMPTY_LIST
    if key not in strings:
        return None
    text = _present(strings[key])
    if kind == b"*":
        return _of_size(text, int(known))
    size, _, dead, tail = map(int, known.split(b" "))
    if len(text) != dead + size - 2 + tail:
        raise ValueError("a list does not have its stored size")
    # Usually the list is the whole string. A long text is then copied only once.
    if size == len(text):
        return text.replace(b"\n", b",")
    return b"[%b]" % text[dead : dead + size - 2].replace(b"\n", b",")


def _compose_former(fields: dict[bytes, bytes], strings: Mapping[bytes, bytes | None]) -> Snapshot:
    parts = fields[b"thread"].split(b" ")
    if len(parts) != 6:
        raise ValueError("its head is missing or invalid")
    entries = []
    for key, text in fields.items():
        if key.startswith(b'"'):
            number, _, rest = text.partition(b" ")
            entries.append((int(number), key, rest))
    entries.sort()
    encoded = {codec.decode(key): _former_value(key, rest, strings) for _, key, rest in entries}
    return _snapshot(encoded, fields, int(parts[2]), None)


def _former_value(key: bytes, rest: bytes, strings: Mapping[bytes, bytes | None]) -> bytes | None:
    kind, known = rest[:1], rest[1:]
    if kind == b"=":
        return known
    if kind == b"[" and known == b"2":
        return codec.EMPTY_LIST
    if key not in strings:
        return None
    text = _present(strings[key])
    if kind == b"|":
        known, _, dead = known.split()
        text = text[int(dead) :].replace(b"\n", b",")
    return _of_size(text if kind == b"*" else b"[%b]" % text, int(known))


def _present(text: bytes | None) -> bytes:
    if text is None:
        raise ValueError("the string of a value is missing")
    return text


def _of_size(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise ValueError("a value does not have its stored size")
    return value


def _snapshot(
    encoded: dict[str, bytes | None], fields: dict[bytes, bytes], version: int, seen: Seen | None
) -> Snapshot:
    return Snapshot(
        encoded,
        fields.get(b"metadata", b"{}").partition(b"\n")[0],
        without_null=frozenset() if b"nulls" in fields else encoded.keys(),
        version=version,
        seen=seen,
        owner=decode_owner(fields.get(b"owner")),
    )
