"""Splitting a document with many keys without decoding it as a whole. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from . import packed
from .packed import PackedState
from .unusual import may_hold_large_integer, parse

_STATE = b'{"state":{'
# What is between two members of an object, if the last value of the first is no object or list.
_BETWEEN = b',"'
# The least length of the members that are decoded together, in bytes, and how many ends are tried.
_PIECE = 2_048
_TRIES = 4


def split_many_keys(document: bytes) -> tuple[PackedState, bytes] | None:
    """Return the packed state of a document and its metadata.

    None if it has few keys, or anything unusual. Then it has to be decoded as a whole.
    """
    if not document.startswith(_STATE) or document.count(b'":') <= packed.MANY_KEYS:
        return None
    pieces = _Pieces(document)
    try:
        state = packed.pack_items(pieces.members())
    except (ValueError, TypeError):
        return None
    if len(state) <= packed.MANY_KEYS or state.has_duplicates():
        return None
    return state, pieces.metadata


class _Pieces:
    """A document of which some members of the state are decoded at a time."""

    def __init__(self, document: bytes) -> None:
        self._document = document
        self._begin = len(_STATE)
        self.metadata = b"{}"

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Yield keys and encoded values.

        :raises ValueError: if it has few keys, or is not as this package writes it.
        :raises TypeError: if a value cannot be encoded.
        """
        count, document = 0, self._document
        while len(document) - self._begin > 2 * _PIECE:
            if (members := self._take()) is None:
                break
            count += len(members)
            for key, value in members.items():
                yield key, orjson.dumps(value)
        if count <= packed.MANY_KEYS and len(document) - self._begin > 4 * _PIECE:
            raise ValueError("few keys, and one with a long value")
        rest = _decode(_STATE + document[self._begin :])
        state, metadata = rest.pop("state"), rest.pop("metadata", {})
        if rest or not isinstance(state, dict) or not isinstance(metadata, dict):
            raise ValueError("not the usual parts")
        self.metadata = orjson.dumps(metadata)
        for key, value in state.items():
            yield key, orjson.dumps(value)

    def _take(self) -> dict[str, Any] | None:
        """Return the next members; None if no end of them is found."""
        document, begin = self._document, self._begin
        comma = begin + _PIECE
        for _ in range(_TRIES):
            comma = document.find(_BETWEEN, comma)
            if comma < 0:
                return None
            try:
                # A comma within a value would leave it without an end.
                members: dict[str, Any] = _decode(b"{%b}" % document[begin:comma])
            except ValueError:
                comma += 1
            else:
                self._begin = comma + 1
                return members
        return None


def _decode(text: bytes) -> Any:
    # orjson reads an integer beyond 64 bits as a floating-point number.
    return parse(text) if may_hold_large_integer(text) else orjson.loads(text)
