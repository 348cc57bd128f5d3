"""What happens on a full disk, as a program: its argument is an empty folder on a small disk.

It prints the name of each scenario that has passed.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, stream_with_context

from flask_agentuity import ThreadManager, thread_save_failed
from flask_agentuity.document.operations import Push
from flask_agentuity.errors import StoreError
from flask_agentuity.stores.sqlite.store import SQLiteStore

DISK = Path(sys.argv[1])
ID = "thrd_0123456789abcdef0123456789abcdef"
TEXT = "x" * 2_000

_filler = DISK / "filler"


def fill() -> None:
    with _filler.open("ab", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass


@contextmanager
def full_disk() -> Iterator[None]:
    fill()
    try:
        yield
    finally:
        _filler.unlink()


def refused(call: Callable[..., object], *arguments: object) -> None:
    """Check that *call* raises an error that says why."""
    try:
        call(*arguments)
    except StoreError as error:
        assert "disk is full" in str(error), error
    else:
        raise AssertionError(f"{call} has worked on a full disk")


def require_whole(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


class Chat:
    """An app that keeps its threads on the disk."""

    def __init__(self, name: str, **config: Any) -> None:
        self.app = app = Flask(name, instance_path=str(DISK / name))
        app.config.update(SECRET_KEY="secret of the tests", **config)
        self.threads = threads = ThreadManager(app)
        self.failures: list[str] = []
        thread_save_failed.connect(self._note, app)
        self.client = app.test_client()
        self.path = DISK / name / "agentuity_threads.db"

        @app.get("/say/<text>")
        def say(text: str) -> str:
            g.thread.state.setdefault("messages", []).append(text)
            return "said"

        @app.get("/read")
        def read() -> str:
            return ",".join(g.thread.state.get("messages", []))

        @app.get("/stream")
        def stream() -> Response:
            g.thread.state.push("messages", "asked")

            def generate() -> Iterator[str]:
                yield "on a "
                fill()
                g.thread.state.push("messages", TEXT)
                yield "full disk"

            return Response(stream_with_context(generate()))

        @app.get("/run")
        def run() -> Response:
            state = g.thread.state
            state.push("messages", "asked")

            def generate() -> Iterator[str]:
                yield "begins"
                fill()
                threading.Timer(0.5, _filler.unlink).start()
                for _ in range(50):
                    yield TEXT
                while _filler.exists():
                    time.sleep(0.01)
                state.push("messages", "answered")

            return threads.stream(generate())

    def _note(self, sender: Flask, error: Exception, **more: Any) -> None:
        self.failures.append(str(error))

    def get(self, path: str) -> tuple[int, str]:
        answer = self.client.get(path)
        return answer.status_code, answer.text


def check_requests() -> None:
    chat = Chat("logging")
    assert chat.get("/say/one") == (200, "said")
    with full_disk():
        # As configured, the answer leaves.
        assert chat.get("/say/two") == (200, "said")
        assert [("disk is full" in each) for each in chat.failures] == [True]
        # What is stored can still be read.
        assert chat.get("/read") == (200, "one")
    assert chat.get("/say/three") == (200, "said")
    assert chat.get("/read") == (200, "one,three")
    assert len(chat.failures) == 1
    require_whole(chat.path)


def check_raising() -> None:
    chat = Chat("raising", AGENTUITY_THREAD_ON_SAVE_ERROR="raise")
    assert chat.get("/say/one") == (200, "said")
    with full_disk():
        assert chat.get("/say/two")[0] == 503
    assert chat.get("/say/three") == (200, "said")
    assert chat.get("/read") == (200, "one,three")


def check_stream() -> None:
    chat = Chat("streaming")
    chat.get("/say/one")
    assert chat.get("/stream") == (200, "on a full disk")
    assert [("disk is full" in each) for each in chat.failures] == [True]
    _filler.unlink()
    # The view was saved before the headers left.
    assert chat.get("/read") == (200, "one,asked")
    require_whole(chat.path)


def check_run() -> None:
    chat = Chat("running")
    chat.get("/say/one")
    assert chat.get("/run") == (200, "begins" + TEXT * 50)
    assert chat.get("/read") == (200, "one,asked,answered")
    assert chat.failures == []
    require_whole(chat.path)


def check_new_file() -> None:
    path = DISK / "new.db"
    with full_disk(), closing(SQLiteStore(path)) as store:
        refused(store.merge, ID, [Push("l", b"1")])
        refused(store.restore, ID)
    with closing(SQLiteStore(path)) as store:
        assert store.restore(ID) is None
        store.merge(ID, [Push("l", b"1")])
    # Another process must create the files of the log.
    with full_disk(), closing(SQLiteStore(path)) as store:
        refused(store.restore, ID)
    with closing(SQLiteStore(path)) as store:
        assert store.restore(ID) == b'{"state":{"l":[1]}}'
    require_whole(path)


def check_upgrade() -> None:
    from .test_upgrade_from_3 import FORMAT_3

    path = DISK / "former.db"
    ids = [f"thrd_{number:032x}" for number in range(1, 151)]
    rows = [(number, thread_id, *[4e9] * 3, 1_009) for number, thread_id in enumerate(ids, 1)]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(FORMAT_3)
        connection.executemany(
            "INSERT INTO threads (number, id, created, updated, used, entries_size, metadata)"
            " VALUES (?, ?, ?, ?, ?, ?, '{}')",
            rows,
        )
        connection.executemany(
            "INSERT INTO state_entries (thread, key, kind, nulls, value) VALUES (?, 'a', 0, 0, ?)",
            [(row[0], b'"%b"' % (b"x" * 1_000)) for row in rows],
        )
        connection.commit()
    before = path.read_bytes()
    for left in (0, 100_000):
        with full_disk(), closing(SQLiteStore(path, ttl=None)) as store:
            os.truncate(_filler, _filler.stat().st_size - left)
            refused(store.restore, ids[0])
        assert path.read_bytes() == before
        require_whole(path)
    with closing(SQLiteStore(path, ttl=None)) as store:
        assert len(list(store.scan())) == 150
        assert len(store.restore(ids[0]) or b"") == 1_000 + len('{"state":{"a":""}}')
    require_whole(path)


def check_backup_and_purge() -> None:
    path, copy = DISK / "kept.db", DISK / "copy.db"
    with closing(SQLiteStore(path)) as store:
        for number in range(60):
            store.merge(f"thrd_{number:032x}", [Push("l", b'"%b"' % TEXT.encode())])
        with full_disk():
            refused(store.backup, copy)
            assert not copy.exists()
            refused(store.purge)
            refused(store.wipe_deleted)
            assert len(list(store.scan())) == 60
        assert store.backup(copy) == 60
        assert store.purge() == 0
        assert store.erase("eve") == 0
    require_whole(path)
    require_whole(copy)


def main() -> None:
    for check in (
        check_requests,
        check_raising,
        check_stream,
        check_run,
        check_new_file,
        check_upgrade,
        check_backup_and_purge,
    ):
        check()
        print(check.__name__, flush=True)


if __name__ == "__main__":
    main()
