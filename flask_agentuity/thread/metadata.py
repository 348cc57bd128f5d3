"""The metadata of a thread, as one request has it."""

from __future__ import annotations

from typing import Any

from ..document import codec
from ..document.operations import EditMetadata, MetadataOperation, SetMetadata
from ..errors import StateNotSerializable
from .checked_metadata import CheckedMetadata
from .entry import Status

EMPTY = b"{}"


class Metadata:
    """What is stored of the metadata, what is in memory, and the difference."""

    status: Status = Status.IDLE
    #: Whether a read, or the lack of a stored thread, has told what is stored.
    known: bool = False
    #: Whether it was used since it was last looked at for changes.
    used: bool = False
    _stored: bytes = EMPTY
    _value: dict[str, Any]
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
        """Take note of what is stored. What is in memory stays as it is."""
        if not self.known:
            self.known = True
            self._stored = stored

    def get(self) -> dict[str, Any]:
        """Return the metadata in memory; it has to be known, or assigned."""
        self.used = True
        if self.status is Status.IDLE:
            self._value = CheckedMetadata(codec.decode(self._stored))
            self.status = Status.HELD
        return self._value

    def assign(self, value: dict[str, Any]) -> None:
        """Replace the metadata as a whole. After it was read, that is an edit."""
        self.used = True
        if self.status is Status.IDLE:
            self.status = Status.ASSIGNED
        self._value = CheckedMetadata(value)

    def find_operation(self) -> MetadataOperation | None:
        """Return what a save has to send; None if there is nothing.

        :raises StateNotSerializable: if it was changed to something that JSON cannot hold.
        """
        if self.status is Status.IDLE:
            return None
        if self._seen is not None:
            return None if self._safe is None else SetMetadata(self._safe)
        encoded = self.encode()
        if self.status is Status.ASSIGNED:
            same = self.known and encoded == self._stored
            return None if same else SetMetadata(encoded)
        return None if encoded == self._stored else EditMetadata(self._stored, encoded)

    def is_dirty(self) -> bool:
        """Return whether a save would have something to send."""
        try:
            return self.find_operation() is not None
        except StateNotSerializable:
            return True

    def encode(self) -> bytes:
        """Return the metadata as it is now, encoded."""
        if self.status is Status.IDLE:
            return self._stored
        return codec.encode_again(self._value, "metadata", self._stored if self.known else None)

    def degrade(self) -> None:
        """Go on without what could not be read: only what was assigned before is saved."""
        operation = self.find_operation()
        self._safe = operation.value if isinstance(operation, SetMetadata) else None
        self._seen = self.encode()
        self.known = True

    def is_lost(self) -> bool:
        """Return whether it was changed after a failed read, so that the change is not saved."""
        return self._seen is not None and self.encode() != self._seen

    def commit(self, operation: MetadataOperation | None) -> None:
        """Take note that *operation* is stored."""
        if self._seen is not None:
            self._safe, self._seen = None, self.encode()
        elif isinstance(operation, SetMetadata | EditMetadata):
            self._stored = operation.value
            self.known = True
            self.status = Status.HELD
