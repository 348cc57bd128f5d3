from __future__ import annotations

from pathlib import Path

import pytest

from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore

from .running import Runner, runner_of

APP = """
from flask import Flask
from flask_agentuity import ThreadManager

app = Flask("served", instance_path={instance!r})
ThreadManager(app)
"""


@pytest.fixture
def store() -> ThreadStore:
    return MemoryStore()


@pytest.fixture
def threads(store: ThreadStore) -> Runner:
    """Run ``flask threads`` on an app whose threads are in *store*."""
    return runner_of(store)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an app that keeps its threads in its instance folder."""
    (tmp_path / "served.py").write_text(APP.format(instance=str(tmp_path / "instance")))
    return tmp_path
