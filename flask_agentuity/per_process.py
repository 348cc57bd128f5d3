"""Values of which each process has exactly one, also after a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Process:
    """Stands for a process. A forked child gets a new one; process ids can be reused."""


_current = _Process()


def _begin_process() -> None:
    global _current
    _current = _Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_process)


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
