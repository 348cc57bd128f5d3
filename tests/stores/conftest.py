from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from .redis_server import RedisServer, running


@pytest.fixture(scope="session")
def _redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(_redis_process: RedisServer) -> RedisServer:
    """A server with nothing in it, shared by the tests that leave it as it is."""
    with closing(_redis_process.client()) as client:
        client.flushall()
    return _redis_process
