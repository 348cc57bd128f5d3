from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_agentuity.service import ThreadService
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.remote import RemoteStore

from .peers import AUTHORIZED, KEY, Peer
from .runtime import Runtime


@pytest.fixture
def serve() -> Iterator[Callable[..., ThreadService]]:
    """Starts services that end with the test."""
    services: list[ThreadService] = []

    def make(store: ThreadStore | None = None, *keys: str, **options: Any) -> ThreadService:
        service = ThreadService(store or MemoryStore(), keys or [KEY], **options)
        services.append(service)
        service.start()
        return service

    yield make
    for service in services:
        service.stop()
        assert not service.running


@pytest.fixture
def connect() -> Iterator[Callable[..., Peer]]:
    """Connects as the JavaScript runtime does, frame by frame."""
    peers: list[Peer] = []

    def make(service: ThreadService | str, key: str | None = KEY, **options: Any) -> Peer:
        peer = Peer(service if isinstance(service, str) else service.url, **options)
        peers.append(peer)
        if key is not None:
            assert peer.authorize(key) == AUTHORIZED
        return peer

    yield make
    for peer in peers:
        peer.close()


@pytest.fixture
def run() -> Iterator[Callable[[ThreadService], Runtime]]:
    """Connects a process of the JavaScript runtime, with requests that overlap."""
    runtimes: list[Runtime] = []

    def make(service: ThreadService) -> Runtime:
        runtimes.append(Runtime(service.url))
        return runtimes[-1]

    yield make
    for runtime in runtimes:
        runtime.close()


@pytest.fixture
def remote() -> Iterator[Callable[[ThreadService], RemoteStore]]:
    """Connects a store as Flask apps use it."""
    stores: list[RemoteStore] = []

    def make(service: ThreadService) -> RemoteStore:
        stores.append(RemoteStore.from_url(service.url, key=KEY))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No test leaves a thread of the service; the ends of threads take a moment."""
    yield
    until = time.monotonic() + 20
    while left := [each for each in threading.enumerate() if each.name.startswith("thread-serv")]:
        assert time.monotonic() < until, left
        time.sleep(0.01)
