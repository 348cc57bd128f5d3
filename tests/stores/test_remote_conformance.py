from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.operations import Operation, Push, Set
from flask_agentuity.service import ThreadService
from flask_agentuity.service.keys import namespace_of, stored_id
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.remote import RemoteStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.testing.conformance import Clock, StoreConformance, sequences

from . import test_sqlite_conformance

KEY = "the key of the tests"


class Place:
    """A folder, and the services that keep their threads in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: list[tuple[ThreadService, SQLiteStore]] = []
        self._url: str | None = None

    def serve(self, **options: Any) -> str:
        """Return the URL of a service of its own."""
        store = SQLiteStore(self.folder / "threads.db", timeout=30.0, **options)
        service = ThreadService(store, [KEY])
        service.start()
        self._open.append((service, store))
        return service.url

    @property
    def url(self) -> str:
        """The URL of the service with no options, which is started when it is needed."""
        if self._url is None:
            self._url = self.serve()
        return self._url

    def close(self) -> None:
        for service, store in self._open:
            service.stop()
            store.close()


# Python 3.12 and later warn of any fork in a process that has threads.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
class TestRemoteStore(StoreConformance):
    """The client, the wire, the service and its store: all of it real."""

    shared = True

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
        test_sqlite_conformance.TestSQLiteStore().damage(
            store, place.folder, stored_id(namespace_of(KEY), thread_id), key
        )

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
        # Only the store's time moves: the client and the service wait by the real one.
        moved = [0.0]
        monkeypatch.setattr(
            "flask_agentuity.stores.sqlite.store.time",
            SimpleNamespace(
                time=lambda: time.time() + moved[0], monotonic=time.monotonic, sleep=time.sleep
            ),
        )
        yield Clock(lambda seconds: moved.append(moved.pop() + seconds))

    def test_a_default_is_set_only_where_nothing_is(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        pytest.skip("the wire has no word for a set that is a default")

    @pytest.mark.parametrize("value", [b"null", b'"["', b'{"0":1}', b"1"])
    def test_a_push_onto_what_is_no_list_is_skipped_loudly(
        self,
        store: ThreadStore,
        thread_id: str,
        value: bytes,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        store.merge(thread_id, [Set("k", value)])
        with caplog.at_level(logging.WARNING, logger="flask_agentuity"):
            store.merge(thread_id, [Push("l", b"1"), Push("k", b"2"), Set("after", b"3")])
        assert store.restore(thread_id) == b'{"state":{"k":%b,"l":[1],"after":3}}' % value
        # The service skips it, so the service says so.
        (record,) = caplog.records
        assert stored_id(namespace_of(KEY), thread_id) in record.getMessage()
        assert 'state["k"]' in record.getMessage()

    def test_any_sequence_of_calls_does_as_the_model(self, place: Any) -> None:
        with closing(self.open(place, max_bytes=sequences.MACHINE_LIMIT)) as store:
            run_state_machine_as_test(
                lambda: AgainstModel(store),  # type: ignore[arg-type]
                settings=settings(
                    max_examples=25,
                    stateful_step_count=25,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )


def without_default(operation: Operation) -> Operation:
    return Set(operation.key, operation.value) if isinstance(operation, Set) else operation


class AgainstModel(sequences.AgainstModel):
    @rule(
        changes=st.lists(sequences.operations.map(without_default), max_size=8),
        metadata=sequences.metadata_or_none,
    )
    def merge(self, changes: list[Operation], metadata: dict[str, Any] | None) -> None:
        state = dict(self.state)
        apply_operations(state, changes)
        self.change(state, metadata, lambda: self.store.merge(self.thread_id, changes, metadata))
