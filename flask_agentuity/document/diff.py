"""Finding edits: the difference between an encoded list and a list in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import codec
from .alignment import Items, align, forget_ambiguous
from .operations import Change
from .subsequences import NONE

# How many places are searched for the item that has become the first one because of a window.
_CANDIDATES = 8


#: If there are more changes, they are replaced by one change, which includes the items between.
MOST_CHANGES = 64


@dataclass(frozen=True, slots=True)
class ListDifference:
    """The changes that turn one list into another, and the items that are then appended."""

    changes: tuple[Change, ...]
    appended: tuple[bytes, ...]


def diff_list(base: bytes, value: Sequence[Any], encoded: bytes) -> ListDifference:
    """Return the difference between the encoded list *base* and *value*, whose encoding is
    *encoded*.

    Making the changes to the items of *base* and appending the rest gives exactly the items
    of *encoded*. Equal items at both ends are found by comparing memory; only what is
    between is cut into items.
    """
    if (appended := codec.appended(base, encoded)) is not None:
        return ListDifference((), tuple(appended))
    ends = _common_ends(base, value, encoded)
    found = _diff_window(base, value, encoded, ends) or _diff_middle(base, value, ends)
    if found is None:
        whole = _Ends(ends.first, len(value), ends.end, max(ends.start, len(base) - 1))
        found = _diff_middle(base, value, whole)
    assert found is not None
    return found


def translate(
    changes: tuple[Change, ...], places: tuple[int | None, ...]
) -> tuple[Change, ...] | None:
    """Return *changes* with the indexes that the items have in the stored list.

    None where that cannot be done without looking at the stored list: an item is no longer
    there, or items of others are between those to replace.
    """
    translated: list[Change] = []
    end = 0
    for change in changes:
        stop = change.place + len(change.gone)
        stored = places[change.place : stop]
        place = stored[0] if len(stored) == len(change.gone) else None
        if place is None or place < end:
            return None
        end = place + len(stored)
        if stored != tuple(range(place, end)):
            return None
        translated.append(Change(place, change.gone, change.new))
    return tuple(translated)


@dataclass(frozen=True, slots=True)
class _Ends:
    """The equal items at both ends of two lists.

    The first ``first`` items are equal, and those from index ``last`` of the value on. The
    items between are the bytes of base from ``start`` to before ``stop``, without commas at
    the ends; ``end`` is where the item in front of them ends in either encoding.
    """

    first: int
    last: int
    end: int
    stop: int

    @property
    def start(self) -> int:
        return self.end + 1


def _common_ends(base: bytes, value: Sequence[Any], encoded: bytes) -> _Ends:
    size = len(encoded)
    common = codec.common_prefix(base, encoded)
    first, end = _items_before(value, size, common, 0, 0)
    if first and end == common and base[end : end + 1] not in (b",", b"]"):
        # A number that is longer in base.
        first -= 1
        end = end - 1 - codec.run_length(value[first : first + 1]) if first else 0
    common = codec.common_suffix(base, encoded, max(0, min(len(base), size) - end - 1))
    last, last_end = first, end
    if end + 1 < size - common:
        last, last_end = _items_before(value, size, size - common - 2, first, end)
        last, last_end = _next(value, last, last_end)
    if last < len(value) and last_end + 1 == size - common:
        before = len(base) - common - 1
        if base[before : before + 1] not in (b",", b"["):
            # A number that began earlier in base.
            last, last_end = _next(value, last, last_end)
    stop = len(base) - (size - last_end) if last < len(value) else len(base) - 1
    return _Ends(first, last, end, max(end + 1, stop))


def _next(value: Sequence[Any], index: int, end: int) -> tuple[int, int]:
    return index + 1, end + 1 + codec.run_length(value[index : index + 1])


def _items_before(
    value: Sequence[Any], size: int, limit: int, low: int, low_end: int
) -> tuple[int, int]:
    """Return how many items of *value* end at byte *limit* of its encoding or before it.

    The second number is where the last of them ends (0 if there is none). *size* is the
    length of the encoding; the first *low* items are known to end at *low_end*. The search
    encodes slices of *value*, starting at the nearer end; in total, at most twice the list.
    """
    high, high_end = len(value), size - 1
    if low < high and limit >= high_end:
        return high, high_end
    backwards = high_end - limit < limit - low_end
    step = 1
    while high - low > 1:
        galloping = step < high - low
        if backwards:
            middle = high - step if galloping else (low + high) // 2
            end = high_end - 1 - codec.run_length(value[middle:high])
        else:
            middle = low + step if galloping else (low + high) // 2
            # The first item has no comma in front of it, but a bracket.
            end = low_end + 1 + codec.run_length(value[low:middle])
        if end <= limit:
            low, low_end = middle, end
            step = high if backwards else 2 * step
        else:
            high, high_end = middle, end
            step = 2 * step if backwards else high
    return low, low_end


def _diff_window(
    base: bytes, value: Sequence[Any], encoded: bytes, ends: _Ends
) -> ListDifference | None:
    """Return the difference if items were only dropped before others and appended; else None."""
    if ends.first == len(value):
        return None
    kept = b"," + codec.encode_unchecked(value[ends.first])
    place = ends.start
    for _ in range(_CANDIDATES):
        place = base.find(kept, place)
        if place < 0:
            return None
        run = memoryview(base)[place + 1 : -1]
        end = ends.start + len(run)
        if encoded.startswith(run, ends.start) and encoded[end : end + 1] in (b",", b"]"):
            try:
                # Inside a text or a nested value it would look the same.
                gone = codec.items_of(b"[%b]" % base[ends.start : place])
            except ValueError:
                gone = []
            if gone:
                appended = codec.items_of(b"[%b]" % encoded[end + 1 : -1])
                change = Change(ends.first, tuple(gone), ())
                return ListDifference((change,), tuple(appended))
        place += 1
    return None


def _diff_middle(base: bytes, value: Sequence[Any], ends: _Ends) -> ListDifference | None:
    """Return the difference between the equal ends; None if the end behind is none.

    The neighbours on both sides belong to it: an insertion names them.
    """
    middle = codec.decode(b"[%b]" % base[ends.start : ends.stop])
    if len(middle) == 1 and ends.last == ends.first + 1:
        # The usual edit: one item in its place.
        gone, new = codec.encode_each([*middle, value[ends.first]])
        return ListDifference((Change(ends.first, (gone,), (new,)),) if gone != new else (), ())
    first, last = max(0, ends.first - 1), min(len(value), ends.last + 1)
    before, after = value[first : ends.first], value[ends.last : last]
    olds, news = Items([*before, *middle, *after]), Items(value[first:last])
    forget_ambiguous(olds, news)
    partners = align(olds, news)
    if after and partners[-1] != len(news) - 1:
        return None
    return _difference(olds.encoded, news.encoded, partners, first)


def _difference(
    old: Sequence[bytes], new: Sequence[bytes], partners: Sequence[int], offset: int
) -> ListDifference:
    blocks: list[tuple[int, int, int, int]] = []
    appended: tuple[bytes, ...] = ()
    start = new_start = 0
    for stop, new_stop in enumerate([*partners, len(new)]):
        if stop == len(old):
            if start == stop:
                appended, new_stop = tuple(new[new_start:]), new_start
            elif partners[-1] != NONE:
                # Versions of the last item, and what came behind it.
                new_stop = partners[-1] + 1
                appended = tuple(new[new_stop:])
        elif new_stop == NONE or old[stop] != new[new_stop]:
            continue
        if start < stop:
            blocks.append((start, stop, new_start, new_stop))
        elif new_start < new_stop:
            _insert(blocks, start, new_start, new_stop)
        start, new_start = stop + 1, new_stop + 1
    if len(blocks) > MOST_CHANGES:
        # A store handles one long change at a cost that many short ones multiply.
        first, last = blocks[0], blocks[-1]
        blocks = [(first[0], last[1], first[2], last[3])]
    changes = (
        Change(offset + start, tuple(old[start:stop]), tuple(new[new_start:new_stop]))
        for start, stop, new_start, new_stop in blocks
    )
    return ListDifference(tuple(changes), appended)


def _insert(
    blocks: list[tuple[int, int, int, int]], place: int, new_start: int, new_stop: int
) -> None:
    """Add an insertion before the item at *place*, with its neighbours."""
    start = place - 1 if place else place
    new_start -= place - start
    if blocks and blocks[-1][1] > start:
        # The item between two insertions is a neighbour of both.
        start, _, new_start, _ = blocks.pop()
    blocks.append((start, place + 1, new_start, new_stop + 1))
