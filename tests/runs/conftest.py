from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .answers import Chat


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    chat = Chat()
    yield chat
    chat.client.finish_runs()
