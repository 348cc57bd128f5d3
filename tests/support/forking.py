"""Forked children of the test process."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable

import pytest

from support.waiting import PATIENCE

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def in_child(act: Callable[[], object]) -> int:
    """Run *act* in a forked child; returns its exit code, 0 for a true result.

    A child that hangs is killed, and the result is then minus the signal's number.
    """
    with warnings.catch_warnings():
        # Python 3.12 warns of forks in a process with threads, which is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if act() else 2
        finally:
            os._exit(code)
    deadline = time.monotonic() + 2 * PATIENCE
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
