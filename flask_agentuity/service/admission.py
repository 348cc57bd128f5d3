"""How many clients may be connected without having sent a key, and for how long."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from . import open_files
from .addresses import TrustedAddresses, source_of
from .limited_log import LimitedLog
from .listener import AcceptedSocket

logger = logging.getLogger("flask_agentuity.service")

#: Seconds after the timeout in which a client can still be told that it was too slow.
_LAST_WORDS = 1.0


@dataclass(frozen=True)
class AdmissionLimits:
    """How many clients may be connected that have not sent their key. Times are in seconds."""

    total: int
    per_address: int
    timeout: float
    trusted: TrustedAddresses


class Admission:
    """The accepted sockets whose clients have not sent a good key yet.

    At a limit, the one that has waited longest is closed. A client with a key sends it at once, so
    idle connections cannot keep others out.
    """

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._waiting: OrderedDict[AcceptedSocket, asyncio.TimerHandle] = OrderedDict()
        self._by_number: dict[int, AcceptedSocket] = {}
        self._by_source: dict[str, OrderedDict[AcceptedSocket, None]] = {}
        self._log = LimitedLog(logger)

    def __len__(self) -> int:
        """Return how many are waiting."""
        return len(self._waiting)

    def admit(self, accepted: AcceptedSocket) -> bool:
        """Let *accepted* wait for its key. Return False if there are hardly any files left."""
        if (left := open_files.files_left(accepted.number)) < open_files.RESERVED:
            self.refuse_for_lack_of_files()
            # It can be closed before the last files are needed.
            if self._waiting:
                self._evict(next(iter(self._waiting)))
            if left < open_files.RESERVED // 2:
                return False
        loop = asyncio.get_running_loop()
        patience = self._limits.timeout + _LAST_WORDS
        self._waiting[accepted] = loop.call_later(patience, self._evict, accepted)
        self._by_number[accepted.number] = accepted
        accepted.on_close = self._leave
        if accepted.host not in self._limits.trusted:
            others = self._by_source.setdefault(source_of(accepted.host), OrderedDict())
            others[accepted] = None
            if len(others) > self._limits.per_address:
                self._give_way(next(iter(others)))
        if len(self._waiting) > self._limits.total:
            strangers = (each for each in self._waiting if each.host not in self._limits.trusted)
            self._give_way(next(strangers, next(iter(self._waiting))))
        return True

    def refuse_for_lack_of_files(self) -> None:
        """Log that the limit of open files is near."""
        self._log.warn(
            "The process is near its limit of open files; a connection was closed or refused."
        )

    def authorize(self, number: int) -> None:
        """Record that the client of the socket with this file number has sent an accepted key."""
        accepted = self._by_number.get(number)
        if accepted is not None:
            self._leave(accepted)

    def close(self, keep: Collection[int]) -> None:
        """Close all but those with the file numbers *keep*, which have completed a handshake."""
        for accepted in list(self._waiting):
            if accepted.number not in keep:
                self._evict(accepted)

    def _give_way(self, accepted: AcceptedSocket) -> None:
        self._log.warn(
            "Too many clients have not sent a key; closed a connection of %s.", accepted.host
        )
        self._evict(accepted)

    def _evict(self, accepted: AcceptedSocket) -> None:
        self._leave(accepted)
        accepted.hang_up()

    def _leave(self, accepted: AcceptedSocket) -> None:
        timer = self._waiting.pop(accepted, None)
        if timer is None:
            return
        timer.cancel()
        accepted.on_close = None
        if self._by_number.get(accepted.number) is accepted:
            del self._by_number[accepted.number]
        source = source_of(accepted.host)
        others = self._by_source.get(source)
        if others is not None:
            others.pop(accepted, None)
            if not others:
                del self._by_source[source]
