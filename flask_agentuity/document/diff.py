"""Find what was edited: the difference between an encoded list and a list in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .operations import Change


@dataclass(frozen=True, slots=True)
class ListDifference:
    """What turns one list into another: the changes, and then the items behind its end."""

    changes: tuple[Change, ...]
    appended: tuple[bytes, ...]


def diff_list(base: bytes, value: Sequence[Any], encoded: bytes) -> ListDifference:
    """Return how the encoded list *base* became *value*, whose encoding is *encoded*."""
    raise NotImplementedError


def translate(
    changes: tuple[Change, ...], places: tuple[int | None, ...]
) -> tuple[Change, ...] | None:
    """Return *changes* with the indexes that the items have in the stored list.

    None where that cannot be done without looking at the stored list: an item is no longer
    there, or others' items lie between those that give way.
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
