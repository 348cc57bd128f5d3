"""``manager.open()`` and ``manager.list()``: threads outside a request."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blinker import NamedSignal
from flask import Flask, current_app, g
from support.recording import RecordingStore

from flask_agentuity import Thread, ThreadManager
from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import (
    ConfigurationError,
    InvalidThreadId,
    StateNotSerializable,
    StateTooLarge,
    StoreError,
)
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.web import events as signals
from flask_agentuity.web.app_threads import threads_of
from flask_agentuity.web.thread_ids import is_thread_id

ID = "thrd_0123456789abcdef0123456789abcdef"
OTHER = "thrd_fedcba9876543210fedcba9876543210"

MakeApp = Callable[..., Flask]


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


@pytest.fixture
def make_app(tmp_path: Path) -> MakeApp:
    def make(name: str = "tested", **config: Any) -> Flask:
        app = Flask(name, instance_path=str(tmp_path / name))
        app.config.update(SECRET_KEY=name, **config)
        return app

    return make


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


@pytest.fixture
def threads(app: Flask, store: RecordingStore) -> ThreadManager:
    return ThreadManager(app, store=store)


class Told:
    """What the signals tell, with their senders."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Flask, str, str | None]] = []
        self._connected: list[tuple[NamedSignal, Callable[..., None]]] = []
        for signal in (
            signals.thread_created,
            signals.thread_restored,
            signals.thread_saved,
            signals.thread_destroyed,
            signals.thread_restore_failed,
            signals.thread_save_failed,
            signals.session_started,
            signals.session_completed,
        ):
            receiver = self._receiver(signal.name)
            self._connected.append((signal, receiver))
            signal.connect(receiver)

    def _receiver(self, name: str) -> Callable[..., None]:
        def receive(sender: Flask, thread: Thread, session: Any, error: Any) -> None:
            # A receiver is used to a context, and there is one also outside a request.
            assert current_app._get_current_object() is sender  # type: ignore[attr-defined]
            assert session is None
            self.events.append((name, sender, thread.id, error and type(error).__name__))

        return receive

    def stop(self) -> None:
        for signal, receiver in self._connected:
            signal.disconnect(receiver)

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.events]


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    yield told
    told.stop()


def test_it_is_saved_at_the_end(threads: ThreadManager, store: RecordingStore) -> None:
    with threads.open(ID) as thread:
        assert thread.id == ID
        thread.state["a"] = 1
        thread.metadata = {"owner": "ada"}
        assert store.merges == []
    assert store.calls == (0, 1)
    assert store.restore(ID) == b'{"state":{"a":1},"metadata":{"owner":"ada"}}'
    with threads.open(ID) as thread:
        thread.state.push("l", 1)
        assert thread.state["a"] == 1
        thread.state["a"] = 1
    assert store.restore(ID) == b'{"state":{"a":1,"l":[1]},"metadata":{"owner":"ada"}}'


def test_nothing_is_asked_for_a_thread_that_is_not_used(
    threads: ThreadManager, store: RecordingStore, told: Told
) -> None:
    with threads.open(ID):
        pass
    with threads.open(create=True):
        pass
    assert store.calls == (0, 0)
    assert told.names == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_nothing_is_saved_when_the_block_raises(
    threads: ThreadManager, store: RecordingStore, error: type[BaseException], told: Told
) -> None:
    store.merge(ID, [Set("a", b"1")])
    with pytest.raises(error), threads.open(ID) as thread:
        thread.state["a"] = 2
        thread.state.push("l", 1)
        raise error
    assert store.restore(ID) == b'{"state":{"a":1}}'
    assert told.names == []


def test_an_explicit_save_stays(threads: ThreadManager, store: RecordingStore) -> None:
    with pytest.raises(RuntimeError), threads.open(ID) as thread:
        thread.state["a"] = 1
        thread.save()
        thread.state["a"] = 2
        raise RuntimeError
    assert store.restore(ID) == b'{"state":{"a":1}}'


def test_leaving_in_the_middle_saves(threads: ThreadManager, store: RecordingStore) -> None:
    def answer() -> str:
        with threads.open(ID) as thread:
            thread.state["a"] = 1
            return "left"

    assert answer() == "left"
    assert store.restore(ID) == b'{"state":{"a":1}}'


def test_destroying(threads: ThreadManager, store: RecordingStore, told: Told) -> None:
    store.merge(ID, [Set("a", b"1")])
    with threads.open(ID) as thread:
        thread.state["b"] = 1
        thread.destroy()
    assert store.restore(ID) is None
    assert told.names == ["thread.destroyed"]


def test_create_makes_a_thread(
    app: Flask, threads: ThreadManager, store: RecordingStore, told: Told
) -> None:
    with threads.open(create=True) as thread:
        thread.state["a"] = 1
        assert thread.is_new
    assert is_thread_id(thread.id)
    assert store.calls == (0, 1)
    assert store.restore(thread.id) == b'{"state":{"a":1}}'
    assert told.events == [
        ("thread.created", app, thread.id, None),
        ("thread.saved", app, thread.id, None),
    ]
    with threads.open(create=True) as second:
        assert second.id != thread.id


@pytest.mark.parametrize("create", [None, False])
def test_without_create_an_id_is_needed(threads: ThreadManager, create: bool | None) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"open\(create=True\)"),
        threads.open(create=create),
    ):
        pass


@pytest.mark.parametrize("create", [None, True])
def test_an_id_is_taken_stored_or_not(
    threads: ThreadManager, store: RecordingStore, create: bool | None
) -> None:
    for number in range(2):
        with threads.open(ID, create=create) as thread:
            assert not thread.is_new
            thread.state.push("l", number)
    assert store.reads == []
    assert store.restore(ID) == b'{"state":{"l":[0,1]}}'


def test_create_false_takes_only_what_is_stored(
    threads: ThreadManager, store: RecordingStore
) -> None:
    expected = pytest.raises(LookupError, match=f"Thread {ID} is not stored")
    with expected, threads.open(ID, create=False):
        raise AssertionError("not reached")
    assert store.restore(ID) is None
    store.merge(ID, [Set("a", b"1")])
    with threads.open(ID, create=False) as thread:
        thread.state["a"] += 1
    store.merge(OTHER, [], {"only": "metadata"})
    with threads.open(OTHER, create=False) as thread:
        thread.state["a"] = 1
    assert store.restore(ID) == b'{"state":{"a":2}}'
    assert store.restore(OTHER) == b'{"state":{"a":1},"metadata":{"only":"metadata"}}'


@pytest.mark.parametrize("wrong", ["", "thrd_short", "sess_" + "0" * 32, ID + "\n", 5, b"thrd_"])
def test_a_wrong_id_is_refused(threads: ThreadManager, store: RecordingStore, wrong: Any) -> None:
    with pytest.raises(InvalidThreadId), threads.open(wrong):
        raise AssertionError("not reached")
    assert store.calls == (0, 0)


# Errors


@pytest.mark.parametrize("on_restore", ["empty", "raise"])
@pytest.mark.parametrize("on_save", ["log", "raise"])
def test_errors_raise_whatever_the_policies_say(
    make_app: MakeApp, store: RecordingStore, on_restore: str, on_save: str, told: Told
) -> None:
    app = make_app(
        AGENTUITY_THREAD_ON_RESTORE_ERROR=on_restore, AGENTUITY_THREAD_ON_SAVE_ERROR=on_save
    )
    threads = ThreadManager(app, store=store)
    store.merge(ID, [Set("a", b"1")])
    store.read_errors = [StoreError("down"), StoreError("down")]
    with pytest.raises(StoreError, match="down"), threads.open(ID) as thread:
        thread.state["a"] += 1
    with pytest.raises(StoreError, match="down"), threads.open(ID, create=False):
        raise AssertionError("not reached")
    assert told.events == [("thread.restore_failed", app, ID, "StoreError")] * 2
    told.events.clear()
    store.merge_errors = [StoreError("full")]
    with pytest.raises(StoreError, match="full"), threads.open(ID) as thread:
        thread.state.push("l", 1)
    assert told.events == [("thread.save_failed", app, ID, "StoreError")]
    assert store.restore(ID) == b'{"state":{"a":1}}'
    with threads.open(ID) as thread:
        thread.state["a"] += 1
    assert store.restore(ID) == b'{"state":{"a":2}}'


def test_what_cannot_be_read_is_not_replaced_by_who_goes_on(
    threads: ThreadManager, store: RecordingStore
) -> None:
    store.merge(ID, [Set("l", b"[1,2]")])
    store.read_errors = [StoreError("down")]
    with pytest.raises(StoreError), threads.open(ID) as thread:
        try:
            messages = list(thread.state["l"])
        except StoreError:
            messages = []
        messages.append(3)
        # Read at last; had it failed again, this had raised.
        assert thread.state["l"] == [1, 2]
        raise StoreError("given up")
    assert store.restore(ID) == b'{"state":{"l":[1,2]}}'


def test_a_state_that_grows_too_large(make_app: MakeApp) -> None:
    store, app = MemoryStore(max_bytes=1_000), make_app()
    threads = ThreadManager(app, store=store)
    with pytest.raises(StateTooLarge), threads.open(ID) as thread:
        thread.state["a"] = "x" * 1_000
    assert store.restore(ID) is None


def test_a_value_that_is_spoilt_afterwards(threads: ThreadManager, store: RecordingStore) -> None:
    with pytest.raises(StateNotSerializable, match="state"), threads.open(ID) as thread:
        thread.state["a"] = value = [1]
        value.append(object())  # type: ignore[arg-type]
    assert store.restore(ID) is None


# Signals and apps


def test_signals_have_the_right_app(
    app: Flask, threads: ThreadManager, store: RecordingStore, told: Told
) -> None:
    store.merge(ID, [Set("a", b"1")])
    for context in (False, True):
        if context:
            with app.app_context(), threads.open(ID) as thread:
                thread.state["a"] += 1
        else:
            with threads.open(ID) as thread:
                thread.state["a"] += 1
        assert told.events == [
            ("thread.restored", app, ID, None),
            ("thread.saved", app, ID, None),
        ]
        told.events.clear()
    assert not current_app


def test_a_manager_of_several_apps_has_to_be_told_which(make_app: MakeApp, told: Told) -> None:
    threads = ThreadManager()
    with pytest.raises(ConfigurationError, match="serves no app"), threads.open(ID):
        pass
    apps = [make_app(f"app{number}", AGENTUITY_THREAD_STORE="memory://") for number in range(2)]
    for app in apps:
        threads.init_app(app)
    with pytest.raises(ConfigurationError, match=r"serves 2 apps.*app_context"), threads.open(ID):
        pass
    with pytest.raises(ConfigurationError, match="serves 2 apps"):
        threads.list()
    for number, app in enumerate(apps):
        with app.app_context(), threads.open(ID) as thread:
            thread.state["number"] = number
    for number, app in enumerate(apps):
        assert threads_of(app).store.restore(ID) == b'{"state":{"number":%d}}' % number
        with app.app_context():
            assert [thread.id for thread in threads.list().threads] == [ID]
    assert [sender for _, sender, *_ in told.events] == apps


def test_an_app_of_another_manager(make_app: MakeApp, threads: ThreadManager) -> None:
    other = make_app("other")
    expected = pytest.raises(ConfigurationError, match="'other'")
    with other.app_context(), expected, threads.open(ID):
        pass


def test_the_context_may_change_inside_the_block(
    make_app: MakeApp, store: RecordingStore, told: Told
) -> None:
    """A thread keeps the app and the store that it was opened with."""
    threads = ThreadManager()
    apps = [make_app(f"app{number}", AGENTUITY_THREAD_STORE="memory://") for number in range(2)]
    for app in apps:
        threads.init_app(app)
    with apps[0].app_context(), threads.open(ID) as thread, apps[1].app_context():
        thread.state["a"] = 1
        thread.save()
        thread.state["a"] = 2
    assert [(name, sender) for name, sender, *_ in told.events] == [("thread.saved", apps[0])] * 2
    assert threads_of(apps[0]).store.restore(ID) == b'{"state":{"a":2}}'
    assert threads_of(apps[1]).store.restore(ID) is None


def test_an_app_that_is_gone_is_not_kept(make_app: MakeApp) -> None:
    threads = ThreadManager()
    app = make_app("gone", AGENTUITY_THREAD_STORE="memory://")
    kept = make_app("kept", AGENTUITY_THREAD_STORE="memory://")
    threads.init_app(app)
    threads.init_app(kept)
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None
    with threads.open(ID) as thread:
        thread.state["a"] = 1
    assert threads_of(kept).store.restore(ID) == b'{"state":{"a":1}}'


def test_a_listener_and_a_receiver_that_raise_stop_nothing(
    app: Flask, threads: ThreadManager, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any, **more: Any) -> None:
        raise RuntimeError("in a receiver")

    with signals.thread_saved.connected_to(fail, app), threads.open(ID) as thread:
        thread.state["a"] = 1
    assert store.restore(ID) == b'{"state":{"a":1}}'
    assert "in a receiver" in caplog.text


# Where it is used


def test_in_a_pool_of_threads(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    threads = ThreadManager(app, store=SQLiteStore(tmp_path / "threads.db", timeout=30.0))
    start = threading.Barrier(6)

    def work(name: int) -> None:
        start.wait(30)
        for number in range(20):
            with threads.open(ID) as thread:
                thread.state.setdefault("messages", []).append([name, number])
                thread.state[f"last {name}"] = number

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    with threads.open(ID) as thread:
        messages = thread.state["messages"]
        assert len(messages) == 120
        for name in range(6):
            assert [number for who, number in messages if who == name] == list(range(20))
            assert thread.state[f"last {name}"] == 19
    threads_of(app).store.close()


def test_in_a_coroutine(threads: ThreadManager, store: RecordingStore) -> None:
    async def work(name: int) -> None:
        with threads.open(ID) as thread:
            thread.state.push("l", name)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(work(name) for name in range(5)))

    asyncio.run(main())
    with threads.open(ID) as thread:
        assert sorted(thread.state["l"]) == list(range(5))


def test_beside_a_request(app: Flask, threads: ThreadManager, store: RecordingStore) -> None:
    """A view may open another thread; its own is another object, also of the same id."""

    @app.get("/")
    def view() -> str:
        g.thread.state.push("l", "in the view")
        with threads.open(ID) as thread:
            thread.state.push("l", "beside it")
        with threads.open(g.thread.id) as same:
            same.state.push("l", "by its id")
        return str(g.thread.id)

    own = app.test_client().get("/").text
    assert store.restore(ID) == b'{"state":{"l":["beside it"]}}'
    assert store.restore(own) == b'{"state":{"l":["by its id","in the view"]}}'


def test_two_who_work_on_one_thread_lose_nothing(
    threads: ThreadManager, store: RecordingStore
) -> None:
    store.merge(ID, [Set("l", b"[0]"), Set("a", b"0")])
    with threads.open(ID) as first, threads.open(ID) as second:
        first.state["l"].append(1)
        second.state["l"].append(2)
        first.state["a"] = 1
        second.state["b"] = 2
    assert store.restore(ID) == b'{"state":{"l":[0,2,1],"a":1,"b":2}}'


# Listing


def test_list_finds_ones_own_conversations(
    app: Flask, threads: ThreadManager, store: RecordingStore
) -> None:
    @app.post("/<owner>")
    def begin(owner: str) -> str:
        g.thread.metadata.update(owner=owner, title=f"of {owner}")
        g.thread.state.push("messages", "hello")
        return str(g.thread.id)

    @app.get("/<owner>")
    def mine(owner: str) -> Any:
        page = threads.list({"owner": owner}, limit=2)
        more = threads.list({"owner": owner}, limit=2, cursor=page.cursor) if page.cursor else None
        found = page.threads + (more.threads if more else [])
        assert all(thread.metadata["title"] == f"of {owner}" for thread in found)
        return sorted(thread.id for thread in found)

    ids: dict[str, list[str]] = {"ada": [], "bob": []}
    for number in range(6):
        owner = "ada" if number % 2 else "bob"
        ids[owner].append(app.test_client().post(owner).text)
    for owner, own in ids.items():
        assert app.test_client().get(owner).json == sorted(own)
    assert app.test_client().get("/unknown").json == []


def test_list_says_what_is_wrong(threads: ThreadManager, store: RecordingStore) -> None:
    store.merge(ID, [Push("l", b"1")], {"owner": "ada"})
    with pytest.raises(ValueError, match="not by a list"):
        threads.list({"owner": ["ada"]})
    with pytest.raises(ValueError, match="is not the cursor"):
        threads.list(cursor="nonsense")
