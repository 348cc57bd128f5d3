"""What uWSGI tells its worker processes: that they are about to end, and how."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...per_process import PerProcess

logger = logging.getLogger("flask_agentuity.runs")

# uWSGI's default of the option.
_MERCY_SECONDS = 60


def find_uwsgi() -> Any | None:
    """Return uWSGI's module if this process is one of its workers."""
    module = sys.modules.get("uwsgi")
    return module if getattr(module, "worker_id", int)() else None


def end_with_uwsgi(end: Callable[[], object]) -> None:
    """Have *end* called before this process ends, if it is a worker of uWSGI.

    With gevent, uWSGI ends a process without the interpreter's ordinary exit.
    """
    module = find_uwsgi()
    if module is None:
        return
    former = getattr(module, "atexit", None)

    def end_both() -> None:
        end()
        if former is not None:
            former()

    module.atexit = end_both


def uwsgi_probe(grace: float) -> Callable[[], bool] | None:
    """Return a function that says whether uWSGI has asked this process to end.

    None with other servers.

    :param grace: in how many seconds runs end then. There is a warning if uWSGI waits for less.
    """
    module = find_uwsgi()
    if module is None:
        return None
    if not module.has_threads:
        logger.warning("Runs need threads, which uWSGI has not started. Set enable-threads.")
    mercy = _option(module, "worker-reload-mercy", _MERCY_SECONDS)
    if mercy <= grace:
        logger.warning(
            "uWSGI kills its workers after worker-reload-mercy = %d s, but runs need up to %g s to"
            " end. Set worker-reload-mercy = %d.",
            mercy,
            grace,
            grace + 1,
        )
    return _hangup.get().has_come


def _option(module: Any, name: str, default: int) -> int:
    # It is a list if it was given several times.
    with suppress(TypeError, ValueError):
        return int(module.opt.get(name, default))
    return default


class _Hangup:
    """Notices SIGHUP, by which uWSGI asks a worker to end.

    uWSGI handles it in C, where a handler in Python could not call its own. The handler of
    :mod:`faulthandler` can: it writes to a pipe, and then calls the one that was there before.
    """

    def __init__(self) -> None:
        self._has_come = False
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        faulthandler.register(signal.SIGHUP, self._write, all_threads=False, chain=True)

    def has_come(self) -> bool:
        """Return whether the signal has been received."""
        if not self._has_come:
            with suppress(BlockingIOError):
                self._has_come = bool(os.read(self._read, 1))
        return self._has_come


_hangup = PerProcess(_Hangup)
