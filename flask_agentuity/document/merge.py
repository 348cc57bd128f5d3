"""Merging the changes of a request with what is stored now. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import codec
from .alignment import Items, align, forget_ambiguous
from .diff import ListDifference, diff_list, translate
from .likeness import ALIKE, likeness
from .operations import Edit, EditMetadata, Operation, Push, Replace, ReplaceMetadata, Set, Splice
from .subsequences import NONE
from .three_way import MISSING, ThreeWay
from .unusual import Unusual
from .weaving import Partners

Places = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of a merge.

    ``value`` is the merged value, encoded; None if the key was deleted. If *mine* is a list,
    ``places`` has for each of its items the index in the merged list (None: it is not there).
    ``dropped`` are the paths of my changes that were given up, ``overridden`` those of theirs; at
    most 20 of each.
    """

    value: bytes | None
    places: Places | None = None
    dropped: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()


def merge_value(path: str, base: bytes | None, mine: bytes | None, theirs: bytes | None) -> Merged:
    """Merge two encoded values that were both made from *base*. None stands for a missing key.

    Reports name the value by *path*. Both changes are kept, at any depth. If both have changed the
    same part, a deletion wins over a change, and otherwise my change over theirs. If both have
    inserted items at one place of a list, theirs come first.
    """
    if theirs == base:
        return Merged(mine, _identity(mine))
    if mine == base:
        return Merged(theirs, _places(mine, theirs))
    if mine is None:
        return Merged(None, overridden=(path,) if theirs is not None else ())
    if theirs is None:
        return Merged(None, _nowhere(mine), dropped=(path,))
    decoded = MISSING if base is None else codec.decode(base)
    mine_decoded, theirs_decoded = codec.decode(mine), codec.decode(theirs)
    if isinstance(mine_decoded, list) and isinstance(theirs_decoded, list):
        base_list = decoded if isinstance(decoded, list) else []
        return _merge_lists(path, base_list, mine_decoded, theirs_decoded)
    merging = ThreeWay(path)
    value = merging.merge(decoded, mine_decoded, theirs_decoded)
    return _merged(merging, value, _identity(mine))


@dataclass(frozen=True, slots=True)
class Rebased:
    """An edit as operations for what is stored now, and the result of the merge."""

    operations: tuple[Operation, ...]
    merged: Merged


def rebase(edit: Edit, stored: bytes | None, version: int, *, assigned: bool = False) -> Rebased:
    """Return the operations that apply *edit* to the value *stored* now, at *version*.

    *assigned*: the stored value was assigned without reading after ``edit.since``; it wins,
    but an edit that only appended still appends. The same holds for a key that was removed.
    An edit with a function is made again, by calling the function.
    """
    if edit.function is not None:
        value = edit.function(stored)
        operations = () if value == stored else (Replace(edit.key, stored, value, version),)
        return Rebased(operations, Merged(value, _places(edit.value, value)))
    if assigned or (stored is None and edit.base is not None):
        return _rebase_appended(edit, stored)
    try:
        merged = _merge_edit(edit, stored)
    except RecursionError:
        # Values that are too deeply nested are not merged.
        merged = Merged(edit.value, None, overridden=(codec.child_path("state", edit.key),))
    if stored is None:
        return Rebased(_create(edit, version), merged)
    return Rebased(_bring(edit.key, stored, merged.value, version), merged)


def rebase_metadata(edit: EditMetadata, stored: bytes) -> ReplaceMetadata | None:
    """Return the operation that applies *edit* to the *stored* metadata; None: nothing to do."""
    merged = merge_value("metadata", edit.base, edit.value, stored)
    if merged.value is None or merged.value == stored:
        return None
    return ReplaceMetadata(stored, merged.value)


def optimistic(edit: Edit) -> tuple[Operation, ...] | None:
    """Return the operations of *edit* that succeed if nothing that it replaces has changed.

    None if the stored value has to be read first.
    """
    if edit.uncertain:
        return None
    difference = _difference(edit) if edit.function is None else None
    if difference is None:
        return (Replace(edit.key, edit.base, edit.value, edit.since),)
    if edit.base is None:
        return _create(edit, edit.since)
    changes: tuple[Any, ...] | None = difference.changes
    if edit.places is not None:
        changes = translate(difference.changes, edit.places)
    if changes is None:
        return None
    whole = None if edit.partial else edit.value
    splice = (Splice(edit.key, changes, edit.since, whole),) if changes else ()
    return (*splice, *(Push(edit.key, item) for item in difference.appended))


def _difference(edit: Edit) -> ListDifference | None:
    """Return the difference between two lists; None if either value is not a list."""
    if not codec.is_list(edit.value) or isinstance(edit.value, Unusual):
        return None
    if edit.base is None:
        return ListDifference((), tuple(codec.items_of(edit.value)))
    if edit.changes is not None:
        return ListDifference(edit.changes, edit.appended)
    if not codec.is_list(edit.base):
        return None
    return diff_list(edit.base, codec.decode(edit.value), edit.value)


def _create(edit: Edit, version: int) -> tuple[Operation, ...]:
    """Return the operation that creates a key. Two requests may create a list at once."""
    if not codec.is_list(edit.value) or isinstance(edit.value, Unusual):
        return (Replace(edit.key, None, edit.value, version),)
    pushes = (Push(edit.key, item) for item in codec.items_of(edit.value))
    return (Set(edit.key, codec.EMPTY_LIST, only_if_missing=True), *pushes)


def _bring(key: str, stored: bytes, value: bytes | None, version: int) -> tuple[Operation, ...]:
    """Return the operations that turn what is *stored* into *value*."""
    if value is None or value == stored:
        return ()
    if not (codec.is_list(stored) and codec.is_list(value)) or isinstance(value, Unusual):
        return (Replace(key, stored, value, version),)
    difference = diff_list(stored, codec.decode(value), value)
    pushes = (Push(key, item) for item in difference.appended)
    if not difference.changes:
        return tuple(pushes)
    return (Splice(key, difference.changes, version, value), *pushes)


def _rebase_appended(edit: Edit, stored: bytes | None) -> Rebased:
    """Keep only what the edit appended: its list was removed or assigned meanwhile.

    If the list was assigned and the edit also changed items, nothing is kept.
    """
    path = codec.child_path("state", edit.key)
    difference = _difference(edit)
    nowhere = _nowhere(edit.value)
    if (
        difference is None
        or not difference.appended
        or not codec.is_list(stored or codec.EMPTY_LIST)
        or (stored is not None and difference.changes)
    ):
        return Rebased((), Merged(stored, nowhere, dropped=(path,)))
    items = codec.items_of(stored) if stored is not None else []
    appended = difference.appended
    places = (*(nowhere or ())[len(appended) :], *range(len(items), len(items) + len(appended)))
    dropped = (path,) if difference.changes else ()
    return Rebased(
        tuple(Push(edit.key, item) for item in appended),
        Merged(codec.join_list([*items, *appended]), places, dropped),
    )


def _merge_edit(edit: Edit, stored: bytes | None) -> Merged:
    path = codec.child_path("state", edit.key)
    base = edit.base
    lists = base is not None and stored is not None and codec.is_list(edit.value)
    if not lists or not codec.is_list(base or b"") or not codec.is_list(stored or b""):
        if edit.partial:
            return Merged(stored, _nowhere(edit.value), dropped=(path,))
        return merge_value(path, base, edit.value, stored)
    if stored == base and not edit.partial:
        return Merged(edit.value, _identity(edit.value))
    assert base is not None and stored is not None
    values = codec.decode(base), codec.decode(edit.value), codec.decode(stored)
    places = None if edit.uncertain else edit.places
    return _merge_lists(path, *values, places=places, partial=edit.partial)


def _merge_lists(
    path: str,
    base: list[Any],
    mine: list[Any],
    theirs: list[Any],
    *,
    places: Places | None = None,
    partial: bool = False,
) -> Merged:
    merging = ThreeWay(path)
    partners = None
    if partial or places is not None:
        partners = _known_partners(base, mine, theirs, places, partial)
    weaving = merging.merge_lists(base, mine, theirs, partners)
    return _merged(merging, weaving.values, tuple(weaving.places))


def _known_partners(
    base: list[Any], mine: list[Any], theirs: list[Any], places: Places | None, partial: bool
) -> Partners | None:
    """Return which items are the same, as far as the edit knows; None if it does not."""
    old, now = Items(base), Items(theirs)
    found = _partners_at(old, now, places) if places is not None else None
    if partial:
        if found is None:
            forget_ambiguous(old, now)
            found = align(old, now, same_only=True)
        return Partners(list(range(len(mine))), found)
    if found is None:
        return None
    items = Items(mine)
    forget_ambiguous(old, items)
    return Partners(align(old, items), found)


def _partners_at(old: Items, now: Items, places: Places) -> list[int] | None:
    """Return *places* as partners if items that may be the same are still there."""
    if len(places) != len(old):
        return None
    end = 0
    for index, place in enumerate(places):
        if place is None:
            continue
        if not end <= place < len(now):
            return None
        end = place + 1
        if old.identities[index] != now.identities[place]:
            return None
        same = old.encoded[index] == now.encoded[place]
        if not same and likeness(old.values[index], now.values[place]) <= ALIKE:
            return None
    return [NONE if place is None else place for place in places]


def _merged(merging: ThreeWay, value: Any, places: Places | None) -> Merged:
    encoded = codec.encode_unchecked(value)
    return Merged(encoded, places, tuple(merging.dropped), tuple(merging.overridden))


def _identity(mine: bytes | None) -> Places | None:
    return tuple(range(_length(mine))) if mine is not None and codec.is_list(mine) else None


def _nowhere(mine: bytes) -> Places | None:
    return (None,) * _length(mine) if codec.is_list(mine) else None


def _length(encoded: bytes) -> int:
    values: Sequence[Any] = codec.decode(encoded)
    return len(values)


def _places(mine: bytes | None, merged: bytes | None) -> Places | None:
    """Return where the items of mine are in a list that was not made by merging."""
    if mine is None or not codec.is_list(mine):
        return None
    if merged is None or not codec.is_list(merged):
        return _nowhere(mine)
    old, new = Items(codec.decode(mine)), Items(codec.decode(merged))
    forget_ambiguous(old, new)
    # An item that was moved has its id still.
    by_id = {each: index for index, each in enumerate(new.identities) if each is not None}
    found = align(old, new, same_only=True)
    return tuple(
        by_id.get(each) if each is not None else _place(partner)
        for each, partner in zip(old.identities, found, strict=True)
    )


def _place(partner: int) -> int | None:
    return None if partner == NONE else partner
