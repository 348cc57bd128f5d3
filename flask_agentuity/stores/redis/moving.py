"""Move, copy and erase threads inside Redis. Each step is one script."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence

from ...document.operations import Operation
from ...errors import StateTooLarge, StoreError, TurnLost
from ..base import KeyedStore
from ..expected import ANY, Expected
from ..listing import require_owner
from ..moving import id_is_taken, require_move
from ..subjects import ALL_THREADS
from ..writing import Write
from .calls import Caller
from .keys import Keyspace, encode_owner
from .line import Line
from .scripts import ERASE, FENCED_MOVE, MOVE
from .writer import REMEMBERED, Writer

# Threads of one partition that a call of erase() removes, because it blocks Redis.
_ERASED = 20


class MovingInRedis(KeyedStore):
    """Moves, copies and erases the threads of a store in Redis."""

    _caller: Caller
    _writer: Writer

    @abstractmethod
    def _names(self, thread_id: str) -> tuple[bytes, bytes]:
        """Return the keys of a thread and of its index."""

    @abstractmethod
    def _partitions(self, thread_id: str) -> Keyspace:
        """Return all partitions."""

    def propose_id(self, thread_id: str, make: Callable[[], str]) -> str:
        partitions = self._partitions(thread_id)
        partition = partitions.of(thread_id)
        while partitions.of(new_id := make()) is not partition:
            pass
        return new_id

    def move(
        self, thread_id: str, new_id: str, *, owner: str | None = None, expected: Expected = ANY
    ) -> bool:
        require_move(thread_id, new_id, owner)
        names = self._names(thread_id)
        keys = (*names, self._beside(thread_id, new_id))
        worker, turn = encode_owner(expected.owner), expected.turn

        def talk(line: Line) -> bytes:
            sent = time.monotonic()
            arguments = REMEMBERED, encode_owner(owner), expected.version, worker
            if turn is None:
                status, *moved = line.run(MOVE, keys, arguments)
            else:
                status, *moved = line.run(FENCED_MOVE, keys, (*arguments, turn))
            if moved:
                line.clock.note(sent, int(moved[0]))
            return bytes(status)

        status = self._caller.call(names[0], thread_id, talk, changes=True)
        if status == b"fenced":
            raise TurnLost(thread_id)
        if status == b"taken":
            raise id_is_taken(new_id)
        return status == b"moved"

    def duplicate(
        self, thread_id: str, new_id: str, operations: Sequence[Operation], owner: str | None
    ) -> bool:
        thread, index = self._names(thread_id)
        names = self._beside(thread_id, new_id), index
        try:
            status = self._writer.copy(thread, names, new_id, Write(operations, owner=owner))
        except StateTooLarge:
            self.delete(new_id)
            raise
        if status == b"taken":
            raise id_is_taken(new_id)
        return status == b"written"

    def erase(self, owner: str, progress: Callable[[int], None] | None = None) -> int:
        require_owner(owner)
        total = 0
        waiting = list(self._partitions(ALL_THREADS))
        arguments = encode_owner(owner), _ERASED, REMEMBERED
        while waiting:
            calls = [(partition.index, arguments) for partition in waiting]
            replies = self._caller.run_each(ALL_THREADS, ERASE, calls)
            deleted = sum(reply[1] for reply in replies)
            total += deleted
            if deleted and progress:
                progress(deleted)
            pairs = zip(waiting, replies, strict=True)
            waiting = [partition for partition, reply in pairs if reply[0] == _ERASED]
        return total

    def _beside(self, thread_id: str, new_id: str) -> bytes:
        """Return the key of a new thread in the partition of another one.

        :raises StoreError: if the new thread belongs to another partition.
        """
        thread, index = self._names(new_id)
        if index != self._names(thread_id)[1]:
            raise StoreError(
                f"Thread {thread_id} cannot get the id {new_id}, which belongs to another"
                " partition. Use an id that propose_id() returns."
            )
        return thread
