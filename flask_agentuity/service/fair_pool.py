"""Threads that tenants share fairly."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(eq=False, slots=True)
class _Tenant:
    """The waiting and running functions of one tenant, and the seconds that it has used."""

    used: float
    running: int = 0
    #: Each is set when it is the turn of the one that waits for it.
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class FairPool:
    """Runs functions in threads, each for a tenant. For one event loop.

    A free thread takes the next function of the tenant that has the fewest running functions; among
    equal ones, of the tenant that has used the least time.

    :param reserve: how many threads are left for others when one tenant has all the others.
    :param single: there is one tenant, so its functions are run in the order in which they come.
    :param rest: how long a thread rests after a function, as a multiple of the function's duration.
        A function that holds Python's interpreter lock stops the event loop, whatever thread it
        runs in.
    :param begin_thread: is called in each thread before its first function.
    """

    def __init__(
        self,
        threads: int,
        name: str,
        *,
        reserve: int = 0,
        rest: float = 0.0,
        single: bool = False,
        begin_thread: Callable[[], None] | None = None,
    ) -> None:
        self._executor = ThreadPoolExecutor(threads, name, begin_thread)
        self._free = threads
        self._most = max(1, threads - reserve)
        self._rest = rest
        self._single = single
        self._tenants: dict[str, _Tenant] = {}
        # The time that a new tenant counts as having used.
        self._clock = 0.0

    async def run(
        self, tenant: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run *function* in a thread when it is the turn of *tenant*, and return its result."""
        loop = asyncio.get_running_loop()
        if self._single:
            return await loop.run_in_executor(self._executor, partial(function, *args, **kwargs))
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = _Tenant(self._clock)
        if self._free and not found.waiting and found.running < self._most:
            self._begin(found)
        else:
            await self._wait(tenant, found, loop)
        began = time.perf_counter()
        work = self._executor.submit(function, *args, **kwargs)
        running = asyncio.wrap_future(work, loop=loop)
        running.add_done_callback(partial(self._finish, tenant, found, began, work))
        return await running

    def close(self) -> None:
        """Start no more functions. Does not wait for running ones."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _wait(self, name: str, tenant: _Tenant, loop: asyncio.AbstractEventLoop) -> None:
        turn: asyncio.Future[None] = loop.create_future()
        tenant.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # Its turn had come.
                tenant.running -= 1
                self._return_thread()
            self._forget_idle(name, tenant)
            raise

    def _begin(self, tenant: _Tenant) -> None:
        self._clock = max(self._clock, tenant.used)
        self._free -= 1
        tenant.running += 1

    def _dispatch(self) -> None:
        while self._free and (tenant := self._next()) is not None:
            turn = tenant.waiting.popleft()
            if not turn.done():
                self._begin(tenant)
                turn.set_result(None)

    def _next(self) -> _Tenant | None:
        able = (
            tenant
            for tenant in self._tenants.values()
            if tenant.waiting and tenant.running < self._most
        )
        return min(able, key=lambda tenant: (tenant.running, tenant.used), default=None)

    def _finish(
        self,
        name: str,
        tenant: _Tenant,
        began: float,
        work: Future[Any],
        ended: asyncio.Future[Any],
    ) -> None:
        if not work.done():
            # Nothing waits for the function any more, but it still uses its thread.
            loop = asyncio.get_running_loop()
            again = partial(self._finish, name, tenant, began, work, ended)
            work.add_done_callback(lambda _: _call_in(loop, again))
            return
        seconds = time.perf_counter() - began
        tenant.running -= 1
        tenant.used += seconds
        self._forget_idle(name, tenant)
        if self._rest:
            asyncio.get_running_loop().call_later(seconds * self._rest, self._return_thread)
        else:
            self._return_thread()

    def _return_thread(self) -> None:
        self._free += 1
        self._dispatch()

    def _forget_idle(self, name: str, tenant: _Tenant) -> None:
        if not tenant.waiting and not tenant.running:
            self._tenants.pop(name, None)


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    # The service may have ended in the meantime.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function)
