"""Values of which each process has exactly one, also after a fork."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Process:
    """Stands for a process. A forked child gets a new one; process ids can be reused."""


_current = _Process()


_in_children: list[Callable[[], object]] = []


def after_fork_in_child(function: Callable[[], object]) -> Callable[[], object]:
    """Have a function called in each forked child, also in the workers of uWSGI."""
    _in_children.append(function)
    return function


@after_fork_in_child
def _begin_process() -> None:
    global _current
    _current = _Process()


def _after_fork() -> None:
    for function in _in_children:
        function()


def _notice_forks() -> None:
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=_after_fork)
    server: Any = sys.modules.get("uwsgi")
    if server is None:
        return
    # uWSGI forks its workers without what is registered above, unless it is told not to.
    try:
        importlib.import_module("uwsgidecorators").postfork(_after_fork)
    except Exception:  # noqa: BLE001 - it is not installed, or there is no master process
        server.post_fork_hook = _after_fork


_notice_forks()


class PerProcess(Generic[T]):
    """A value that is made at its first use in each process, once, by whichever thread is first.

    A forked child makes another value, even if another thread of the parent was using or
    making the parent's value at that moment. The inherited value is not used, closed or
    freed in the child (see :meth:`inherited`).

    A lock among the threads of one process::

        lock = PerProcess(lambda: threading.Lock())

        with lock.get():
            ...

    The function is looked up when it is called: gunicorn's gevent workers replace those of
    :mod:`threading` after the app was imported, if it was preloaded.

    :param make: is called without arguments. If it raises, the next use calls it again.
    """

    __slots__ = ("_made", "_make", "_making")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        # Inherited values are kept here: freeing a database connection would close it.
        self._made: dict[_Process, T] = {}
        self._making: dict[_Process, threading.Lock] = {}

    def __reduce__(self) -> tuple[type[PerProcess[T]], tuple[Callable[[], T]]]:
        return type(self), (self._make,)

    def get(self) -> T:
        """Return the value of this process."""
        process = _current
        try:
            return self._made[process]
        except KeyError:
            return self._make_once(process)

    def made(self) -> T | None:
        """Return the value of this process, or None if it has not been made yet."""
        return self._made.get(_current)

    def inherited(self) -> list[T]:
        """Return the values of the processes from which this one was forked.

        They must not be used. A child may close its copies of their files.
        """
        process = _current
        return [value for other, value in list(self._made.items()) if other is not process]

    def _make_once(self, process: _Process) -> T:
        # setdefault is atomic, so all threads of the process wait for the same lock.
        with self._making.setdefault(process, threading.Lock()):
            if process not in self._made:
                self._made[process] = self._make()
            return self._made[process]
