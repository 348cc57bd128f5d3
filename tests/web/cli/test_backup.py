"""``flask threads backup``, and how a backup is restored."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import StoreError
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .running import ID, contents, new_id, run, runner_of, stored_at


def test_a_backup_has_everything(place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copies.db"
    with closing(stored_at(place)) as store:
        store.merge(ID, [Push("messages", b'"hello"')] * 500, {"owner": "ada"})
        for _ in range(20):
            store.merge(new_id(), [Set("a", b"1")])
        runner = runner_of(store)
        result = runner("backup", copy)
        assert result.exit_code == 0, result.output
        assert f"Copied 21 threads to {copy}" in result.stdout
        assert "verified" in result.stdout
        with closing(SQLiteStore(copy)) as copied:
            assert contents(copied) == contents(store)
        described = json.loads(runner("backup", copy.with_name("second.db"), "--json").stdout)
        assert described["threads"] == 21
        assert described["bytes"] == copy.with_name("second.db").stat().st_size


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_only_its_owner_can_read_a_backup(place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(b"an older one")
    copy.chmod(0o644)
    with closing(stored_at(place)) as store:
        store.merge(ID, [Set("a", b"1")])
        assert runner_of(store)("backup", copy).exit_code == 0
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir() if "copy" in file.name] == ["copy.db"]


def test_a_backup_is_of_one_moment_while_others_write(place: Path, tmp_path: Path) -> None:
    """Each write changes two threads alike; the copy never has one of a pair."""
    pair = new_id(), new_id()
    copy = tmp_path / "copy.db"
    begun, end = threading.Event(), threading.Event()

    def write() -> None:
        count = 0
        with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
            while not end.is_set():
                count += 1
                connection.execute("BEGIN IMMEDIATE")
                for thread_id in pair:
                    connection.execute(
                        "UPDATE threads SET created = ? WHERE id = ?", (count, thread_id)
                    )
                connection.execute("COMMIT")
                begun.set()

    with closing(stored_at(place)) as store:
        for thread_id in pair:
            store.merge(thread_id, [Push("messages", b'"%b"' % (b"x" * 1_000))] * 300)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert begun.wait(30)
            for _ in range(5):
                assert store.backup(copy) == 2
                with closing(SQLiteStore(copy)) as copied:
                    first, second = copied.list().threads
                    assert first.created == second.created
                copy.unlink()
        finally:
            end.set()
            writer.join(30)


def test_restoring_a_backup(place: Path, tmp_path: Path) -> None:
    """The steps of the documentation."""
    copy = tmp_path / "copy.db"
    path = place / "instance" / "agentuity_threads.db"
    with closing(stored_at(place)) as store:
        store.merge(ID, [Set("a", b'"kept"')], {"owner": "ada"})
    assert run(place, "backup", str(copy)).returncode == 0
    # The app goes on, and dies without closing its file.
    store = stored_at(place)
    store.merge(ID, [Set("a", b'"lost"')])
    log = Path(f"{path}-wal")
    left = log.read_bytes()
    store.close()
    log.write_bytes(left)

    for name in (path, log, Path(f"{path}-shm")):
        name.unlink(missing_ok=True)
    shutil.copy(copy, path)
    report = json.loads(run(place, "check", "--json").stdout)
    assert report["ok"]
    assert report["journal_mode"] == "wal"
    with closing(stored_at(place)) as store:
        assert store.restore(ID) == b'{"state":{"a":"kept"},"metadata":{"owner":"ada"}}'


def test_files_that_are_not_replaced(place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    link = tmp_path / "link.db"
    with closing(stored_at(place)) as store:
        store.merge(ID, [Set("a", b"1")])
        link.symlink_to(store.path)
        runner = runner_of(store)
        for command in ("backup", "export"):
            for own in (store.path, link):
                result = runner(command, own)
                assert result.exit_code == 1
                assert f"{own} is the file that the app uses" in result.stderr
            for ending in ("-wal", "-shm", "-journal"):
                result = runner(command, f"{store.path}{ending}")
                assert result.exit_code == 1
                assert f"{ending} is a part of the file that the app uses" in result.stderr
        with closing(SQLiteStore(copy)) as other:
            other.merge(ID, [Set("a", b"2")])
            for command in ("backup", "export"):
                result = runner(command, copy)
                assert result.exit_code == 1
                assert f"{copy} is in use" in result.stderr
                result = runner(command, f"{copy}-wal")
                assert result.exit_code == 1
                assert f"{copy}-wal is a part of {copy}" in result.stderr
            assert other.restore(ID) == b'{"state":{"a":2}}'
        assert runner("backup", tmp_path).exit_code == 2
        result = runner("backup", tmp_path / "missing" / "copy.db")
        assert result.exit_code == 1
        assert result.stderr == (
            f"Error: {tmp_path}/missing/copy.db cannot be written: No such file or directory\n"
        )
        assert store.restore(ID) == b'{"state":{"a":1}}'


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other links and limits")
@pytest.mark.parametrize("command", ["backup", "export"])
def test_names_that_no_file_can_have(place: Path, tmp_path: Path, command: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    long = tmp_path / ("x" * 300)
    with closing(stored_at(place)) as store:
        store.merge(ID, [Set("a", b"1")])
        runner = runner_of(store)
        result = runner(command, long)
        assert result.exit_code == 1
        assert result.stderr == f"Error: {long} cannot be written: File name too long\n"
        if sys.version_info < (3, 13):
            result = runner(command, link)
            assert result.exit_code == 1
            assert f"{link} cannot be written: Too many levels" in result.stderr
        assert link.is_symlink()


def test_a_damaged_copy_is_not_kept(place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(b"an older one")
    with closing(stored_at(place)) as store:
        store.merge(ID, [Push("messages", b'"%b"' % (b"x" * 3_000))] * 300)
    path = place / "instance" / "agentuity_threads.db"
    content = bytearray(path.read_bytes())
    content[20 * 4_096 : 40 * 4_096] = b"\xff" * 20 * 4_096
    path.write_bytes(content)
    result = run(place, "backup", str(copy))
    assert result.returncode == 1, result
    assert b"Traceback" not in result.stderr
    assert b"malformed" in result.stderr
    assert copy.read_bytes() == b"an older one"
    assert [file.name for file in tmp_path.iterdir() if "copy" in file.name] == ["copy.db"]


def test_stores_without_backups_say_what_to_use(tmp_path: Path) -> None:
    result = runner_of(MemoryStore())("backup", tmp_path / "copy.db")
    assert result.exit_code == 1
    assert "MemoryStore cannot write a backup" in result.stderr
    assert "flask threads export" in result.stderr
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError):
        MemoryStore().backup(tmp_path / "copy.db")


def test_a_backup_returns_space_to_the_disk(place: Path, tmp_path: Path) -> None:
    """Also that of a file that an early version made."""
    copy = tmp_path / "copy.db"
    with closing(stored_at(place)) as store:
        store.merge(ID, [Set("a", b"1")])
        with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA auto_vacuum = NONE")
            connection.execute("VACUUM")
        assert runner_of(store)("backup", copy).exit_code == 0
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode text there")
def test_a_file_name_that_is_not_valid_text(place: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"copy-\xff\n.db")
    with closing(stored_at(place)) as store:
        store.merge(ID, [Set("a", b"1")])
        runner = runner_of(store)
        result = runner("backup", tmp_path / name)
        assert result.exit_code == 0
        assert "Copied 1 thread to " in result.stdout
        assert json.loads(runner("backup", tmp_path / name, "--json").stdout)["threads"] == 1
        assert runner("export", tmp_path / f"{name}.jsonl").exit_code == 0
    with closing(SQLiteStore(tmp_path / name)) as copy:
        assert copy.restore(ID) == b'{"state":{"a":1}}'
