"""How much memory a state with the most keys takes: a small multiple of its document.

Short keys and values are where Python's objects cost the most. The memory of the app's own objects
does not count.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.recording import begin

from flask_agentuity.document.operations import Set
from flask_agentuity.stores import ThreadStore, open_store
from flask_agentuity.stores.memory import MemoryStore

from .conformance import new_id

if TYPE_CHECKING:
    from support.redis_server import RedisServer

#: How many times its size a document may take.
MOST = 8
#: As many as are enough to see it.
KEYS = 2_000
#: A key, and the encoded value of each.
KINDS = {"digit": ("k%05d", b"1"), "list": ("k%05d", b"[1]"), "emoji": ("🔑%05d", '"😀"'.encode())}


def peak_of(call: Callable[[], Any]) -> int:
    """Return the most memory that a call takes, besides what is kept for all threads."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(params=["sqlite", "redis", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ThreadStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    if request.param == "redis":
        redis_server: RedisServer = request.getfixturevalue("redis_server")
        url = redis_server.url
    else:
        url = f"sqlite:///{tmp_path}/threads.db"
    with closing(open_store(url)) as store:
        yield store


def read_one(store: ThreadStore, thread_id: str, key: str) -> None:
    thread = begin(store, thread_id=thread_id)
    assert thread.state[key] is not None
    assert not thread.state.dirty


def read_each(store: ThreadStore, thread_id: str) -> None:
    thread = begin(store, thread_id=thread_id)
    assert sum(thread.state[key] is not None for key in thread.state) == KEYS
    assert not thread.state.dirty


def change_one(store: ThreadStore, thread_id: str, key: str) -> None:
    thread = begin(store, thread_id=thread_id)
    thread.state[key] = [thread.state[key]]
    thread.save()


@pytest.mark.parametrize("kind", KINDS)
def test_many_keys_take_a_multiple_of_their_document(store: ThreadStore, kind: str) -> None:
    thread_id = new_id()
    key, value = KINDS[kind]
    store.merge(thread_id, [Set(key % number, value) for number in range(KEYS)])
    document = store.restore(thread_id)
    assert document is not None
    read_each(store, thread_id)
    calls: dict[str, Callable[[], Any]] = {
        "store.read()": lambda: store.read(thread_id),
        "store.restore()": lambda: store.restore(thread_id),
        "a request that reads one key": lambda: read_one(store, thread_id, key % 17),
        "a request that reads each key": lambda: read_each(store, thread_id),
    }
    if not isinstance(store, MemoryStore):
        # There, most of it is what is stored then.
        calls["a request that changes a key"] = lambda: change_one(store, thread_id, key % 17)
    peaks = {name: peak_of(call) / len(document) for name, call in calls.items()}
    assert not {name: peak for name, peak in peaks.items() if peak > MOST}, peaks
