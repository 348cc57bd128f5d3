"""Composing a thread from the fields and strings that were read from Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...document import codec, packed
from ...document.codec import Snapshot
from .entry_values import former_value_of, value_of
from .keys import decode_owner
from .many_fields import ManyFields
from .seen import Seen

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
    if len(fields) > packed.MANY_KEYS or isinstance(fields, ManyFields):
        return _compose_many(head, int(parts[5]), fields, strings, is_all)
    entries = []
    for key, text in fields.items():
        if key.startswith(b'"'):
            number, _, rest = text.split(b" ", 2)
            entries.append((int(number), key, rest))
    if not entries and b"metadata" not in fields and b"owner" not in fields:
        return None
    entries.sort()
    encoded = {codec.decode_key(key): value_of(key, rest, strings) for _, key, rest in entries}
    return _snapshot(encoded, fields, int(parts[5]), Seen(head, fields, strings))


def _compose_many(
    head: bytes,
    version: int,
    fields: dict[bytes, bytes],
    strings: Mapping[bytes, bytes | None],
    is_all: bool,
) -> Snapshot | None:
    """Return a snapshot of a thread with many keys, in little memory; None if it is empty.

    Of what was read, only what belongs to requested keys is kept for the next write.
    """
    requested = {} if is_all else strings
    if not isinstance(fields, ManyFields):
        members = ((name, fields[name], strings.get(name, b"")) for name in fields)
        fields = ManyFields(members, requested)
    if fields.damage:
        raise ValueError(fields.damage)
    state = fields.state
    if not state and b"metadata" not in fields and b"owner" not in fields:
        return None
    if late := [key for key in requested if key in fields and key not in fields.strings]:
        rests = {key: fields[key].split(b" ", 2)[2] for key in late}
        values = {key: value_of(key, rest, strings) for key, rest in rests.items()}
        state = state.with_values({codec.decode_key(key): value for key, value in values.items()})
    kept = (*requested, b"owner")
    seen = Seen(head, {name: fields[name] for name in kept if name in fields}, requested)
    return _snapshot(state, fields, version, seen)


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
    encoded = {codec.decode(key): former_value_of(key, rest, strings) for _, key, rest in entries}
    return _snapshot(encoded, fields, int(parts[2]), None)


def _snapshot(
    encoded: Mapping[str, bytes | None], fields: dict[bytes, bytes], version: int, seen: Seen | None
) -> Snapshot:
    return Snapshot(
        encoded,
        fields.get(b"metadata", b"{}").partition(b"\n")[0],
        without_null=frozenset() if b"nulls" in fields else encoded.keys(),
        version=version,
        seen=seen,
        owner=decode_owner(fields.get(b"owner")),
    )
