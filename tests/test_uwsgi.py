"""What is special about processes of uWSGI."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.servers import Visitor, running, uwsgi

APP = """
import os
from flask import Flask, g
from flask_agentuity import ThreadManager
from flask_agentuity.per_process import PerProcess

process = PerProcess(os.getpid)
app = Flask(__name__, instance_path=os.environ["SERVED_INSTANCE"])
app.config["SECRET_KEY"] = "x"
threads = ThreadManager(app)
# In the master process, which uWSGI forks.
with app.app_context():
    threads.list()
process.get()

@app.get("/")
def show():
    g.thread.state["used"] = True
    return {"noticed": process.get() == os.getpid()}
"""


@pytest.mark.parametrize("decorators", [True, False])
def test_forks_are_noticed(tmp_path: Path, decorators: bool) -> None:
    """Also if the app imports uWSGI's decorators later, and if it cannot."""
    (tmp_path / "uwsgi_app.py").write_text(
        APP + "import uwsgidecorators"
        if decorators
        else "import sys; sys.modules['uwsgidecorators'] = None" + APP
    )
    options = "--processes", "1", "--threads", "2", "--pythonpath", str(tmp_path)
    command = uwsgi("uwsgi_app:app", *options)
    with running(tmp_path, command) as server:
        assert Visitor(server).get("/").json() == {"noticed": True}
