"""Matches replies to requests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

#: How many finished ids are remembered, to tell late and repeated replies from unknown ones.
REMEMBERED = 1000


class PendingReplies(Generic[T]):
    """Requests that await their replies, by id. Not thread-safe."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._waiting: dict[str, T] = {}
        # True: answered, so another reply is a duplicate. False: given up, so it is late.
        self._past: OrderedDict[str, bool] = OrderedDict()
        self._remembered = remembered
        #: Replies with an id that was never sent.
        self.unknown = 0
        #: Second replies to one request.
        self.duplicate = 0
        #: Replies to requests that had been given up.
        self.late = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, id: str) -> bool:
        return id in self._waiting

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._waiting.values()))

    def oldest(self) -> T | None:
        """Return the request that has waited longest, or None."""
        return next(iter(self._waiting.values()), None)

    def add(self, id: str, request: T) -> None:
        """Expect a reply to *request*."""
        self._past.pop(id, None)
        self._waiting[id] = request

    def answer(self, id: str) -> T | None:
        """Return the request that a reply with *id* belongs to.

        Returns None, and counts the reply, if no request awaits it.
        """
        if (request := self._waiting.pop(id, None)) is not None:
            self._remember(id, answered=True)
            return request
        match self._past.get(id):
            case True:
                self.duplicate += 1
            case False:
                self.late += 1
            case None:
                self.unknown += 1
        return None

    def give_up(self, id: str) -> T | None:
        """Stop expecting a reply to *id*. One that still arrives is counted as late."""
        if (request := self._waiting.pop(id, None)) is not None:
            self._remember(id, answered=False)
        return request

    def give_up_all(self) -> list[T]:
        """Stop expecting replies, because the connection was lost. Return the requests."""
        requests = list(self._waiting.values())
        for id in list(self._waiting):
            self.give_up(id)
        return requests

    def _remember(self, id: str, *, answered: bool) -> None:
        self._past[id] = answered
        if len(self._past) > self._remembered:
            self._past.popitem(last=False)
