"""The turns on threads, each kept as a string next to its thread."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from ..leases import FORGOTTEN_SECONDS, Lease
from ..turns import TurnStore
from .calls import Caller
from .scripts import COUNT_WAITING, END_TURN, FIND_TURN, LEASE_TURN, RENEW_TURN, Script

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
        return _lease_of(thread_id, self._run_turn(LEASE_TURN, thread_id, arguments))

    def look_at_turns(self, thread_ids: Sequence[str]) -> Mapping[str, Lease]:
        if not thread_ids:
            return {}
        calls = [(self._turn_name(each), ()) for each in thread_ids]
        replies = self._caller.run_each(thread_ids[0], FIND_TURN, calls)
        return {
            thread_id: _lease_of(thread_id, reply)
            for thread_id, reply in zip(thread_ids, replies, strict=True)
            if reply
        }

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


def _lease_of(thread_id: str, reply: Sequence[Any]) -> Lease:
    holder, token, renewals, age = reply
    return Lease(thread_id, holder.decode(), token, renewals, age / 1_000_000)
