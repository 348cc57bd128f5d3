"""A thread with many keys, as it arrives from Redis: its entries are packed one by one.

As a whole, the reply would be two objects for each key, which take many times as much memory as
the document.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from ...document import codec
from ...document.packed import MANY_KEYS, PackedState, pack
from .entry_values import value_of

#: With more fields than these, the script that reads a thread replies as
#: :func:`take_fields_and_strings` needs.
MANY_FIELDS = MANY_KEYS

#: A field, its text, and the string of the entry (``b""``: none, or not requested).
Member = tuple[bytes, bytes, bytes | None]

# The number of a key has fewer bits.
_NUMBER_BITS = 38


class ManyFields(dict[bytes, bytes]):
    """The fields of a thread, of which the entries are packed.

    As a dictionary, it has the other fields and the entries of wanted keys. Entries in the former
    format are not packed.

    :param wanted: the encoded keys whose entries and strings are kept for the next write.
    """

    def __init__(self, members: Iterable[Member], wanted: Collection[bytes] = ()) -> None:
        super().__init__()
        self._wanted = wanted
        #: The strings that came with the entries that are kept.
        self.strings: dict[bytes, bytes | None] = {}
        #: What is wrong with an entry. It is no exception, because the reply must be read.
        self.damage = ""
        #: The state. A wanted value may be missing, because its string comes later.
        self.state: PackedState = pack(self._entries(members))
        if self.state and b"head" not in self:
            # They are a damaged thread, not a deleted one.
            self[b""] = b""

    def _entries(self, members: Iterable[Member]) -> Iterator[tuple[int, bytes, bytes | None]]:
        wanted, decode_key = self._wanted, codec.decode_key_once
        for name, text, string in members:
            numbers, is_short, value = text.partition(b" =")
            number, _, assigned = numbers.partition(b" ")
            try:
                if is_short and assigned and name not in wanted and name.startswith(b'"'):
                    # Most entries have a short value.
                    decode_key(name)
                    yield _checked(int(number)), name, value
                elif (entry := self._entry(name, text, string)) is not None:
                    yield entry
            except ValueError as error:
                self.damage = str(error)

    def _entry(
        self, name: bytes, text: bytes, string: bytes | None
    ) -> tuple[int, bytes, bytes | None] | None:
        """Return the entry of a field to be packed; None if the field is only kept."""
        if not name.startswith(b'"'):
            self[name] = text
            return None
        number, _, rest = text.partition(b" ")
        assigned, _, behind = rest.partition(b" ")
        is_former = not assigned.isdigit()
        if is_former or name in self._wanted:
            self[name] = text
            if string != b"":
                self.strings[name] = string
        if is_former:
            return None
        codec.decode_key_once(name)
        return (
            _checked(int(number)),
            name,
            value_of(name, behind, {} if string == b"" else {name: string}),
        )


def _checked(number: int) -> int:
    if number.bit_length() > _NUMBER_BITS:
        raise ValueError("the number of a key is too large")
    return number


def take_fields(elements: Iterable[bytes], wanted: Collection[bytes]) -> ManyFields:
    """Take the elements of a reply to HGETALL."""
    iterator = iter(elements)
    return ManyFields(
        ((name, text, b"") for name, text in zip(iterator, iterator, strict=True)), wanted
    )


def take_fields_and_strings(
    elements: Iterable[bytes | None], wanted: Collection[bytes]
) -> ManyFields:
    """Take the elements of a reply of ``lua/read.lua``, with a string behind each field."""
    iterator: Iterator[Any] = iter(elements)
    return ManyFields(zip(iterator, iterator, iterator, strict=True), wanted)
