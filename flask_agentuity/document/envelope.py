"""The envelope of a document, ``{"state": {...}, "metadata": {...}}``, and its size."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from .keys import encode_key
from .packed import PackedState

_STATE = b'"state":'
_METADATA = b'"metadata":'

#: The most bytes that a document has besides its entries and its metadata.
MOST_PUNCTUATION = len(_STATE + _METADATA) + 4


def join_document(state: Mapping[str, bytes] | PackedState, metadata: bytes = b"{}") -> bytes:
    """Return the document of an encoded state and metadata; ``b""`` when both are empty."""
    if not state and metadata == b"{}":
        return b""
    # bytes.join() would take 80 bytes more for each part.
    document = BytesIO()
    write = document.write
    write(b"{")
    if state:
        separator = _STATE + b"{"
        if isinstance(state, PackedState):
            for member in state.members():
                write(separator)
                write(member)
                separator = b","
        else:
            for key, value in state.items():
                write(separator)
                write(encode_key(key))
                write(b":")
                write(value)
                separator = b","
        write(b"}" if metadata == b"{}" else b"},")
    if metadata != b"{}":
        write(_METADATA)
        write(metadata)
    write(b"}")
    return document.getvalue()


def unwrap_document(root: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the state and the metadata of a decoded document of either form."""
    parts = [root[name] for name in ("state", "metadata") if name in root]
    if not parts or not all(part is None or isinstance(part, dict) for part in parts):
        return root, {}
    state = dict(root.pop("state", None) or {})
    metadata = root.pop("metadata", None) or {}
    state.update(root)
    return state, metadata


def entry_size(encoded_key: bytes, value_size: int) -> int:
    """Return the bytes that one key takes in the state, with its colon and its comma."""
    return len(encoded_key) + value_size + 2


def document_size(entries_size: int, metadata_size: int) -> int:
    """Return the exact size in bytes of the document that :func:`join_document` would make.

    *entries_size* is the sum of :func:`entry_size` over all keys, *metadata_size* the
    length of the encoded metadata (2 when it is empty).
    """
    state = len(_STATE) + 2 + entries_size - 1 if entries_size else 0
    metadata = len(_METADATA) + metadata_size if metadata_size > 2 else 0
    if not state and not metadata:
        return 0
    return 2 + state + metadata + (1 if state and metadata else 0)
