"""Threads that tenants share fairly."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(eq=False, slots=True)
class _Job:
    function: Callable[[], Any]
    done: asyncio.Future[Any]


@dataclass(eq=False, slots=True)
class _Tenant:
    """What one tenant has waiting and running, and the seconds that it has used."""

    used: float
    running: int = 0
    waiting: deque[_Job] = field(default_factory=deque)


class FairPool:
    """Runs functions in threads, each for a tenant. For one event loop.

    A free thread takes the next function of the tenant that has the fewest running and, of
    these, has used the least time.

    :param reserve: how many threads are left for others when one tenant has all the others.
    :param rest: for how many times the duration of a function its thread then rests. A function
        that holds Python's interpreter lock stops the event loop, wherever it runs.
    """

    def __init__(self, threads: int, name: str, *, reserve: int = 0, rest: float = 0.0) -> None:
        self._executor = ThreadPoolExecutor(threads, name)
        self._free = threads
        self._most = max(1, threads - reserve)
        self._rest = rest
        self._tenants: dict[str, _Tenant] = {}
        # What a tenant that begins now is taken to have used before.
        self._clock = 0.0

    async def run(
        self, tenant: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run *function* in a thread when it is the turn of *tenant*, and return its result."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = _Tenant(self._clock)
        found.waiting.append(_Job(lambda: function(*args, **kwargs), done))
        self._dispatch()
        return await done

    def close(self) -> None:
        """Begin nothing more. Does not wait for what is running."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _dispatch(self) -> None:
        while self._free and (found := self._next()) is not None:
            name, tenant = found
            job = tenant.waiting.popleft()
            if job.done.done():
                self._forget_idle(name, tenant)
                continue
            self._clock = max(self._clock, tenant.used)
            self._free -= 1
            tenant.running += 1
            running = asyncio.get_running_loop().run_in_executor(self._executor, job.function)
            running.add_done_callback(partial(self._finish, name, job, time.perf_counter()))

    def _next(self) -> tuple[str, _Tenant] | None:
        able = (
            (name, tenant)
            for name, tenant in self._tenants.items()
            if tenant.waiting and tenant.running < self._most
        )
        return min(able, key=lambda each: (each[1].running, each[1].used), default=None)

    def _finish(self, name: str, job: _Job, began: float, ended: asyncio.Future[Any]) -> None:
        seconds = time.perf_counter() - began
        tenant = self._tenants[name]
        tenant.running -= 1
        tenant.used += seconds
        self._forget_idle(name, tenant)
        if job.done.done():
            pass  # Its connection was aborted.
        elif ended.cancelled():
            job.done.cancel()
        elif (error := ended.exception()) is not None:
            job.done.set_exception(error)
        else:
            job.done.set_result(ended.result())
        if self._rest:
            asyncio.get_running_loop().call_later(seconds * self._rest, self._return_thread)
        else:
            self._return_thread()

    def _return_thread(self) -> None:
        self._free += 1
        self._dispatch()

    def _forget_idle(self, name: str, tenant: _Tenant) -> None:
        if not tenant.waiting and not tenant.running:
            del self._tenants[name]
