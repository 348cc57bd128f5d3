"""``manager.open()`` of a thread that was deleted, or whose id was replaced, before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g

from flask_agentuity import Thread, ThreadGone, ThreadManager
from flask_agentuity.stores import open_store
from flask_agentuity.testing import ThreadTestClient
from flask_agentuity.web.app_threads import threads_of

ID = "thrd_0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("redis")
    from support.redis_server import running

    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(params=["memory", "sqlite", "redis"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Flask]:
    url = "memory://" if request.param == "memory" else "sqlite:///threads.db"
    if request.param == "redis":
        url = f"{request.getfixturevalue('redis_url')}?prefix={tmp_path.name}"
    store = open_store(url, folder=str(tmp_path))
    app = Flask("tested")
    app.config.update(SECRET_KEY="tested", TESTING=True)
    app.test_client_class = ThreadTestClient
    ThreadManager(app, store=store)
    yield app
    store.close()


@pytest.fixture
def threads(app: Flask) -> ThreadManager:
    manager = app.extensions["agentuity"]
    assert isinstance(manager, ThreadManager)
    return manager


def stored(app: Flask, thread_id: str = ID) -> bytes | None:
    return threads_of(app).store.restore(thread_id)


def push(thread: Thread) -> None:
    thread.state.push("messages", "late")


def edit(thread: Thread) -> None:
    thread.state.setdefault("messages", []).append("late")


def describe(thread: Thread) -> None:
    thread.metadata["title"] = "late"


def push_again(thread: Thread) -> None:
    thread.refresh()
    push(thread)


USES: list[Callable[[Thread], None]] = [push, edit, describe, push_again]


def begin(threads: ThreadManager, **options: Any) -> None:
    with threads.open(ID, create=True, **options) as thread:
        thread.state["messages"] = ["hello"]


def delete(threads: ThreadManager) -> None:
    with threads.open(ID) as thread:
        thread.destroy()


@pytest.mark.parametrize("use", USES)
def test_a_job_does_not_begin_a_deleted_thread_again(
    app: Flask, threads: ThreadManager, use: Callable[[Thread], None]
) -> None:
    begin(threads)
    delete(threads)
    with pytest.raises(ThreadGone, match="another id at a login"), threads.open(ID) as thread:
        use(thread)
    assert stored(app) is None
    with (
        pytest.raises(LookupError, match="another id at a login"),
        threads.open(ID, create=False),
    ):
        raise AssertionError("not reached")
    with threads.open(ID, create=True) as thread:
        use(thread)
    assert b"late" in (stored(app) or b"")


@pytest.mark.parametrize("use", USES)
def test_a_job_writes_to_what_was_begun_again(
    app: Flask, threads: ThreadManager, use: Callable[[Thread], None]
) -> None:
    begin(threads)
    delete(threads)
    begin(threads, owner="ada")
    with threads.open(ID) as thread:
        use(thread)
    assert b"hello" in (stored(app) or b"")
    assert b"late" in (stored(app) or b"")
    delete(threads)
    begin(threads, owner="ada")
    with pytest.raises(ThreadGone), threads.open(ID, owner="bob") as thread:
        use(thread)
    assert b"late" not in (stored(app) or b"")


@pytest.mark.parametrize("create", [None, False])
def test_a_long_job_does_not_bring_it_back_after_reading_again(
    app: Flask, threads: ThreadManager, create: bool | None
) -> None:
    begin(threads)
    with pytest.raises(ThreadGone), threads.open(ID, create=create) as thread:
        thread.state["progress"] = 1
        thread.save()
        thread.refresh()
        delete(threads)
        thread.refresh()
        thread.state["progress"] = 2
    assert stored(app) is None


def test_a_thread_that_was_begun_again_and_deleted_in_the_block_stays_deleted(
    app: Flask, threads: ThreadManager
) -> None:
    begin(threads)
    delete(threads)
    begin(threads)
    with pytest.raises(ThreadGone), threads.open(ID) as thread:
        thread.state.push("messages", "late")
        delete(threads)
    assert stored(app) is None


def test_a_job_with_the_id_from_before_a_login(app: Flask, threads: ThreadManager) -> None:
    @app.get("/say")
    def say() -> str:
        g.thread.state.push("messages", "hello")
        return str(g.thread.id)

    @app.get("/rotate")
    def rotate() -> str:
        return threads.rotate().id

    client = app.test_client()
    former = client.get("/say").text
    assert client.get("/rotate").text != former
    with pytest.raises(ThreadGone, match=former), threads.open(former) as thread:
        push(thread)
    assert stored(app, former) is None
