"""Merging two values that were made from one base, at any depth. Pure functions."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

from . import codec
from .alignment import Items, align, forget_ambiguous
from .weaving import Partners, Weaving

#: A key or an item that is not there.
MISSING: Final = object()
#: The maximum number of paths that are reported, of dropped changes and of overridden ones.
REPORTED = 20
_LONGEST_PATH = 200

Path = tuple[object, ...]
#: A merge to do: the path, base, mine and theirs. Base may be MISSING.
Task = tuple[Path, Any, Any, Any]
#: A merge that yields the merges of its parts, so that deeply nested values need no recursion.
Steps = Generator[Task, Any, Any]


class ThreeWay:
    """A merge, and the changes that it gave up.

    If both have changed the same value, objects are merged key by key, and lists item by item;
    otherwise mine is kept. A deletion wins over a change.
    """

    def __init__(self, root: str) -> None:
        self.dropped: list[str] = []
        self.overridden: list[str] = []
        self._root = root

    def merge(self, base: Any, mine: Any, theirs: Any) -> Any:
        """Return the merged value of two that differ from *base* (or MISSING)."""
        return self._run(self.both((), base, mine, theirs))

    def merge_lists(
        self,
        base: Sequence[Any],
        mine: Sequence[Any],
        theirs: Sequence[Any],
        partners: Partners | None = None,
    ) -> Weaving:
        """Merge lists, and return the new places of the items.

        :param partners: which items of mine and theirs are those of base, if it is known.
        """
        weaving = self._weaving((), base, mine, theirs, partners)
        self._run(weaving.steps())
        return weaving

    def drop(self, path: Path) -> None:
        """Report that my change was given up."""
        self._report(self.dropped, path)

    def override(self, path: Path) -> None:
        """Report that their change was given up."""
        self._report(self.overridden, path)

    def both(self, path: Path, base: Any, mine: Any, theirs: Any) -> Steps:
        """Merge two values of which neither is missing and both were changed."""
        for kind in (dict, list):
            if isinstance(mine, kind) and isinstance(theirs, kind):
                return (yield path, base, mine, theirs)
        if not codec.is_same(mine, theirs):
            self.override(path)
        return mine

    def _run(self, steps: Steps) -> Any:
        waiting: list[Steps] = []
        answer: Any = None
        while True:
            try:
                task = steps.send(answer)
            except StopIteration as done:
                if not waiting:
                    return done.value
                steps, answer = waiting.pop(), done.value
            else:
                waiting.append(steps)
                steps, answer = self._steps(*task), None

    def _steps(self, path: Path, base: Any, mine: Any, theirs: Any) -> Steps:
        if isinstance(mine, dict):
            return self._objects(path, base if isinstance(base, dict) else {}, mine, theirs)
        base = base if isinstance(base, list) else []
        return self._weaving(path, base, mine, theirs, None).steps()

    def _objects(
        self, path: Path, base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]
    ) -> Steps:
        merged: dict[str, Any] = {}
        for key in [*theirs, *(key for key in mine if key not in theirs)]:
            value = yield from self._member(
                (*path, key),
                base.get(key, MISSING),
                mine.get(key, MISSING),
                theirs.get(key, MISSING),
            )
            if value is not MISSING:
                merged[key] = value
        return merged

    def _member(self, path: Path, base: Any, mine: Any, theirs: Any) -> Steps:
        if _same(mine, base):
            return theirs
        if _same(theirs, base):
            return mine
        if mine is MISSING:
            self.override(path)
            return MISSING
        if theirs is MISSING:
            self.drop(path)
            return MISSING
        return (yield from self.both(path, base, mine, theirs))

    def _weaving(
        self,
        path: Path,
        base: Sequence[Any],
        mine: Sequence[Any],
        theirs: Sequence[Any],
        partners: Partners | None,
    ) -> Weaving:
        encoded = [codec.encode_each(values) for values in (base, mine, theirs)]
        same = _number_of_same(encoded, partners)
        old, new, now = (
            Items(values[same:], items[same:])
            for values, items in zip((base, mine, theirs), encoded, strict=True)
        )
        ambiguous = forget_ambiguous(old, new, now)
        if partners is None:
            known = Partners(align(old, new), align(old, now))
        else:
            known = partners.without(same)
        return Weaving(self, path, theirs[:same], old, new, now, known, ambiguous)

    def _report(self, paths: list[str], path: Path) -> None:
        if len(paths) >= REPORTED:
            return
        text = self._root
        for part in path:
            text = codec.child_path(text, part)
            if len(text) > _LONGEST_PATH:
                text = text[:_LONGEST_PATH] + "..."
                break
        paths.append(text)


def _number_of_same(lists: list[list[bytes]], partners: Partners | None) -> int:
    """Return how many items at the beginning are the same in all three lists."""
    base, mine, theirs = lists
    same = min(map(len, lists))
    if partners is not None:
        same = min(same, partners.in_place())
    low = 0
    # Slices of lists are compared in C.
    while low < same:
        middle = (low + same + 1) // 2
        if base[low:middle] == mine[low:middle] == theirs[low:middle]:
            low = middle
        else:
            same = middle - 1
    return low


def _same(first: Any, second: Any) -> bool:
    if first is MISSING or second is MISSING:
        return first is second
    return codec.is_same(first, second)
