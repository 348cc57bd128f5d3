from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .answers import Chat
from .clients import Reading


@pytest.fixture(autouse=True)
def _leave_all() -> Iterator[None]:
    yield
    for reading in list(Reading.open):
        reading.leave()


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    chat = Chat()
    yield chat
    chat.client.finish_runs()
