"""Reading a thread by the script, which also checks its owner and renews its time to live."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from .calls import Caller
from .many_fields import MANY_FIELDS, ManyFields, take_fields_and_strings
from .reading import pairs
from .scripts import READ
from .writer import REMEMBERED

#: The fields of a thread, and the strings that were read, by encoded keys.
Parts = tuple[dict[bytes, bytes], Mapping[bytes, bytes | None]]


def read_by_script(
    caller: Caller,
    names: tuple[bytes, bytes],
    thread_id: str,
    renewed_for: int,
    person: Sequence[bytes] = (),
    wanted: Collection[bytes] = (),
) -> Parts | bytes:
    """Return the parts of a thread, or its encoded owner if that is another person.

    :param renewed_for: milliseconds; 0: its time to live is not renewed.
    :param person: the encoded owner that the person is, and ``b"*"``, or ``b""`` and the keys whose
        strings are wanted; for anyone, nothing.
    :param wanted: these keys.
    """
    arguments = renewed_for, REMEMBERED, MANY_FIELDS, *person
    take = partial(take_fields_and_strings, wanted=wanted)
    reply = caller.call(names[0], thread_id, lambda line: line.run(READ, names, arguments, take))
    if reply.__class__ is bytes:
        return bytes(reply)
    if reply.__class__ is list and len(reply) == 2:
        return pairs(reply[0]), pairs(reply[1])
    # If redis-py's own methods have read the reply, they did not take its elements one by one.
    fields = reply if isinstance(reply, ManyFields) else take(reply)
    return fields, fields.strings
