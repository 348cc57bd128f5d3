"""Times that are too long are refused where they are set, not where something waits for them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from flask_agentuity.client import ThreadClient
from flask_agentuity.durations import LONGEST
from flask_agentuity.errors import ConfigurationError
from flask_agentuity.service import ThreadService
from flask_agentuity.stores import open_store
from flask_agentuity.stores.memory import MemoryStore

KEY = "the key of the tests"
WRONG = [-1, float("nan"), float("inf"), 1e12, 10**400, "5", True]


def test_python_can_wait_for_the_longest_time() -> None:
    assert LONGEST < threading.TIMEOUT_MAX


@pytest.mark.parametrize("ttl", [*WRONG, 0])
def test_the_time_to_live_of_a_store(ttl: Any) -> None:
    with pytest.raises(ConfigurationError, match="ttl"):
        open_store("memory://", ttl=ttl)


@pytest.mark.parametrize("seconds", WRONG)
@pytest.mark.parametrize("name", ["request_timeout", "connect_timeout", "reconnect_max", "grace"])
def test_times_of_a_client(name: str, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        ThreadClient("ws://127.0.0.1:1", KEY, **{name: seconds})


@pytest.mark.parametrize("seconds", [*WRONG, 0])
@pytest.mark.parametrize("name", ["authorization_timeout", "send_timeout", "drain_timeout"])
def test_times_of_a_service(name: str, seconds: Any) -> None:
    options: dict[str, Any] = {name: seconds}
    with pytest.raises(ConfigurationError, match=name):
        ThreadService(MemoryStore(), [KEY], **options)
