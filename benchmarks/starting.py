"""How long a new process takes to import Flask and the package, and to make an app."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial

from .harness import Rounds, alternately

_CLOCK = "import time; began = time.perf_counter()\n"
_PRINT = "\nprint((time.perf_counter() - began) * 1000)"
_APP = """
app = flask.Flask("app", instance_path=__import__("os").getcwd())
app.secret_key = "only for the benchmark"
{bind}
app.add_url_rule("/", view_func=lambda: "ok")
app.test_client().get("/")
"""
CODE = {
    "import flask": "import flask",
    "import": "import flask_agentuity",
    "app": "import flask" + _APP.format(bind=""),
    "app with the extension": "import flask, flask_agentuity"
    + _APP.format(bind="flask_agentuity.ThreadManager(app)"),
}


def measure(rounds: int) -> Rounds:
    """Return the milliseconds of each, every time in a new process, alternately."""
    with tempfile.TemporaryDirectory() as folder:
        subjects: dict[str, Callable[[], float]] = {
            name: partial(_time, _CLOCK + code + _PRINT, folder) for name, code in CODE.items()
        }
        alternately(1, subjects)
        return alternately(rounds, subjects)


def _time(code: str, folder: str) -> float:
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, check=True, capture_output=True, cwd=folder).stdout)
