from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flask_agentuity.stores import open_store

from .owned_app import OwnedApp

KEY = "the key of the tests"


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("redis")
    from support.redis_server import running

    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(params=["memory", "sqlite", "redis", "service"])
def owned(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OwnedApp]:
    """An app with people who log in, on each kind of store."""
    with ExitStack() as stack:
        key = None
        match request.param:
            case "memory":
                url = "memory://"
            case "sqlite":
                url = "sqlite:///threads.db"
            case "redis":
                url = request.getfixturevalue("redis_url")
            case _:
                from flask_agentuity.service import ThreadService

                served = ThreadService(open_store("memory://"), own_key=KEY)
                stack.callback(served.stop)
                served.start()
                url, key = served.url, KEY
        store = open_store(url, folder=str(tmp_path), key=key)
        stack.callback(store.close)
        yield OwnedApp(store)
        if request.param == "redis":
            import redis

            with redis.Redis.from_url(url) as client:
                client.flushall()
