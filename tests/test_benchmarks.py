"""The benchmark's commands end together with the processes that they have started."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Seconds after which a command counts as hanging.
PATIENCE = 60


@contextmanager
def running() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.wire", "--seconds", "0.05"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def rest_of_errors(process: subprocess.Popen[str]) -> str:
    """Return what is left of standard error, once no process holds it open."""
    _, errors = process.communicate(timeout=PATIENCE)
    return errors


def test_a_command_ends_when_its_output_is_closed_early() -> None:
    with running() as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Round trip with one caller\n"
        process.stdout.close()
        process.stdout = None
        assert rest_of_errors(process) == ""
        assert process.returncode == 1


def test_a_command_that_is_terminated_ends_its_processes() -> None:
    with running() as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert rest_of_errors(process) == ""
        assert process.returncode == 128 + signal.SIGTERM
