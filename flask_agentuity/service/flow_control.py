"""How much of one connection may be processed at once."""

from __future__ import annotations

import asyncio


class FlowControl:
    """Limits the requests of one connection that are processed at once.

    A request that is larger than the limit is processed alone. Only one task may wait.
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._requests = 0
        self._bytes = 0
        self._left = asyncio.Event()

    async def enter(self, size: int) -> None:
        """Wait until a request of *size* bytes may begin."""
        while self._requests and (
            self._requests >= self._max_requests or self._bytes + size > self._max_bytes
        ):
            self._left.clear()
            await self._left.wait()
        self._requests += 1
        self._bytes += size

    def leave(self, size: int) -> None:
        """Record that a request of *size* bytes has ended."""
        self._requests -= 1
        self._bytes -= size
        self._left.set()
