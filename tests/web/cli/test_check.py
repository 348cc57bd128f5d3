"""``flask threads check``."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .running import runner_of


def test_check_says_that_it_works(tmp_path: Path) -> None:
    runner = runner_of(None, tmp_path)
    result = runner("check")
    assert result.exit_code == 0
    assert str(tmp_path / "agentuity_threads.db") in result.stdout
    assert "nothing is configured" in result.stdout
    assert re.search(r"Round trip:  [\d.]+ ms", result.stdout)
    assert result.stderr == ""
    assert runner("list").stdout == "No threads.\n"


def test_check_as_json(tmp_path: Path) -> None:
    result = runner_of(None, tmp_path)("check", "--json")
    report = json.loads(result.stdout)
    assert report.pop("round_trip_ms") >= 0
    assert report.pop("size") > 0
    assert report == {
        "store": "SQLiteStore",
        "url": "sqlite:///agentuity_threads.db",
        "source": "the default: nothing is configured",
        "file": str(tmp_path / "agentuity_threads.db"),
        "ok": True,
        "journal_mode": "wal",
        "unused": 0,
        "warnings": ["The file did not exist. It has just been created."],
    }
    again = json.loads(runner_of(None, tmp_path)("check", "--json").stdout)
    assert again["warnings"] == []


def test_check_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "agentuity_threads.db"
    with closing(SQLiteStore(path)) as store:
        assert "Journal:     wal\n" in runner_of(store)("check").stdout
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
        # It cannot get its log back while it is read.
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM threads").fetchall()
        with closing(SQLiteStore(path, timeout=0.05)) as store:
            store.read("none")
            connection.execute("COMMIT")
            result = runner_of(store)("check")
    assert "Journal:     delete\n" in result.stdout
    assert "has no write-ahead log" in result.stdout
    assert "not returned to the disk" in result.stdout
    assert "chmod" not in result.stdout
    if os.name != "nt":
        path.chmod(0o644)
        assert f"chmod 600 {path}*" in runner_of(None, tmp_path)("check").stdout


def test_check_says_what_may_be_lost() -> None:
    result = runner_of(MemoryStore())("check")
    assert result.exit_code == 0
    assert "Status:      reading and writing work" in result.stdout
    assert "Warning:     Threads are lost when the process ends." in result.stdout


def test_check_says_where_the_setting_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source(store: Any = None, **config: Any) -> str:
        result = runner_of(store, tmp_path, **config)("check", "--json")
        assert result.exit_code == 0
        return str(json.loads(result.stdout)["source"])

    assert source(AGENTUITY_THREAD_STORE="memory://") == "AGENTUITY_THREAD_STORE in app.config"
    assert source("memory://") == "ThreadManager(store=...)"
    assert source(MemoryStore(), AGENTUITY_THREAD_STORE="memory://") == "ThreadManager(store=...)"
    monkeypatch.setenv("AGENTUITY_THREAD_STORE", "sqlite:///other.db")
    assert source() == "AGENTUITY_THREAD_STORE in the environment"
    assert (tmp_path / "other.db").exists()


def no_folder(folder: Path) -> str:
    (folder / "file").write_text("")
    return "sqlite:///file/threads.db"


def no_permission(folder: Path) -> str:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (folder / "closed").mkdir(mode=0o500)
    return "sqlite:///closed/threads.db"


def no_database(folder: Path) -> str:
    (folder / "threads.db").write_bytes(b"this is no database" * 1_000)
    return "sqlite:///threads.db"


def a_folder(folder: Path) -> str:
    (folder / "threads.db").mkdir()
    return "sqlite:///threads.db"


def of_another_program(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "threads.db")) as connection:
        connection.execute("CREATE TABLE things (a)")
    return "sqlite:///threads.db"


@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        (no_folder, "Check that this user may write"),
        (no_permission, "Check that this user may write"),
        (no_database, "{path} is damaged, or is not an SQLite file. Restore a backup"),
        (a_folder, "{path} is a folder."),
        (of_another_program, "Check that this user may write"),
    ],
)
def test_check_says_what_is_wrong(
    tmp_path: Path, spoil: Callable[[Path], str], remedy: str
) -> None:
    url = spoil(tmp_path)
    runner = runner_of(None, tmp_path, AGENTUITY_THREAD_STORE=url)
    result = runner("check")
    assert result.exit_code == 1
    assert "Error:       StoreError: " in result.stdout
    assert "thrd_" not in result.stdout
    listed = runner("list").stderr
    assert " the threads " in listed or "another program" in listed
    assert "(all)" not in listed
    assert "AGENTUITY_THREAD_STORE in app.config" in result.stdout
    path = tmp_path / url.removeprefix("sqlite:///")
    assert str(path) in result.stdout
    assert f"What to do:  {remedy.format(path=path)}" in result.stdout
    result = runner("check", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["ok"] is False
    assert report["error"].startswith("StoreError: ")
    assert report["remedy"]


class Forgetful(MemoryStore):
    def restore(self, thread_id: str) -> bytes | None:
        return None


def test_check_finds_out_that_nothing_is_kept() -> None:
    result = runner_of(Forgetful())("check")
    assert result.exit_code == 1
    assert "could not be read back" in result.stdout


def test_check_of_a_server_that_does_not_run() -> None:
    pytest.importorskip("redis")
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    url = f"redis://someone:pass%2Fw0rd@127.0.0.1:{port}/0?timeout=1"
    result = runner_of(url)("check")
    assert result.exit_code == 1
    assert f"redis://127.0.0.1:{port}/0" in result.stdout
    assert "Check the address, and that the server is running" in result.stdout
    assert "w0rd" not in result.output
    assert "someone" not in result.output
