"""What each process has one of, across real forks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.forking import in_child, needs_fork
from support.minimal import MinimalStore

from flask_agentuity.document.operations import Push, SetMetadata
from flask_agentuity.per_process import PerProcess
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.writing import Write

ID = "thrd_0123456789abcdef0123456789abcdef"
PATIENCE = 60.0


@contextmanager
def held(lock: threading.Lock) -> Iterator[None]:
    """Have another thread hold *lock* during the block."""
    taken, finished = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            finished.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(PATIENCE)
    try:
        yield
    finally:
        finished.set()
        thread.join(PATIENCE)


def test_all_threads_get_the_one_value() -> None:
    started, calls = threading.Barrier(8), []
    entered = threading.Event()

    def make() -> object:
        calls.append(1)
        entered.wait(0.05)
        return object()

    value = PerProcess(make)
    assert value.made() is None
    found: list[object] = []

    def get() -> None:
        started.wait(PATIENCE)
        found.append(value.get())

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(calls) == 1
    assert len({id(one) for one in found}) == 1
    assert len(found) == 8
    assert value.made() is value.get() is found[0]


def test_a_failure_is_not_kept() -> None:
    results: list[object] = [ValueError("not yet"), "made"]

    def make() -> object:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    value = PerProcess(make)
    with pytest.raises(ValueError, match="not yet"):
        value.get()
    assert value.get() == "made"


@needs_fork
def test_a_child_makes_its_own_and_leaves_the_inherited_alone() -> None:
    freed: list[int] = []

    class Resource:
        def __del__(self) -> None:
            freed.append(1)

    value = PerProcess(Resource)
    inherited = id(value.get())

    def work() -> bool:
        first = value.get()
        return id(first) != inherited and first is value.get() and not freed

    assert in_child(work) == 0
    assert in_child(lambda: in_child(work) == 0) == 0
    assert id(value.get()) == inherited


@needs_fork
def test_a_lock_held_by_another_thread_is_free_in_the_child() -> None:
    lock = PerProcess(threading.Lock)

    def take() -> bool:
        with lock.get():
            return True

    with held(lock.get()):
        assert in_child(take) == 0
        assert lock.get().locked()


@needs_fork
def test_a_fork_while_another_thread_makes_the_value() -> None:
    parent = os.getpid()
    entered, go_on = threading.Event(), threading.Event()

    def make() -> int:
        if os.getpid() == parent:
            entered.set()
            assert go_on.wait(PATIENCE)
        return os.getpid()

    value = PerProcess(make)
    thread = threading.Thread(target=value.get)
    thread.start()
    assert entered.wait(PATIENCE)
    assert in_child(lambda: value.get() == os.getpid()) == 0
    go_on.set()
    thread.join(PATIENCE)
    assert value.get() == parent


@needs_fork
def test_the_thread_that_forks_may_hold_the_lock() -> None:
    lock = PerProcess(threading.Lock)
    codes: list[int] = []

    def work() -> bool:
        with lock.get():
            return True

    with lock.get():
        codes.append(in_child(work))
        assert lock.get().locked()
    assert not lock.get().locked()
    assert codes == [0]


@needs_fork
@pytest.mark.parametrize("kind", ["memory", "third party"])
def test_a_store_works_in_a_child_while_a_thread_of_the_parent_uses_it(
    kind: str, tmp_path: Path
) -> None:
    store: ThreadStore = MemoryStore() if kind == "memory" else MinimalStore(tmp_path)
    entered, go_on = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def push(value: bytes) -> bool:
        store.write(ID, Write([Push("messages", value)]))
        assert store.take_turn(ID, "child", 60)
        return b"messages" in (store.restore(ID) or b"")

    def push_slowly() -> None:
        try:
            store.write(ID, Write([Push("messages", b"1"), SetMetadata(b'{"slow":1}')]))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=push_slowly)
    hold(store, thread, entered, go_on)
    thread.start()
    assert entered.wait(PATIENCE)
    assert in_child(lambda: push(b"2")) == 0
    go_on.set()
    thread.join(PATIENCE)
    assert not failed
    # The memory of a child is its own; files are shared.
    messages = b"[1]" if kind == "memory" else b"[2,1]"
    assert store.restore(ID) == b'{"state":{"messages":%b},"metadata":{"slow":1}}' % messages


def hold(
    store: ThreadStore, thread: threading.Thread, entered: threading.Event, go_on: threading.Event
) -> None:
    """Stop *thread* in the middle of a merge, where it holds the store's lock."""
    name = "_find" if isinstance(store, MemoryStore) else "restore"
    original = getattr(store, name)

    def slow(thread_id: str) -> object:
        if threading.current_thread() is thread:
            entered.set()
            go_on.wait(PATIENCE)
        return original(thread_id)

    setattr(store, name, slow)
