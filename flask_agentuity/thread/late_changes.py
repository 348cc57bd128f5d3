"""Changes since the last save, which are lost without another save."""

from __future__ import annotations

from .contents import Contents, is_dirty


def has_late_changes(contents: Contents) -> bool:
    """Return whether there are any. Values that were not used since then are not compared."""
    with contents.source.lock:
        metadata = contents.metadata
        return (contents.used and is_dirty(contents)) or (metadata.used and metadata.is_dirty())


def forget_late_changes(contents: Contents) -> None:
    """Record that the changes so far are known to be lost."""
    contents.used = contents.metadata.used = False
