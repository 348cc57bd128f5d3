"""Full saves of the JavaScript runtime as what they change.

A JavaScript request restores a thread, changes the state in memory and saves the whole of it.
Taken literally, that removes what others wrote in between. So the service keeps what a
connection was told (see :mod:`~flask_agentuity.service.views`) and applies a save as the
difference to the view that it is based on. The frames do not say which one that is if a
connection has several requests of one thread under way. It is the view to which the save
adds the least; of these, the one from which it removes the least; of these, the one of which
it changes the least; and of these, the latest. For requests that add and edit items this
finds the right one, however they overlap: to any view that is older than the right one, a
save also adds what it has seen since; from any that is newer, it also removes what it has not
seen.

Some cases cannot be told apart, and what is done there is not always what was meant:

* A request removes everything that was added since an earlier view of the same connection
  that no save has used up, such as that of a request that only read. It looks like a late
  save of that earlier request, so nothing is removed. (If the save leaves exactly the earlier
  view, it is taken as meant: the runtime does not save what it has not changed.)
* Two requests append items that are equal, byte by byte, and one of them has seen the item of
  the other. Items with ids are never equal.
* Two requests of one connection save the same document. That is taken for a repetition.
* After a deletion, the same connection has restored the thread and found nothing, and then a
  request saves that had restored the thread before. It is dropped if it has only added to
  what it restored, and creates the thread again if it has also removed something. A new
  thread that has all of the old one and more is dropped as well.
* A view that has been dropped because of its age or for lack of room, or a connection that
  was replaced between restore and save. Then the save replaces the document as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..document import codec
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
    total = Distance(sum(key not in view for key in state), sum(key not in state for key in view))
    for key, value in state.items():
        base = view.get(key)
        if base is None or base == value:
            continue
        if codec.is_list(base) and (appended := _appended(base, value)) is not None:
            total += Distance(len(appended))
        else:
            before = codec.decode(base)
            total += _distance_of_values(before, align(before, codec.decode(value)))
    return total


def _distance_of_values(before: Any, after: Any) -> Distance:
    if after is before:
        return NONE
    if isinstance(before, dict) and isinstance(after, dict):
        total = Distance(
            sum(key not in before for key in after), sum(key not in after for key in before)
        )
        for key, value in after.items():
            if key in before:
                total += _distance_of_values(before[key], value)
        return total
    if isinstance(before, list) and isinstance(after, list):
        items = Counter(map(codec.encode_unchecked, after))
        items.subtract(Counter(map(codec.encode_unchecked, before)))
        counts = items.values()
        return Distance(
            sum(count for count in counts if count > 0),
            -sum(count for count in counts if count < 0),
        )
    return Distance(changed=1)
