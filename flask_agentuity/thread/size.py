"""How large the stored document of a thread is."""

from __future__ import annotations

from ..document import codec
from ..document.codec import Snapshot
from ..errors import StoreError
from .contents import Contents, load_metadata


def known_size(contents: Contents) -> int | None:
    """Return the size in bytes at the last read or write; None if that is not known.

    Metadata that was not read does not count.
    """
    entries = contents.source.entries_size
    if entries is None:
        entries = contents.entries.stored_size()
    if entries is None:
        return None
    return codec.document_size(entries, contents.metadata.stored_size)


def find_size(contents: Contents) -> int:
    """Return the size in bytes, for which the thread is read if need be.

    :raises StoreError: if it cannot be read and the policy says so; otherwise the size is 0.
    """
    source = contents.source
    if source.is_new and not source.may_be_stored:
        return 0
    load_metadata(contents)
    size = known_size(contents)
    if size is not None or contents.is_degraded:
        return size or 0
    try:
        snapshot = source.read(None) or Snapshot({})
    except StoreError as error:
        contents.fail(error)
        return 0
    values = snapshot.encoded.items()
    entries = sum(
        codec.entry_size(codec.encode_key(key), len(value)) for key, value in values if value
    )
    return codec.document_size(entries, len(snapshot.metadata))
