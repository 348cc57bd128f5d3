"""The metadata of a thread, as one request has it."""

from __future__ import annotations

from typing import Any

from ..document import codec
from ..document.operations import EditMetadata, MetadataOperation, Scalars, SetMetadata
from ..errors import StateNotSerializable
from .checked_metadata import CheckedMetadata
from .entry import Status

EMPTY = b"{}"
_CONTAINERS = (dict, list, tuple)


class Metadata:
    """What is stored of the metadata, what is in memory, and the difference."""

    status: Status = Status.IDLE
    #: Whether it is known what is stored, from a read or because the thread is not stored.
    known: bool = False
    #: Whether it was used since the last search for changes.
    used: bool = False
    _stored: bytes = EMPTY
    _value: dict[str, Any]
    # The values of what is stored that are no containers, if they are known.
    _scalars: Scalars | None = None
    # After a failed read: what may still be saved, and what the metadata was then.
    _safe: bytes | None = None
    _seen: bytes | None = None

    @property
    def is_unread(self) -> bool:
        """Whether it has to be read before it can be used."""
        return self.status is Status.IDLE and not self.known

    @property
    def stored_size(self) -> int:
        """The size in bytes of what is stored, as far as it is known."""
        return len(self._stored)

    @property
    def is_empty(self) -> bool:
        """Whether it is empty, as far as it is known."""
        return self._stored == EMPTY if self.status is Status.IDLE else not self._value

    def learn(self, stored: bytes) -> None:
        """Record what is stored. What is in memory does not change."""
        if not self.known:
            self.known = True
            self._stored = stored

    def get(self) -> dict[str, Any]:
        """Return the metadata in memory; it has to be known, or assigned.

        :raises ValueError: if what is stored is damaged.
        """
        self.used = True
        if self.status is Status.IDLE:
            self._value = CheckedMetadata(codec.decode_metadata(self._stored))
            self._scalars = _scalars_of(self._value)
            self.status = Status.HELD
        return self._value

    def assign(self, value: dict[str, Any]) -> None:
        """Replace the whole metadata. If it was read before, that is an edit."""
        self.used = True
        if self.status is Status.IDLE:
            self.status = Status.ASSIGNED
        self._value = CheckedMetadata(value)

    def find_operation(self) -> MetadataOperation | None:
        """Return the operation for a save; None if there is none.

        :raises StateNotSerializable: if it was changed to something that is not JSON.
        """
        if self.status is Status.IDLE:
            return None
        if self._seen is not None:
            return None if self._safe is None else SetMetadata(self._safe)
        encoded = self.encode()
        if encoded == self._stored and (self.known or self.status is Status.HELD):
            return None
        scalars = _scalars_of(self._value)
        if self.status is Status.ASSIGNED:
            return SetMetadata(encoded, scalars)
        known = None if self._scalars is None else (self._scalars, scalars)
        return EditMetadata(self._stored, encoded, known)

    def is_dirty(self) -> bool:
        """Return whether there is something to save."""
        try:
            return self.find_operation() is not None
        except StateNotSerializable:
            return True

    def encode(self) -> bytes:
        """Return the metadata as it is now, encoded."""
        if self.status is Status.IDLE:
            return self._stored
        encoded = codec.encode_unchecked(self._value, "metadata")
        if encoded.__class__ is not bytes:
            stored = self._stored if self.known else None
            return codec.encode_again(self._value, "metadata", stored)
        for key, value in self._value.items():
            # Others were checked when they were set.
            if isinstance(value, _CONTAINERS):
                codec.encode(value, codec.child_path("metadata", key))
        return encoded

    def degrade(self) -> None:
        """Continue without what could not be read: only what was assigned before is saved."""
        operation = self.find_operation()
        self._safe = operation.value if isinstance(operation, SetMetadata) else None
        self._seen = self.encode()
        self.known = True

    def leave_out_damaged(self) -> None:
        """Continue with empty metadata after :meth:`degrade`: what is stored is damaged."""
        self._stored = self._seen = EMPTY

    def is_lost(self) -> bool:
        """Return whether it was changed after a failed read, so the change is not saved."""
        return self._seen is not None and self.encode() != self._seen

    def commit(self, operation: MetadataOperation | None) -> None:
        """Record that *operation* is stored."""
        if self._seen is not None:
            self._safe, self._seen = None, self.encode()
        elif isinstance(operation, SetMetadata | EditMetadata):
            self._stored = operation.value
            scalars = operation.scalars
            self._scalars = scalars[1] if isinstance(scalars, tuple) else scalars
            self.known = True
            self.status = Status.HELD


def _scalars_of(metadata: dict[str, Any]) -> Scalars:
    return {key: value for key, value in metadata.items() if not isinstance(value, _CONTAINERS)}
