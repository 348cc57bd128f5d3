"""The SQLite store across forks, and after its processes were killed."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.forking import in_child, needs_fork

from flask_agentuity.document.operations import Push, Set
from flask_agentuity.stores.sqlite.store import SQLiteStore

ID = "thrd_0123456789abcdef0123456789abcdef"

pytestmark = needs_fork


def open_files(path: Path) -> list[str]:
    """Return this process's descriptors of the database and its log."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith(str(path)):
            found.append(target)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(tmp_path / "threads.db", timeout=30)) as store:
        store.merge(ID, [Set("a", b"1"), Push("messages", b"0")])
        yield store


def test_no_connection_crosses_a_fork(store: SQLiteStore) -> None:
    if Path("/proc/self/fd").exists():
        assert open_files(store.path)
        assert in_child(lambda: not open_files(store.path)) == 0

    def work() -> bool:
        opened: list[object] = []

        def note(event: str, arguments: object) -> None:
            if event == "sqlite3.connect":
                opened.append(event)

        sys.addaudithook(note)
        store.merge(ID, [Push("messages", b"1")])
        assert store.read(ID) is not None
        store.close()
        return len(opened) == 1

    assert in_child(work) == 0
    store.merge(ID, [Push("messages", b"2")])
    assert store.restore(ID) == b'{"state":{"a":1,"messages":[0,1,2]}}'


def test_parent_and_children_write_side_by_side(store: SQLiteStore) -> None:
    def push(writer: int) -> bool:
        for number in range(30):
            store.merge(ID, [Push("messages", b'"%d-%d"' % (writer, number))])
        return True

    codes: list[int] = []

    def push_in_child(writer: int) -> None:
        codes.append(in_child(lambda: push(writer)))

    children = [
        threading.Thread(target=push_in_child, args=(writer,), daemon=True) for writer in range(3)
    ]
    for child in children:
        child.start()
    push(9)
    for child in children:
        child.join(60)
    assert codes == [0, 0, 0]
    document = json.loads(store.restore(ID) or b"")
    assert sorted(document["state"]["messages"][1:]) == sorted(
        f"{writer}-{number}" for writer in (0, 1, 2, 9) for number in range(30)
    )


def test_a_fork_waits_for_another_thread_that_writes(store: SQLiteStore) -> None:
    """What that thread has locked in SQLite would stay locked in the child forever."""
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with store._connections.read() as connection:
            connection.execute("BEGIN IMMEDIATE")
            entered.set()
            assert go_on.wait(60)
            connection.execute("COMMIT")
            written.append(1)

    written: list[int] = []
    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(60)
    threading.Timer(0.1, go_on.set).start()
    assert in_child(lambda: written == [1] and store.restore(ID) is not None) == 0
    holder.join(60)
    store.merge(ID, [Push("messages", b"1")])
    assert store.restore(ID) == b'{"state":{"a":1,"messages":[0,1]}}'


def test_a_fork_in_the_middle_of_a_transaction_of_the_same_thread(store: SQLiteStore) -> None:
    """The child inherits the statement that is under way, and must not end it."""
    child = 0
    with store._connections.read() as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE threads SET metadata = CAST('{\"m\":1}' AS BLOB)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            connection.execute("COMMIT")
    if child == 0:
        code = 1
        try:
            connection = None  # type: ignore[assignment]
            gc.collect()
            # Closing would have let go of the descriptors.
            open_still = len(open_files(store.path)) if Path("/proc/self/fd").exists() else 1
            code = 0 if open_still and store.restore(ID) is not None else 2
        finally:
            os._exit(code)
    assert code == 0
    assert store.restore(ID) == b'{"state":{"a":1,"messages":[0]},"metadata":{"m":1}}'


def test_a_fork_while_others_wait_to_write(store: SQLiteStore) -> None:
    """Their turn to write stays in the parent; the child has another one."""
    with store._connections.transaction():
        waiting = threading.Thread(target=lambda: store.merge(ID, [Push("messages", b"1")]))
        waiting.start()
        assert in_child(lambda: not store._connections.writing.locked()) == 0
    waiting.join(60)
    assert store.restore(ID) == b'{"state":{"a":1,"messages":[0,1]}}'


def test_two_threads_fork_at_once(store: SQLiteStore) -> None:
    codes: list[int] = []

    def fork_often() -> None:
        for _ in range(20):
            codes.append(in_child(lambda: store.restore(ID) is not None))

    threads = [threading.Thread(target=fork_often, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert codes == [0] * 60
    store.merge(ID, [Push("messages", b"1")])


# ------------------------------------------------------------------------ killed processes

WRITER = """
import sys
from flask_agentuity.document.operations import Push, Set
from flask_agentuity.stores.sqlite.store import SQLiteStore

path, writer = sys.argv[1:]
store = SQLiteStore(path, timeout=60, max_bytes=1 << 40)
own = f"thrd_{int(writer):032x}"
shared = "thrd_" + "f" * 32
number = 0
while True:
    number += 1
    text = b'"%b"' % (b"x" * (number * 97 % 3000))
    item = b'{"n":%d,"text":%b}' % (number, text)
    store.merge(own, [
        Set("count", b"%d" % number),
        Push("messages", item),
        Push("numbers", b"%d" % number, 50),
        Set("double", b"[%d,%d]" % (number, number)),
    ], {"count": number})
    store.merge(shared, [Push("all", b'"%b-%d"' % (writer.encode(), number))])
    # What is said here was acknowledged.
    print(number, flush=True)
"""


def test_killed_writers_leave_every_acknowledged_operation_and_none_by_half(
    tmp_path: Path,
) -> None:
    path = tmp_path / "threads.db"
    chance = random.Random(20261124)
    said = {writer: tmp_path / f"{writer}.said" for writer in range(8)}
    writers = {}
    for writer, file in said.items():
        with file.open("wb") as output:
            writers[writer] = subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), str(writer)], stdout=output
            )

    def acknowledged(writer: int) -> int:
        # The last line may be cut: then no client was told.
        lines = said[writer].read_text().split("\n")[:-1]
        return int(lines[-1]) if lines else 0

    try:
        # Wait for progress, not for time; then kill at some moment within it.
        deadline = time.monotonic() + 120
        while min(map(acknowledged, writers)) < 15:
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in writers.values())
            time.sleep(0.01)
        order = list(writers)
        chance.shuffle(order)
        for writer in order:
            time.sleep(chance.uniform(0, 0.03))
            writers[writer].send_signal(signal.SIGKILL)
    finally:
        for process in writers.values():
            process.kill()
            assert process.wait(60) == -signal.SIGKILL

    with closing(SQLiteStore(path, timeout=60)) as store:
        shared = json.loads(store.restore("thrd_" + "f" * 32) or b"{}")["state"]["all"]
        assert len(set(shared)) == len(shared)
        for writer in writers:
            count = acknowledged(writer)
            document = json.loads(store.restore(f"thrd_{writer:032x}") or b"{}")
            state = document["state"]
            done = state["count"]
            # One more may be stored than was said, never less, and all of it or nothing.
            assert count <= done <= count + 1
            assert document["metadata"] == {"count": done}
            assert state["double"] == [done, done]
            assert [item["n"] for item in state["messages"]] == list(range(1, done + 1))
            assert [len(item["text"]) for item in state["messages"]] == [
                number * 97 % 3000 for number in range(1, done + 1)
            ]
            assert state["numbers"] == list(range(1, done + 1))[-50:]
            own = [int(entry.split("-")[1]) for entry in shared if entry.startswith(f"{writer}-")]
            assert own in (list(range(1, done + 1)), list(range(1, done)))
            assert len(own) >= count
        store.merge(ID, [Set("a", b"1")])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for thread_size, thread in connection.execute("SELECT entries_size, number FROM threads"):
            entries = connection.execute(
                "SELECT coalesce(sum(length(CAST(key AS BLOB))), 0) FROM thread_entries"
                " WHERE thread = ?",
                (thread,),
            ).fetchone()
            assert thread_size > entries[0]
