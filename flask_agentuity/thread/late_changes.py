"""Changes that were made since the last save, so that only another save would keep them."""

from __future__ import annotations

from .contents import Contents


def has_late_changes(contents: Contents) -> bool:
    """Return whether there are any. What was not used since the last save is not looked at."""
    with contents.source.lock:
        metadata = contents.metadata
        return (contents.used and contents.is_dirty()) or (metadata.used and metadata.is_dirty())


def forget_late_changes(contents: Contents) -> None:
    """Take note that the changes so far are known to be lost."""
    contents.used = contents.metadata.used = False
