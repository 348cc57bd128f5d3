"""Splitting a document with many keys without decoding it as a whole. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from . import codec
from .codec import Snapshot
from .keys import encode_key_once
from .packed import pack
from .unusual import parse_at

_STATE = '{"state":{'
_METADATA = ',"metadata":'


def split_many_keys(document: bytes, thread_id: str) -> Snapshot | None:
    """Like :func:`.codec.split_document`, for a document that is known to have many keys.

    It takes more time and less memory.

    :raises StoreError: when it is damaged.
    """
    try:
        snapshot = _Scan(document.decode()).split()
    except (ValueError, TypeError, RecursionError):
        snapshot = None
    # Anything that :func:`.codec.join_document` does not write is left to the usual way.
    return snapshot or codec.split_document(document, thread_id)


class _Scan:
    """One pass over the text of a document."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def split(self) -> Snapshot:
        """Return the parts of the document.

        :raises ValueError: if it is not what this package writes, with usual values.
        """
        self._pass(_STATE)
        state = pack(self._members())
        self._pass("}")
        metadata = codec.EMPTY_OBJECT
        if self._text.startswith(_METADATA, self._at):
            self._pass(_METADATA)
            metadata = self._value()
        self._pass("}")
        if self._at != len(self._text) or not metadata.startswith(b"{") or state.has_duplicates():
            raise ValueError
        return Snapshot(state, metadata)

    def _members(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        while True:
            key, self._at = parse_at(self._text, self._at)
            self._pass(":")
            yield 0, encode_key_once(key), self._value()
            if not self._text.startswith(",", self._at):
                return
            self._at += 1

    def _value(self) -> bytes:
        value, self._at = parse_at(self._text, self._at)
        encoded = codec.encode_plain(value)
        if encoded is None:
            raise ValueError
        return encoded

    def _pass(self, mark: str) -> None:
        if not self._text.startswith(mark, self._at):
            raise ValueError
        self._at += len(mark)
