"""One bound for the bytes that a service holds for its clients."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .limited_log import LimitedLog

logger = logging.getLogger("flask_agentuity.service")

#: Connections that hold less are not counted, because most requests are small.
_UNCOUNTED = 64 * 1024


class Held:
    """The bytes that the service holds for one connection: received frames, and replies to send."""

    def __init__(self, buffers: Buffers, tenant: str, close: Callable[[], object]) -> None:
        self.tenant = tenant
        #: Called, at most once, if the connection must be closed to free memory.
        self.close = close
        self.size = 0
        self._buffers = buffers

    def add(self, size: int) -> None:
        """Hold *size* bytes more."""
        if self.size + size <= _UNCOUNTED:
            self.size += size
        else:
            self._buffers.change(self, size)

    def remove(self, size: int) -> None:
        """Hold *size* bytes less."""
        if self.size <= _UNCOUNTED:
            self.size = max(0, self.size - size)
        else:
            self._buffers.change(self, -size)
        self._buffers.freed(size)

    def clear(self) -> None:
        """Hold nothing more."""
        self._buffers.freed(self.size)
        self._buffers.change(self, -self.size)


class Buffers:
    """What all connections hold. Beyond *limit* the largest one of the tenant that holds most
    is closed.
    """

    def __init__(self, limit: int, freed: Callable[[int], object]) -> None:
        self._limit = limit
        #: Called with the number of bytes whenever any are no longer held.
        self.freed = freed
        self._log = LimitedLog(logger)
        self._large: set[Held] = set()
        self.total = 0

    def change(self, held: Held, size: int) -> None:
        """Note that *held* has grown by *size* bytes."""
        before = held.size if held.size > _UNCOUNTED else 0
        held.size = max(0, held.size + size)
        after = held.size if held.size > _UNCOUNTED else 0
        self.total += after - before
        if after:
            self._large.add(held)
        else:
            self._large.discard(held)
        if after > before:
            while self.total > self._limit and self._large:
                self._close_largest()

    def _close_largest(self) -> None:
        by_tenant: dict[str, int] = {}
        for each in self._large:
            by_tenant[each.tenant] = by_tenant.get(each.tenant, 0) + each.size
        tenant = max(by_tenant, key=by_tenant.__getitem__)
        largest = max(
            (each for each in self._large if each.tenant == tenant), key=lambda each: each.size
        )
        self._log.warn(
            "Closed a connection of %s that held %d bytes: the service holds no more than %d.",
            tenant,
            largest.size,
            self._limit,
        )
        largest.clear()
        largest.close()
