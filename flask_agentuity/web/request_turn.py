"""The turn of a request: taken for a view, given back with the end of the response or the run."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..thread.thread import Thread, begin_turn, contents_of, end_turn
from ..thread.turns import MOST_WAITING, Turn, take_turn

if TYPE_CHECKING:
    from .app_threads import AppThreads

logger = logging.getLogger("flask_agentuity")

#: Seconds to wait for a turn whose run has ended.
GIVING_BACK_SECONDS = 2.0


class RequestTurn:
    """The turn that a request has, if it has one."""

    def __init__(self, threads: AppThreads) -> None:
        self._threads = threads
        self._turn: Turn | None = None
        #: Whether the request has had a turn.
        self.was_taken = False

    def acquire(self, thread: Thread, timeout: float, most_waiting: int) -> bool:
        """Take the turn on *thread* for the rest of the request.

        :param timeout: how long to wait for the turn, in seconds.
        :param most_waiting: do not wait if more others do.
        :returns: False on timeout.
        :raises StoreError: if the store cannot be reached.
        """
        if self._turn is None:
            self._turn = self._take(thread, timeout, most_waiting)
            if self._turn is None:
                return False
            self.was_taken = True
            if not self._begin(thread, self._turn):
                logger.warning(
                    "Thread %s was read before its turn was taken, so what was read may be out of"
                    " date. Also decorate the function that reads it first with one_at_a_time().",
                    thread.id,
                    extra={"thread_id": thread.id},
                )
        return True

    def follow(self, thread: Thread, former_id: str) -> None:
        """Keep the turn on *thread*, which has got another id.

        :raises StoreError: if the store cannot be reached.
        """
        former = self._turn
        if former is None or former.lease.thread_id != former_id:
            return
        # No other request knows the new id.
        self._turn = self._take(thread, 0.0, 0)
        begin_turn(thread, None)
        if self._turn is not None:
            self._begin(thread, self._turn)
        former.end()

    def find_for_run(self, thread: Thread) -> Turn | None:
        """Return the turn on *thread* for a run; None if another has it.

        It waits only if the holder seems to have been killed, as ``on_busy="reject"`` does.

        It stays the request's until :meth:`hand_over`, if the request had it.

        :raises StoreError: if the store cannot be reached.
        """
        turn = self._turn
        if turn is None or turn.lease.thread_id != thread.id:
            turn = self._take(thread, 0.0, MOST_WAITING)
            if turn is not None:
                # A view that has read the state before does without a turn on purpose.
                self._begin(thread, turn)
        return turn

    def hand_over(self, turn: Turn) -> None:
        """Leave *turn* to a run, which gives it back."""
        if self._turn is turn:
            self._turn = None

    def end(self, threads: Iterable[Thread]) -> None:
        """Give the turn back; *threads* are those of the request."""
        if self._turn is not None:
            self._turn.end()
            for thread in threads:
                end_turn(thread)

    def _take(self, thread: Thread, timeout: float, most_waiting: int) -> Turn | None:
        # Without keeping what the guard reads before the turn.
        runs, thread_id = self._threads.runs, contents_of(thread).source.id
        turn = take_turn(runs.turns, thread_id, timeout, most_waiting=most_waiting)
        if turn is None and runs.is_giving_back(thread_id) and timeout <= 0:
            # Its reader has seen the end already.
            turn = take_turn(runs.turns, thread_id, GIVING_BACK_SECONDS)
        return turn

    def _begin(self, thread: Thread, turn: Turn) -> bool:
        # Only the store that the turn was taken in knows its token.
        return begin_turn(thread, None if self._threads.runs.has_own_store else turn.token)
