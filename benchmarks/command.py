"""How the commands of the benchmark end, and what they say while they run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Never

#: The exit code of a process that was ended by SIGTERM, as a shell reports it.
_TERMINATED = 128 + signal.SIGTERM


def run(main: Callable[[], None]) -> None:
    """Run *main*, and leave no process behind when it ends early.

    If standard output or standard error is closed early, as by ``| head``, the command ends
    with exit code 1 and without a traceback. SIGTERM ends it as Ctrl-C does.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        main()
        print(end="", flush=True)
    except BrokenPipeError:
        # Python flushes both streams again at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        sys.exit(1)


def _terminate(number: int, frame: object) -> Never:
    sys.exit(_TERMINATED)


def progress(text: str) -> None:
    """Print on standard error what is being measured."""
    print(f"... {text}", file=sys.stderr, flush=True)
