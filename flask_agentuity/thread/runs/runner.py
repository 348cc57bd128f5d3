"""Runs one generator to its end, in a thread of the worker."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import logging
import sys
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from typing import Any, Protocol

from ...errors import AgentuityError, StoreError, ThreadGone, TurnLost
from ...per_process import PerProcess
from ...stores.runs import RunStatus
from .formats import FORMATS
from .log import LiveLog

logger = logging.getLogger("flask_agentuity.runs")

_NO_MORE: Any = object()
# In gevent's workers, at most this number of asynchronous runs work at a time; others wait.
_MOST_NATIVE_THREADS = 100

#: The types of output that a run accepts.
Output = Iterable[Any] | AsyncIterable[Any]


class Saving(Protocol):
    """Saves what a run has changed."""

    def __call__(self) -> None:
        """Save the thread, unless the turn was lost.

        :raises AgentuityError: if it is not saved.
        """


def require_output(output: object) -> None:
    """Refuse an output that cannot be run.

    :raises TypeError: the message says what to pass.
    """
    if inspect.isgeneratorfunction(output) or inspect.isasyncgenfunction(output):
        raise TypeError(
            f"threads.stream() got the function {output.__name__}, not its generator."
            f" Call it: threads.stream({output.__name__}(...))."
        )
    if isinstance(output, str | bytes) or not isinstance(output, Iterable | AsyncIterable):
        raise TypeError(
            f"threads.stream() needs a generator or another iterable of str, bytes or dict,"
            f" not {type(output).__name__}."
        )


class Runner:
    """One generator, and the log that its output goes to."""

    def __init__(
        self, output: Output, log: LiveLog, note: Callable[[], object], save: Saving
    ) -> None:
        """Prepare a run.

        :param note: is called when the log has grown.
        :param save: saves what the generator has changed.
        """
        self._output = output
        self._log = log
        self._note = note
        self._save = save
        self._encoder = FORMATS[log.format].encoder(log.key.run_id)
        #: The exception that made the run fail.
        self.error: BaseException | None = None

    def run(self) -> RunStatus:
        """Run to the end, save, and add the end to the log; return the status."""
        status: RunStatus
        try:
            status = self._iterate()
        except BaseException as error:  # noqa: BLE001 - also SystemExit: it ends a thread only
            status = self._fail(error)
        if status != "failed":
            status = self._save_as(status)
        log = self._log
        log.finish(self._encoder.close(status, log.length), status)
        return status

    def _iterate(self) -> RunStatus:
        if isinstance(self._output, AsyncIterable):
            _run_coroutine(self._iterate_async(aiter(self._output)))
        else:
            self._iterate_sync(iter(self._output))
        match self._log.reason:
            case None:
                return "done"
            case "stopped":
                return "stopped"
            case "interrupted" | "lost":
                return "interrupted"

    def _iterate_sync(self, items: Iterator[Any]) -> None:
        log = self._log
        try:
            while log.reason is None:
                try:
                    item = next(items)
                except StopIteration:
                    return
                self._append(item)
        finally:
            if close := getattr(items, "close", None):
                close()

    async def _iterate_async(self, items: AsyncIterator[Any]) -> None:
        log, loop = self._log, asyncio.get_running_loop()
        step: asyncio.Task[Any] | None = None

        def cancel() -> None:
            if step is not None:
                step.cancel()

        def asked() -> None:
            loop.call_soon_threadsafe(cancel)

        log.asked = asked
        try:
            while log.reason is None:
                step = asyncio.ensure_future(_next(items))
                try:
                    item = await step
                except asyncio.CancelledError:
                    if log.reason is None:
                        raise
                    return
                if item is _NO_MORE:
                    return
                self._append(item)
        finally:
            log.asked = None
            if close := getattr(items, "aclose", None):
                await close()

    def _append(self, item: Any) -> None:
        log = self._log
        if data := self._encoder.encode(item, log.length):
            log.append(data, self._encoder.truncate)
            self._note()

    def _fail(self, error: BaseException) -> RunStatus:
        key = self._log.key
        self.error = error
        logger.error(
            "Run %s of thread %s failed: %s",
            key.run_id,
            key.thread_id,
            error,
            exc_info=error,
            extra={"thread_id": key.thread_id},
        )
        return "failed"

    def _save_as(self, status: RunStatus) -> RunStatus:
        if self._log.reason == "lost":
            # Another request works on the thread, or it was deleted.
            return "interrupted"
        try:
            self._save()
        except (ThreadGone, TurnLost) as error:
            # The thread has logged it.
            self.error = error
            self._log.ask("lost")
            return "interrupted"
        except (AgentuityError, StoreError) as error:
            self.error = error
            return "failed"
        except Exception as error:  # noqa: BLE001 - logged
            return self._fail(error)
        return status


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _NO_MORE)


def _run_coroutine(coroutine: Coroutine[Any, Any, None]) -> None:
    pool = _native_threads.get()
    if pool is None:
        _run_in_loop(coroutine)
    else:
        # Greenlets of one thread cannot have a loop each.
        pool.apply(contextvars.copy_context().run, (_run_in_loop, coroutine))


def _run_in_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner() as runner:
        runner.run(coroutine)


def _make_native_threads() -> Any:
    """Return a pool of real threads if gevent has replaced those of Python."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return None
    threadpool = importlib.import_module("gevent.threadpool")
    return threadpool.ThreadPool(_MOST_NATIVE_THREADS)


_native_threads = PerProcess(_make_native_threads)
