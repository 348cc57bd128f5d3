"""What may still be saved after a read has failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..document.apply import apply_operations
from ..document.operations import Operation
from .queued import Queued, QueuedPush


@dataclass(slots=True)
class Degraded:
    """A state that could not be read, and continues as if it were empty.

    ``before`` are the operations that were found when the read failed, ``seen`` is what the
    state held in memory then. ``later`` are operations since then that need no reading.
    """

    before: Sequence[Operation]
    seen: dict[str, bytes]
    later: list[tuple[str, Queued]] = field(default_factory=list)

    def find_operations(self, now: dict[str, bytes]) -> tuple[list[Operation], list[str]]:
        """Return the operations that may be sent, and the keys whose changes are lost.

        :raises StateNotSerializable: if a pushed item was changed to something that is not JSON.
        """
        later: list[Operation] = [
            one.encode(key) if isinstance(one, QueuedPush) else one for key, one in self.later
        ]
        expected = dict(self.seen)
        apply_operations(expected, later)
        keys = dict.fromkeys([*expected, *now])
        return [*self.before, *later], [key for key in keys if expected.get(key) != now.get(key)]
