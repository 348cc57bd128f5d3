"""Who has the turn on a thread, as a string beside the thread."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from ..leases import FORGOTTEN_SECONDS, Lease
from ..turns import TurnStore
from .calls import Caller
from .scripts import COUNT_WAITING, END_TURN, LEASE_TURN, RENEW_TURN, Script

_FORGOTTEN = round(FORGOTTEN_SECONDS * 1000)


class RedisTurns(TurnStore):
    """The turns of a store in Redis."""

    _caller: Caller

    @abstractmethod
    def _names(self, thread_id: str) -> tuple[bytes, bytes]:
        """Return the keys of a thread and of its index."""

    def lease_turn(self, thread_id: str, holder: str, still: Lease | None = None) -> Lease:
        seen = (still.token, still.renewals) if still else (0, 0)
        arguments = holder, _FORGOTTEN, *seen
        found, token, renewals, age = self._run_turn(LEASE_TURN, thread_id, arguments)
        return Lease(thread_id, found.decode(), token, renewals, age / 1_000_000)

    def renew_turns(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        if not leases:
            return ()
        calls = [(self._turn_name(each.thread_id), (each.token, _FORGOTTEN)) for each in leases]
        replies = self._caller.run_each(leases[0].thread_id, RENEW_TURN, calls)
        return [each for each, renewed in zip(leases, replies, strict=True) if not renewed]

    def end_turn(self, thread_id: str, holder: str) -> None:
        self._run_turn(END_TURN, thread_id, (holder,))

    def count_waiting(self, lease: Lease, change: int) -> int:
        return int(self._run_turn(COUNT_WAITING, lease.thread_id, (lease.token, change)))

    def _turn_name(self, thread_id: str) -> bytes:
        return b"%b:turn" % self._names(thread_id)[0]

    def _run_turn(self, script: Script, thread_id: str, arguments: Sequence[str | int]) -> Any:
        keys = self._turn_name(thread_id), b"%b.turns" % self._names(thread_id)[1]
        return self._caller.call(keys[0], thread_id, lambda line: line.run(script, keys, arguments))
