"""Finding out whether a long value is JSON, in little memory. Pure functions.

A decoded list of short items takes many times as much memory as its text. It is decoded in pieces
here, which are dropped.
"""

from __future__ import annotations

from .codec import decode

# The least length of a piece, in bytes, and how many ends are tried for each.
_PIECE = 4_096
_TRIES = 8

# What is between the items of a list, by the first byte of the first item, and the place of the
# comma in it.
_BETWEEN_ITEMS = {b"[": (b"],[", 1), b"{": (b"},{", 1), b'"': (b'","', 1)}
_BETWEEN_SCALARS = b",", 0
_BETWEEN_MEMBERS = b',"', 0


def require_json(encoded: bytes) -> None:
    """Refuse text that is not JSON.

    :raises ValueError: if it is not.
    """
    begin, end = 1, len(encoded) - 1
    while end - begin > 2 * _PIECE and (comma := _find_comma(encoded, begin, end)) > 0:
        begin = comma + 1
    if begin == 1:
        decode(encoded)
    else:
        _require_items(encoded, begin, end)


def _find_comma(encoded: bytes, begin: int, end: int) -> int:
    """Return the place of a comma behind items; -1 if none is found, or there are no items.

    If the text from *begin* to the comma, in brackets, is JSON, it is whole items, and the comma is
    not within an item.
    """
    match encoded[:1]:
        case b"[":
            mark, offset = _BETWEEN_ITEMS.get(encoded[begin : begin + 1], _BETWEEN_SCALARS)
        case b"{":
            mark, offset = _BETWEEN_MEMBERS
        case _:
            return -1
    place = begin + _PIECE
    for _ in range(_TRIES):
        place = encoded.find(mark, place, end)
        if place < 0:
            return -1
        try:
            _require_items(encoded, begin, place + offset)
        except ValueError:
            place += offset + 1
        else:
            return place + offset
    return -1


def _require_items(encoded: bytes, begin: int, end: int) -> None:
    """Refuse a part of a list or an object that is not whole items.

    :raises ValueError: if it is not.
    """
    items = encoded[begin:end]
    if not items or items.isspace():
        raise ValueError(f"an item is missing before character {end}")
    decode(b"%b%b%b" % (encoded[:1], items, encoded[-1:]))
