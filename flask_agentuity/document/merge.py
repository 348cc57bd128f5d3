"""Merge what a request changed with what is stored now. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from .operations import Edit, EditMetadata, Operation, ReplaceMetadata


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of a merge.

    ``value`` is the merged value, encoded; None where the key is gone. ``places`` are, for
    each item of *mine* where both are lists, its index in the merged list (None: it is not
    there). ``dropped`` are the paths of my changes that gave way, ``overridden`` those of
    theirs.
    """

    value: bytes | None
    places: tuple[int | None, ...] | None = None
    dropped: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()


def merge_value(path: str, base: bytes | None, mine: bytes | None, theirs: bytes | None) -> Merged:
    """Merge two encoded values that both come from *base*. None stands for a missing key."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Rebased:
    """An edit as operations that fit what is stored now, and what became of it."""

    operations: tuple[Operation, ...]
    merged: Merged


def rebase(edit: Edit, stored: bytes | None, version: int, *, assigned: bool = False) -> Rebased:
    """Return what brings *edit* to a value that is *stored* now, at *version*.

    *assigned*: the stored value was assigned without reading after ``edit.since``; it wins.
    """
    raise NotImplementedError


def rebase_metadata(edit: EditMetadata, stored: bytes) -> ReplaceMetadata | None:
    """Return what brings *edit* to the metadata that is *stored* now; None: nothing to do."""
    raise NotImplementedError


def optimistic(edit: Edit) -> tuple[Operation, ...] | None:
    """Return the operations of *edit* that succeed if nothing changed where it touches.

    None where the stored value has to be read first.
    """
    raise NotImplementedError
