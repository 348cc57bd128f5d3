from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from flask_agentuity.stores.remote import RemoteStore

from .odd_service import KEY, Answer, OddService

if TYPE_CHECKING:
    from support.redis_server import RedisServer


@pytest.fixture(scope="session")
def _redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    # Not everywhere: the tests of other stores run without the package.
    redis_server = pytest.importorskip("support.redis_server")
    with redis_server.running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(_redis_process: RedisServer) -> RedisServer:
    """A server with nothing in it, shared by the tests that leave it as it is."""
    with closing(_redis_process.client()) as client:
        client.flushall()
    return _redis_process


@pytest.fixture
def connect() -> Iterator[Callable[..., RemoteStore]]:
    """Makes stores at the URL of a service."""
    stores: list[RemoteStore] = []

    def make(url: str, key: str = KEY, **options: Any) -> RemoteStore:
        stores.append(RemoteStore.from_url(url, key=key, **options))
        return stores[-1]

    yield make
    for store in stores:
        store.client.close(timeout=0)


@pytest.fixture
def odd(
    connect: Callable[..., RemoteStore],
) -> Iterator[Callable[..., tuple[OddService, RemoteStore]]]:
    """Makes a service that answers as it is told, and a store that uses it."""
    with ExitStack() as services:

        def make(answer: Answer, **options: Any) -> tuple[OddService, RemoteStore]:
            service = services.enter_context(OddService(answer))
            return service, connect(service.url, **options)

        yield make
