"""Merge what a request changed with what is stored now. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from . import codec
from .diff import diff_list, translate
from .operations import Edit, EditMetadata, Operation, Push, Replace, ReplaceMetadata, Set, Splice


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
    if mine == base:
        return Merged(theirs)
    if theirs in (base, mine):
        return Merged(mine)
    if mine is None or theirs is None:
        return Merged(None)
    return Merged(mine, overridden=(path,))


@dataclass(frozen=True, slots=True)
class Rebased:
    """An edit as operations that fit what is stored now, and what became of it."""

    operations: tuple[Operation, ...]
    merged: Merged


def rebase(edit: Edit, stored: bytes | None, version: int, *, assigned: bool = False) -> Rebased:
    """Return what brings *edit* to a value that is *stored* now, at *version*.

    *assigned*: the stored value was assigned without reading after ``edit.since``; it wins.
    """
    key = edit.key
    path = codec.child_path("state", key)
    appended = edit.appended
    if edit.base is None and codec.is_list(edit.value):
        appended = tuple(codec.items_of(edit.value))
    pushes = tuple(Push(key, item) for item in appended)
    if assigned or (stored is None and edit.base is not None):
        if not pushes or edit.changes or not codec.is_list(stored or codec.EMPTY_LIST):
            return Rebased((), Merged(stored, dropped=(path,)))
        items = codec.items_of(stored) if stored else []
        return Rebased(pushes, Merged(codec.join_list([*items, *appended])))
    merged = merge_value(path, edit.base, edit.value, stored)
    if merged.value == stored or merged.value is None:
        return Rebased((), merged)
    return Rebased((Replace(key, stored, merged.value, version),), merged)


def rebase_metadata(edit: EditMetadata, stored: bytes) -> ReplaceMetadata | None:
    """Return what brings *edit* to the metadata that is *stored* now; None: nothing to do."""
    merged = merge_value("metadata", edit.base, edit.value, stored)
    if merged.value is None or merged.value == stored:
        return None
    return ReplaceMetadata(stored, merged.value)


def optimistic(edit: Edit) -> tuple[Operation, ...] | None:
    """Return the operations of *edit* that succeed if nothing changed where it touches.

    None where the stored value has to be read first.
    """
    key, base = edit.key, edit.base
    if edit.uncertain:
        return None
    if not codec.is_list(edit.value) or not codec.is_list(base or codec.EMPTY_LIST):
        return (Replace(key, base, edit.value, edit.since),)
    if base is None:
        pushes = (Push(key, item) for item in codec.items_of(edit.value))
        return (Set(key, codec.EMPTY_LIST, only_if_missing=True), *pushes)
    changes, appended = edit.changes, edit.appended
    if changes is None:
        difference = diff_list(base, codec.decode(edit.value), edit.value)
        changes, appended = difference.changes, difference.appended
    if edit.places is not None:
        translated = translate(changes, edit.places)
        if translated is None:
            return None
        changes = translated
    splice = (Splice(key, changes, edit.since, edit.value),) if changes else ()
    return (*splice, *(Push(key, item) for item in appended))
