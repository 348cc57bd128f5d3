"""Finding what a full save of the JavaScript runtime changes.

A JavaScript request restores a thread, changes the state in memory and saves the whole of it.
Applied literally, that removes what others wrote in between. So the service keeps what it has sent
to a connection (see :mod:`~flask_agentuity.service.views`) and applies a save as the difference to
the view that it is based on.

The frames do not say which view that is if a connection has several requests of one thread
under way. It is the view to which the save adds the fewest items of lists; of these, the one
from which it removes the least; of these, the one of which it changes the least; and of
these, the latest. For requests that append items, change items with ids and set values this
finds the right view, however they overlap: compared with a view that is older than the right
one, a save also adds what was there in between; compared with a newer one, it also removes
what it has not seen.

What cannot be told apart, and what is done then:

* A request removes everything that was added since an earlier view that no save has used,
  such as that of a request that only read. That looks like a late save of the earlier request.
  Nothing is removed, and what the request adds is appended. (Where the save leaves exactly the
  earlier view, the removal is done: the runtime does not save what it has not changed.)
* A request changes an item without an id that was added since such an earlier view. That looks
  like another item, so both stay.
* Two requests make the same change: they append equal items, remove the same item or change an
  item to the same value. Then what was added between the two may be removed.
* Two requests of one connection save the same document, with no restore between. That is taken
  for a repetition.
* After a deletion the same connection has restored the thread and found nothing, and then a
  request saves that had restored it before. The save is dropped if it has only added to what
  was restored; if it has also removed something, it creates the thread again. A new thread
  that has all of the old one and more is dropped as well.
* A view was dropped because of its age or for lack of room, or the connection was replaced
  between restore and save. Then the save is taken for one that is based on another view, and
  replaces the document if there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..document import codec
from ..document.alignment import Items, forget_ambiguous
from ..document.alignment import align as pair_items
from ..document.diff import diff_list
from ..document.operations import (
    Delete,
    Edit,
    EditMetadata,
    Operation,
    Push,
)
from .javascript import align
from .views import View


@dataclass(frozen=True, slots=True, order=True)
class Distance:
    """How far a saved state is from a view. The smaller one fits better."""

    added: int = 0
    removed: int = 0
    changed: int = 0

    def __add__(self, other: Distance) -> Distance:
        return Distance(
            self.added + other.added,
            self.removed + other.removed,
            self.changed + other.changed,
        )


NONE = Distance()


def choose_view(
    views: Sequence[View], state: Mapping[str, bytes], metadata: bytes | None
) -> View | None:
    """Return the view that a save is based on; None if there is none.

    :param views: what the connection has seen of the thread, the latest last.
    :param state: the saved state.
    :param metadata: the saved metadata, or None.
    """
    best: tuple[bool, Distance] | None = None
    chosen = None
    was_missing = False
    for view in reversed(views):
        distance = _distance(view.state, state)
        # The runtime does not save what it has not changed; it may repeat a save.
        unchanged = distance == NONE and metadata is None and not view.saved
        # The thread was deleted after this view. A new thread may resemble the old one, but
        # only what is based on the old one has all of it.
        unlikely = was_missing and distance.removed > 0
        if not unlikely and (best is None or (unchanged, distance) < best):
            best, chosen = (unchanged, distance), view
        was_missing = was_missing or view.is_nothing
    return chosen


def find_changes(view: View, state: Mapping[str, bytes], metadata: bytes | None) -> list[Operation]:
    """Return the operations that turn *view* into the saved *state* and *metadata*.

    What JavaScript only spells in another way has not changed.
    """
    found: list[Operation] = [Delete(key) for key in view.state if key not in state]
    for key, value in state.items():
        base = view.state.get(key)
        if base is None:
            found.append(Edit(key, None, value, since=view.version))
        elif base != value:
            found.extend(_find_change(key, base, value, view.version))
    if metadata is not None:
        found.extend(_find_metadata_change(view.metadata, metadata))
    return found


def _find_change(key: str, base: bytes, value: bytes, since: int) -> list[Operation]:
    if codec.is_list(base) and (appended := _appended(base, value)) is not None:
        return [Push(key, item) for item in appended]
    before = codec.decode(base)
    after = align(before, codec.decode(value))
    if after is before:
        return []
    encoded = codec.encode_unchecked(after, codec.child_path("state", key))
    if not isinstance(before, list) or not isinstance(after, list):
        return [Edit(key, base, encoded, since=since)]
    difference = diff_list(base, after, encoded)
    if not difference.changes:
        return [Push(key, item) for item in difference.appended]
    return [Edit(key, base, encoded, difference.changes, difference.appended, since)]


def _find_metadata_change(base: bytes, metadata: bytes) -> list[Operation]:
    before = codec.decode(base)
    after = align(before, codec.decode(metadata))
    if after is before:
        return []
    return [EditMetadata(base, codec.encode_unchecked(after, "metadata"))]


def _appended(base: bytes, value: bytes) -> list[bytes] | None:
    return codec.appended(base, value) if codec.is_list(value) else None


def _distance(view: Mapping[str, bytes], state: Mapping[str, bytes]) -> Distance:
    total = NONE
    for key, value in state.items():
        base = view.get(key)
        if base is None:
            total += _added(codec.decode(value))
        elif base != value:
            total += _distance_of_encoded(base, value)
    for key, base in view.items():
        if key not in state:
            total += _removed(codec.decode(base))
    return total


def _distance_of_encoded(base: bytes, value: bytes) -> Distance:
    if codec.is_list(base) and (appended := _appended(base, value)) is not None:
        return Distance(len(appended))
    before = codec.decode(base)
    return _distance_of_values(before, align(before, codec.decode(value)))


def _distance_of_values(before: Any, after: Any) -> Distance:
    if after is before:
        return NONE
    if isinstance(before, dict) and isinstance(after, dict):
        total = NONE
        for key, value in after.items():
            total += _distance_of_values(before[key], value) if key in before else _added(value)
        for key, value in before.items():
            if key not in after:
                total += _removed(value)
        return total
    if isinstance(before, list) and isinstance(after, list):
        return _distance_of_lists(before, after)
    if isinstance(before, dict | list) or isinstance(after, dict | list):
        return _added(after) + _removed(before)
    return Distance(changed=1)


def _distance_of_lists(before: list[Any], after: list[Any]) -> Distance:
    old, new = Items(before), Items(after)
    forget_ambiguous(old, new)
    pairs = enumerate(pair_items(old, new, same_only=True))
    kept = [(index, partner) for index, partner in pairs if partner >= 0]
    changed = sum(old.encoded[index] != new.encoded[partner] for index, partner in kept)
    return Distance(len(after) - len(kept), len(before) - len(kept), changed)


def _added(value: Any) -> Distance:
    """Return the weight of a new value. Two requests may easily set the same scalar."""
    if isinstance(value, list):
        return Distance(added=len(value))
    if isinstance(value, dict):
        return sum(map(_added, value.values()), NONE)
    return Distance(changed=1)


def _removed(value: Any) -> Distance:
    """Return the weight of a value that is no longer there."""
    if isinstance(value, list):
        return Distance(removed=len(value))
    if isinstance(value, dict):
        return sum(map(_removed, value.values()), NONE)
    return Distance(removed=1)
