"""How much memory it takes to read a document: a small multiple of its size, in every store.

Each reading is measured in a new process, which has read nothing before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.redis_server import RedisServer

from flask_agentuity.document.key_count import MAX_KEYS
from flask_agentuity.document.operations import Set
from flask_agentuity.service.thread_service import ThreadService
from flask_agentuity.stores import open_store
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .conformance import new_id

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peaks of memory are measured in Linux only"
)

KEY = "key-of-this-test"
#: How many times its size a document may take.
MOST = 8
#: The same for a whole process, which also touches memory for the first time.
MOST_IN_PROCESS = 10

#: Documents whose parts are many or large in different ways.
DOCUMENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "many keys and large metadata": (
        {f"key {number}": number for number in range(3_000)},
        {f"key {number}": "x" * 480 for number in range(1_000)},
    ),
    "many keys": ({f"key {number}": "x" * 80 for number in range(10_000)}, {}),
    "many messages": (
        {"messages": [{"role": "user", "content": "x" * 200} for _ in range(4_000)]},
        {},
    ),
    "many numbers": ({"numbers": list(range(100_000))}, {}),
    "large metadata": ({}, {f"key {number}": "x" * 900 for number in range(1_000)}),
    "one long text": ({"text": "x" * 1_000_000}, {}),
}

READ = """
import os, sys
from flask_agentuity.stores import open_store

url, way, thread_id, key = sys.argv[1:]
store = open_store(url, key=key)

def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

# What the first read of all loads and opens does not count.
store.restore("thrd_" + "0" * 32)
store.read("thrd_" + "0" * 32)
open("/proc/self/clear_refs", "w").write("5")
before = peak()
found = getattr(store, way)(thread_id)
assert found is not None
print(peak() - before)
sys.stdout.flush()
os._exit(0)
"""


def peak_of_reading(url: str, way: str, thread_id: str) -> int:
    """Return how many bytes more a process needs while it reads a thread.

    That is the lowest of three measurements: threads of a process sometimes touch memory for other
    reasons at the same moment.
    """
    return min(_peak_of_reading(url, way, thread_id) for _ in range(3))


def _peak_of_reading(url: str, way: str, thread_id: str) -> int:
    result = subprocess.run(
        [sys.executable, "-c", READ, url, way, thread_id, KEY],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return int(result.stdout)


@contextmanager
def url_of(kind: str, folder: Path, redis_server: RedisServer) -> Iterator[tuple[str, str]]:
    """Yield the URLs of a store to write to and of one to read from."""
    file = f"sqlite:///{folder}/threads.db"
    if kind == "service":
        with (
            closing(SQLiteStore(folder / "threads.db")) as served,
            ThreadService(served, [KEY], port=0) as service,
        ):
            yield service.url, service.url
    else:
        url = file if kind == "sqlite" else redis_server.url
        yield url, url


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("sqlite", "redis") for name in DOCUMENTS]
    + [("service", "many keys and large metadata"), ("service", "many messages")],
)
def test_a_document_is_read_in_a_multiple_of_its_size(
    tmp_path: Path, redis_server: RedisServer, kind: str, name: str
) -> None:
    state, metadata = DOCUMENTS[name]
    thread_id = new_id()
    with url_of(kind, tmp_path, redis_server) as (written, read):
        with closing(open_store(written, key=KEY)) as store:
            operations = [Set(key, json.dumps(value).encode()) for key, value in state.items()]
            store.merge(thread_id, operations, metadata)
            document = store.restore(thread_id)
        assert document is not None
        # It reads the values first.
        peak = peak_of_reading(read, "restore", thread_id)
        assert peak <= MOST * len(document), peak / len(document)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_the_most_keys_are_read_in_a_multiple_of_their_document(
    tmp_path: Path, redis_server: RedisServer, kind: str
) -> None:
    """However short they are."""
    thread_id = new_id()
    with (
        url_of(kind, tmp_path, redis_server) as (url, _),
        closing(open_store(url)) as store,
    ):
        store.merge(thread_id, [Set(str(number), b"1") for number in range(MAX_KEYS)])
        document = store.restore(thread_id)
        tracemalloc.start()
        try:
            snapshot = store.read(thread_id)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert document is not None
    assert snapshot is not None
    assert len(snapshot.encoded) == MAX_KEYS
    assert peak <= MOST * len(document)


def test_the_most_keys_are_read_from_a_service_in_a_multiple_of_their_document(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """The service and its client, with the store that keeps no pages in the service's memory."""
    thread_id = new_id()
    state = {f"k{number:05}": 1 for number in range(MAX_KEYS)}
    with serving(redis_server.url) as (_, url), closing(open_store(url, key=KEY)) as store:
        store.merge(thread_id, [Set(key, b"1") for key in state])
    with serving(redis_server.url) as (pid, url):
        peak, document = peak_of_serving(pid, url, thread_id)
        assert peak <= MOST_IN_PROCESS * len(document), peak / len(document)
        peak = peak_of_reading(url, "read", thread_id)
        assert peak <= MOST * len(document), peak / len(document)


@contextmanager
def serving(store: str) -> Iterator[tuple[int, str]]:
    """Run a service as a process; yield its number and its URL."""
    arguments = ["--port", "0", "--key", KEY, "--store", store]
    with subprocess.Popen(
        [sys.executable, "-m", "flask_agentuity.service", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.pid, json.loads(process.stdout.readline())["listening"]
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["many keys and large metadata", "many keys"])
def test_a_service_reads_a_document_in_a_multiple_of_its_size(tmp_path: Path, name: str) -> None:
    state, metadata = DOCUMENTS[name]
    thread_id = new_id()
    file = f"sqlite:///{tmp_path}/threads.db"
    with serving(file) as (_, url), closing(open_store(url, key=KEY)) as store:
        operations = [Set(key, json.dumps(value).encode()) for key, value in state.items()]
        store.merge(thread_id, operations, metadata)
    with serving(file) as (pid, url):
        peak, document = peak_of_serving(pid, url, thread_id)
        assert peak <= MOST_IN_PROCESS * len(document), peak / len(document)


def peak_of_serving(pid: int, url: str, thread_id: str) -> tuple[int, bytes]:
    """Return how many bytes more a service needs to restore a thread; and the document."""
    with closing(open_store(url, key=KEY)) as store:
        assert store.restore(new_id()) is None
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        before = peak_of(pid)
        document = store.restore(thread_id)
        assert document is not None
        return peak_of(pid) - before, document


def peak_of(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("Linux does not tell the peak")
