from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flask_agentuity.service import ThreadService
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.remote import RemoteStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.testing.conformance import (
    Clock,
    LeaseConformance,
    StoreConformance,
    TurnConformance,
)
from flask_agentuity.testing.conformance.suite import ODD_KEYS

from . import test_sqlite_conformance

KEY = "the key of the tests"


class Place:
    """A folder, and the services that keep their threads in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: list[tuple[ThreadService, SQLiteStore]] = []
        self._url: str | None = None

    def serve(self, **options: Any) -> str:
        """Return the URL of a new service."""
        store = SQLiteStore(self.folder / "threads.db", timeout=30.0, **options)
        service = ThreadService(store, own_key=KEY)
        service.start()
        self._open.append((service, store))
        return service.url

    @property
    def url(self) -> str:
        """The URL of the service with no options, which is started when it is needed."""
        if self._url is None:
            self._url = self.serve()
        return self._url

    def limit_keys(self, most: int) -> None:
        for _, store in self._open:
            store.max_keys = most

    def close(self) -> None:
        for service, store in self._open:
            service.stop()
            store.close()


# Python 3.12 and later warn of any fork in a process that has threads.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
class TestRemoteStore(StoreConformance):
    """The client, the wire, the service and its store: all of it real."""

    shared = True
    edits = True
    lists = True
    # Each call is a round trip, and the store behind the service runs the same tests.
    examples = 20
    write_examples = 20

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        with closing(Place(tmp_path)) as place:
            yield place

    def open(self, place: Place, **options: Any) -> ThreadStore:
        url = place.serve(**options) if options else place.url
        return RemoteStore.from_url(url, key=KEY)

    def opener(self, place: Place) -> Callable[[], ThreadStore]:
        return partial(RemoteStore.from_url, place.url, key=KEY)

    def damage(self, store: ThreadStore, place: Place, thread_id: str, key: str) -> None:
        test_sqlite_conformance.TestSQLiteStore().damage(store, place.folder, thread_id, key)

    def limit_keys(self, store: ThreadStore, place: Any, most: int) -> None:
        place.limit_keys(most)

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
        # Only the store's time moves: the client and the service wait by the real one.
        moved = [0.0]
        moving = SimpleNamespace(
            time=lambda: time.time() + moved[0], monotonic=time.monotonic, sleep=time.sleep
        )
        for module in ("store", "listing", "purging"):
            monkeypatch.setattr(f"flask_agentuity.stores.sqlite.{module}.time", moving)
        yield Clock(lambda seconds: moved.append(moved.pop() + seconds))

    @pytest.mark.parametrize("key", ODD_KEYS, ids=lambda key: ascii(key[:20]))
    def test_odd_keys_can_be_asked_for(self, store: ThreadStore, thread_id: str, key: str) -> None:
        if len(key) > 8_000:
            with pytest.raises(ValueError, match="too long"):
                store.list({key: "v"})
            return
        super().test_odd_keys_can_be_asked_for(store, thread_id, key)


class TestTurnsOfRemoteStore(TurnConformance, LeaseConformance):
    """They hold within one process, because a service knows no turns."""

    turns = True
    leases = True
    edits = True

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        with closing(Place(tmp_path)) as place:
            yield place

    def open(self, place: Place, **options: Any) -> ThreadStore:
        return RemoteStore.from_url(place.serve(**options) if options else place.url, key=KEY)
