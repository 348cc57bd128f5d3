"""A state with many keys, in little memory.

A dictionary of encoded values takes some 150 bytes for each key, besides the key and the value.
That is many times as much as the document if keys and values are short. A packed state is one text,
with numbers that say where its parts are. Strings are made only of the keys and values that are
used.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from io import BytesIO

from .keys import decode_key_once, encode_key_once

#: A state with more keys than these is packed. Fewer are read in less time as a dictionary, where
#: they take a bounded space.
MANY_KEYS = 500

# The bits of a rank that tell the place of a key: more keys do not fit into any document.
_PLACE_BITS = 24
# As objects, numbers take five times as much memory, so few of them are sorted together.
_SORTED_TOGETHER = 1_000


class PackedState(Mapping[str, bytes | None]):
    """The encoded values of a state by its keys; None for values that were not fetched.

    It does not change. :func:`pack` makes it.
    """

    __slots__ = ("_begins", "_ends", "_slots", "_text", "_values")

    def __init__(
        self, text: bytes, begins: array[int], values: array[int], ends: array[int]
    ) -> None:
        """Take a *text* in which each key is followed by a colon and its value.

        :param begins: where the keys begin, in their order.
        :param values: where their values begin.
        :param ends: where their values end.
        """
        self._text = text
        self._begins = begins
        self._values = values
        self._ends = ends
        # A hash table, made at the first lookup. It has the places of the keys, counted from 1.
        self._slots: array[int] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self):,} keys>"

    def __len__(self) -> int:
        return len(self._begins)

    def __iter__(self) -> Iterator[str]:
        return map(self.key_at, range(len(self)))

    def __contains__(self, key: object) -> bool:
        return self.place_of(key) is not None

    def __getitem__(self, key: str) -> bytes | None:
        if (place := self.place_of(key)) is None:
            raise KeyError(key)
        return self.value_at(place)

    def items(self) -> ItemsView[str, bytes | None]:
        return _Items(self)

    def values(self) -> ValuesView[bytes | None]:
        return _Values(self)

    @property
    def nbytes(self) -> int:
        """The bytes that it takes in memory."""
        arrays = self._begins, self._values, self._ends
        return len(self._text) + sum(len(each) * each.itemsize for each in arrays)

    def place_of(self, key: object) -> int | None:
        """Return the place of *key* in the order of the keys, from 0; None if it is missing."""
        if not isinstance(key, str):
            return None
        try:
            encoded = encode_key_once(key)
        except TypeError:
            # A stored key has no unpaired surrogate.
            return None
        slots = self._slots or self._make_slots()
        mask = len(slots) - 1
        slot = hash(key) & mask
        while place := slots[slot]:
            # The quotation mark at the end of a key is in no other key that begins alike.
            if self._text.startswith(encoded, self._begins[place - 1]):
                return place - 1
            slot = (slot + 1) & mask
        return None

    def key_at(self, place: int) -> str:
        """Return the key at *place*."""
        return decode_key_once(self._text[self._begins[place] : self._values[place] - 1])

    def value_at(self, place: int) -> bytes | None:
        """Return the value of the key at *place*."""
        return self._text[self._values[place] : self._ends[place]] or None

    def unfetched(self) -> Iterator[str]:
        """Yield the keys whose values were not fetched."""
        for place, (begin, end) in enumerate(zip(self._values, self._ends, strict=True)):
            if begin == end:
                yield self.key_at(place)

    def with_values(self, values: Mapping[str, bytes | None]) -> PackedState:
        """Return a state with other values of some of the keys."""
        text, at = BytesIO(), len(self._text)
        text.write(self._text)
        begins, starts, ends = self._begins[:], self._values[:], self._ends[:]
        for key, value in values.items():
            if value and (place := self.place_of(key)) is not None:
                member = self._text[begins[place] : starts[place]] + value
                begins[place], starts[place] = at, at + starts[place] - begins[place]
                at += text.write(member)
                ends[place] = at
        return PackedState(text.getvalue(), begins, starts, ends)

    def members(self) -> Iterator[memoryview]:
        """Yield the members of the JSON object: each key with a colon and its value."""
        view = memoryview(self._text)
        for begin, end in zip(self._begins, self._ends, strict=True):
            yield view[begin:end]

    def has_duplicates(self) -> bool:
        """Return whether it has a key more than once. Only the first of equal keys is found."""
        return any(self.place_of(key) != place for place, key in enumerate(self))

    def _make_slots(self) -> array[int]:
        # At least a third of the slots stays empty, so that few of them are looked at.
        size = 1 << (len(self) * 3 // 2).bit_length()
        slots = array("H" if len(self) < 1 << 16 else "I", [0]) * size
        mask = size - 1
        for place, key in enumerate(self, 1):
            slot = hash(key) & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = place
        self._slots = slots
        return slots


# The views of Mapping would look up each key.
class _Items(ItemsView[str, "bytes | None"]):
    _mapping: PackedState

    def __iter__(self) -> Iterator[tuple[str, bytes | None]]:
        return zip(self._mapping, _Values(self._mapping), strict=True)


class _Values(ValuesView["bytes | None"]):
    _mapping: PackedState

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)

    def __iter__(self) -> Iterator[bytes | None]:
        return map(self._mapping.value_at, range(len(self._mapping)))


def pack(members: Iterable[tuple[int, bytes, bytes | None]]) -> PackedState:
    """Return a packed state.

    :param members: for each key a number, the key as a JSON string, and its encoded value (None: it
        was not fetched). The numbers give the order of the keys.
    :raises ValueError: if a number is too large for any store.
    """
    text, at = BytesIO(), 0
    begins, values, ends, ranks = array("I"), array("I"), array("I"), array("q")
    write, last, is_ordered = text.write, None, True
    for number, key, value in members:
        if b"\\" in key:
            # It may be written in another way than by this encoder.
            key = encode_key_once(decode_key_once(key))
        begins.append(at)
        at += write(key) + write(b":")
        values.append(at)
        at += write(value or b"")
        ends.append(at)
        try:
            ranks.append(number << _PLACE_BITS | len(ranks))
        except OverflowError:
            raise ValueError(f"a key has the number {number}") from None
        is_ordered = is_ordered and (last is None or number >= last)
        last = number
    if is_ordered:
        return PackedState(text.getvalue(), begins, values, ends)
    places = array("I", _places_in_order(ranks))
    return PackedState(
        text.getvalue(),
        *(array("I", map(each.__getitem__, places)) for each in (begins, values, ends)),
    )


def pack_mapping(state: Mapping[str, bytes | None]) -> PackedState:
    """Return *state* as a packed state."""
    return state if isinstance(state, PackedState) else pack_items(state.items())


def pack_items(items: Iterable[tuple[str, bytes | None]]) -> PackedState:
    """Return a packed state of keys and their encoded values."""
    return pack((0, encode_key_once(key), value) for key, value in items)


def _places_in_order(ranks: array[int]) -> Iterator[int]:
    """Yield the places in ascending order of their ranks."""
    runs = [
        array("q", sorted(ranks[first : first + _SORTED_TOGETHER]))
        for first in range(0, len(ranks), _SORTED_TOGETHER)
    ]
    mask = (1 << _PLACE_BITS) - 1
    return (rank & mask for rank in heapq.merge(*runs))
