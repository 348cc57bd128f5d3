"""How runs learn that their process is about to end."""

from __future__ import annotations

import atexit
import logging
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from ...per_process import PerProcess
from ...thread.runs.process import CLOSING_SECONDS, ProcessRuns
from .uwsgi import end_with_uwsgi, uwsgi_probe

logger = logging.getLogger("flask_agentuity.runs")

# gunicorn's workers handle these with their own methods, unless the app has replaced some.
_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGABRT", "SIGQUIT", "SIGINT")


def _register() -> weakref.WeakSet[ProcessRuns]:
    """Make all runs of this process end before the interpreter does."""
    # What is registered last is called first: executors, and with them asyncio's, still work
    # while the runs end. They register when this module is imported.
    import concurrent.futures.thread  # noqa: F401

    known: weakref.WeakSet[ProcessRuns] = weakref.WeakSet()

    def end_runs() -> None:
        for each in list(_known.made() or ()):
            each.shut_down()

    # Functions of atexit are called later: after the executors have ended.
    register: Callable[[Callable[[], Any]], Any]
    register = getattr(threading, "_register_atexit", atexit.register)
    end_with_uwsgi(end_runs)
    try:
        register(end_runs)
    except RuntimeError:
        logger.warning("A run begins while the interpreter is ending; it may be cut off.")
    return known


_known = PerProcess(_register)


def end_with_process(runs: ProcessRuns) -> None:
    """Make *runs* end before this process does."""
    _known.get().add(runs)


def find_gunicorn_worker() -> Any | None:
    """Return gunicorn's object for this worker process, if gunicorn serves this process."""
    base = sys.modules.get("gunicorn.workers.base")
    if base is None:
        return None
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        handler = number and signal.getsignal(number)
        worker = getattr(handler, "__self__", None)
        if isinstance(worker, base.Worker):
            return worker
    return None


def server_probe(grace: float) -> Callable[[], bool]:
    """Return a function that says whether the server has asked this process to end.

    With servers other than gunicorn and uWSGI that is known only when the interpreter ends.

    :param grace: the grace period of runs, in seconds. There is a warning if the server waits
        for less.
    """
    if (probe := uwsgi_probe(grace + CLOSING_SECONDS)) is not None:
        return probe
    worker = find_gunicorn_worker()
    if worker is None:
        return lambda: False
    timeout = worker.cfg.graceful_timeout
    if timeout < grace + CLOSING_SECONDS:
        logger.warning(
            "gunicorn kills its workers after graceful_timeout = %g s, but runs have a grace period"
            " of AGENTUITY_RUN_GRACE = %g s and %g s to close. Set --graceful-timeout %d.",
            timeout,
            grace,
            CLOSING_SECONDS,
            grace + CLOSING_SECONDS + 1,
        )
    return lambda: not worker.alive
