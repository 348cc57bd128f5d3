"""``flask threads``, run in this process where that is enough, and as a command where it is not."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import ScriptInfo
from freezegun import freeze_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores.minimal import MinimalStore

from flask_agentuity import ThreadManager
from flask_agentuity.client import ThreadClient
from flask_agentuity.document import codec
from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import ServiceUnavailable, StoreError
from flask_agentuity.stores import ListedThread, Page, ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.web import cli

#: Seconds after which something that must happen is taken for not happening.
PATIENCE = 30.0

ID = "thrd_0123456789abcdef0123456789abcdef"

APP = """
from flask import Flask
from flask_agentuity import ThreadManager

app = Flask("served", instance_path={instance!r})
ThreadManager(app)
"""


def new_id() -> str:
    return f"thrd_{uuid4().hex}"


@pytest.fixture
def store() -> ThreadStore:
    return MemoryStore()


@pytest.fixture
def threads(store: ThreadStore) -> Callable[..., Result]:
    """Run ``flask threads`` on an app whose threads are in *store*."""
    return runner_of(store)


def runner_of(store: ThreadStore | str | None, folder: Path | None = None, **config: Any) -> Any:
    app = Flask("tested", instance_path=str(folder or Path.cwd() / "instance"))
    app.config.update(SECRET_KEY="tested", **config)
    ThreadManager(app, store=store)

    def run(*arguments: str | Path, **options: Any) -> Result:
        result = CliRunner().invoke(
            cli.threads,
            [str(argument) for argument in arguments],
            obj=ScriptInfo(create_app=lambda: app),
            **options,
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def export_lines(runner: Callable[..., Result], *arguments: str) -> list[Any]:
    result = runner("export", "-", *arguments)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def contents(store: ThreadStore) -> dict[str, tuple[bytes | None, ListedThread]]:
    """Return everything there is in *store*."""
    found: dict[str, tuple[bytes | None, ListedThread]] = {}
    cursor = None
    while True:
        page = store.list(limit=500, cursor=cursor)
        found.update({thread.id: (store.restore(thread.id), thread) for thread in page.threads})
        if (cursor := page.cursor) is None:
            return found


# Commands in processes of their own


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an app that keeps its threads in its instance folder."""
    (tmp_path / "served.py").write_text(APP.format(instance=str(tmp_path / "instance")))
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flask", "--app", "served", "threads", *arguments]


@contextmanager
def started(place: Path, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **options.pop("env", {})}
    environment = {name: value for name, value in environment.items() if value is not None}
    with subprocess.Popen(command(*arguments), cwd=place, env=environment, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def run(place: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    options = {"capture_output": True, "cwd": place, "timeout": PATIENCE} | options
    return subprocess.run(command(*arguments), **options)


def stored_at(place: Path, **options: Any) -> SQLiteStore:
    return SQLiteStore(place / "instance" / "agentuity_threads.db", **options)


class Reader:
    """What a process says, as it comes."""

    def __init__(self, stream: Any) -> None:
        self.text = ""
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: Any) -> None:
        while part := os.read(stream.fileno(), 65_536):
            self.text += part.decode()

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.text:
            assert time.monotonic() < deadline, (text, self.text)
            time.sleep(0.01)

    def join(self) -> str:
        self._thread.join(PATIENCE)
        return self.text


# check


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
    assert report == {
        "store": "SQLiteStore",
        "url": "sqlite:///agentuity_threads.db",
        "source": "the default: nothing is configured",
        "file": str(tmp_path / "agentuity_threads.db"),
        "ok": True,
        "warnings": ["The file was not there before: it was made just now."],
    }
    again = json.loads(runner_of(None, tmp_path)("check", "--json").stdout)
    assert again["warnings"] == []


def test_check_says_what_may_be_lost() -> None:
    result = runner_of(MemoryStore())("check")
    assert result.exit_code == 0
    assert "It can be read and written." in result.stdout
    assert "Beware:      Threads end with the process." in result.stdout


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


def of_another_program(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "threads.db")) as connection:
        connection.execute("CREATE TABLE things (a)")
    return "sqlite:///threads.db"


@pytest.mark.parametrize("spoil", [no_folder, no_permission, no_database, of_another_program])
def test_check_says_what_is_wrong(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    url = spoil(tmp_path)
    runner = runner_of(None, tmp_path, AGENTUITY_THREAD_STORE=url)
    result = runner("check")
    assert result.exit_code == 1
    assert "Wrong:       StoreError: " in result.stdout
    assert "AGENTUITY_THREAD_STORE in app.config" in result.stdout
    assert str(tmp_path / url.removeprefix("sqlite:///")) in result.stdout
    assert "What to do:  See that this user may write" in result.stdout
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
    assert "not there any more" in result.stdout


def test_check_of_a_server_that_does_not_run() -> None:
    pytest.importorskip("redis")
    with closing(__import__("socket").create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    url = f"redis://someone:pass%2Fw0rd@127.0.0.1:{port}/0?timeout=1"
    result = runner_of(url)("check")
    assert result.exit_code == 1
    assert f"redis://127.0.0.1:{port}/0" in result.stdout
    assert "Check the address, and that the server runs" in result.stdout
    assert "w0rd" not in result.output
    assert "someone" not in result.output


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:secret@host:1/0", "redis://host:1/0"),
        ("redis://:sec/ret@host/0", "redis://host/0"),
        ("redis://:sec@ret@host/0", "redis://host/0"),
        ("redis://:sec#ret?s@host/0?password=secret", "redis://host/0"),
        ("rediss://:secret\n@host", "rediss://host"),
        ("wss://secret@host/thread/ws", "wss://host/thread/ws"),
        ("unix:///run/redis.sock?db=0&password=secret", "unix:///run/redis.sock"),
        ("sqlite:////srv/a@b/threads.db?timeout=3", "sqlite:////srv/a@b/threads.db"),
    ],
)
def test_credentials_are_never_printed(url: str, shown: str) -> None:
    assert cli._without_credentials(url) == shown


def test_an_app_without_a_manager() -> None:
    for arguments in (["check"], ["list"], ["show", ID], ["purge", "-y"]):
        result = CliRunner().invoke(
            cli.threads, arguments, obj=ScriptInfo(create_app=lambda: Flask("bare"))
        )
        assert result.exit_code == 1
        assert result.stderr == (
            "Error: This app has no ThreadManager. Call ThreadManager(app) where it is made.\n"
        )


def test_an_app_whose_setting_is_wrong(place: Path) -> None:
    environment = {**os.environ, "AGENTUITY_THREAD_TTL": "soon"}
    result = run(place, "check", "--json", env=environment)
    assert result.returncode == 1
    assert result.stdout == b""
    assert result.stderr.decode().startswith("Error: AGENTUITY_THREAD_TTL='soon' is wrong.")


# list


def test_list(threads: Any, store: ThreadStore) -> None:
    with freeze_time("2030-01-01 12:00:00"):
        store.merge(ID, [Set("a", b'"%b"' % (b"x" * 5_000))], {"owner": "Zoë", "n": 1})
        other = new_id()
    with freeze_time("2030-01-01 12:00:01"):
        store.merge(other, [Set("a", b"1")])
        result = threads("list")
        described = threads("list", "--json")
    assert result.exit_code == 0
    size = len(store.restore(ID) or b"")
    assert result.stdout == (
        f"{other}  2030-01-01T12:00:01+00:00         17 bytes\n"
        f'{ID}  2030-01-01T12:00:00+00:00      5,052 bytes  {{"owner": "Zoë", "n": 1}}\n'
    )
    assert json.loads(described.stdout) == {
        "threads": [
            {
                "id": other,
                "metadata": {},
                "created": "2030-01-01T12:00:01+00:00",
                "updated": "2030-01-01T12:00:01+00:00",
                "size": 17,
            },
            {
                "id": ID,
                "metadata": {"owner": "Zoë", "n": 1},
                "created": "2030-01-01T12:00:00+00:00",
                "updated": "2030-01-01T12:00:00+00:00",
                "size": size,
            },
        ],
        "cursor": None,
    }


def test_list_in_pages(threads: Any, store: ThreadStore) -> None:
    ids = [new_id() for _ in range(7)]
    for number, thread_id in enumerate(ids):
        store.adopt(ListedThread(thread_id, {}, 1.0, time.time() - number, 0), b'{"a":1}')
    found: list[str] = []
    arguments: list[str] = []
    for _ in range(3):
        result = threads("list", "--limit", "3", *arguments)
        found += re.findall("thrd_[0-9a-f]{32}", result.stdout)
        more = re.search(r"There are more: (--cursor) (\S+)\n$", result.stdout)
        arguments = list(more.groups()) if more else []
    assert found == ids
    assert not arguments
    page = json.loads(threads("list", "--json", "--limit", "5").stdout)
    rest = json.loads(threads("list", "--json", "--cursor", page["cursor"]).stdout)
    assert [thread["id"] for thread in page["threads"] + rest["threads"]] == ids
    assert rest["cursor"] is None


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("v=1", 1),
        ("v=1.0", 1.0),
        ("v=true", True),
        ('v="1"', "1"),
        ("v=null", None),
        ("v=", ""),
        ("v=Zoë", "Zoë"),
        ("v=a=b", "a=b"),
        ('v="true"', "true"),
        ("v=True", "True"),
        ("v=NaN", "NaN"),
    ],
)
def test_list_by_metadata(threads: Any, store: ThreadStore, condition: str, value: Any) -> None:
    for other in (1, 1.0, True, "1", None, "", "Zoë", "a=b", "true", "True", "NaN", "a"):
        if codec.encode(other) != codec.encode(value):
            store.merge(new_id(), [Set("a", b"1")], {"v": other, "w": 1})
    store.merge(ID, [Set("a", b"1")], {"v": value, "w": 1})
    found = json.loads(threads("list", "--json", "--where", condition, "--where", "w=1").stdout)
    assert [thread["id"] for thread in found["threads"]] == [ID]
    lines = export_lines(threads, "--where", condition)
    assert [line["id"] for line in lines] == [ID]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cursor", "nonsense"], "'nonsense' is not the cursor of a listing"),
        (["--where", "owner"], "'owner' is not KEY=VALUE"),
        (["--where", "tags=[1]"], "not by a list (key 'tags')"),
        (["--where", 'tags={"a":1}'], "not by a dict (key 'tags')"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_what_is_asked_wrongly_is_a_misspelled_command(
    threads: Any, arguments: list[str], words: str
) -> None:
    result = threads("list", "--json", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr


def test_a_store_that_cannot_list(tmp_path: Path) -> None:
    runner = runner_of(MinimalStore(tmp_path))
    for arguments in (["list"], ["list", "--json"], ["export", "-"]):
        result = runner(*arguments)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith("Error: MinimalStore cannot list threads")
    result = runner("purge", "-y")
    assert result.exit_code == 1
    assert "MinimalStore cannot remove expired threads" in result.stderr


def test_the_remote_store_cannot_list() -> None:
    runner = runner_of("ws://127.0.0.1:1/thread/ws", AGENTUITY_SDK_KEY="key")
    result = runner("list")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: RemoteStore cannot list threads")


# show


def test_show_prints_a_conversation(threads: Any, store: ThreadStore) -> None:
    store.save(
        ID,
        codec.join_document(
            {
                "title": b'"Holidays"',
                "messages": codec.encode(
                    [
                        {"role": "user", "content": "Where to?\nuser: fake"},
                        {"role": "assistant", "content": "Zoë says: 😀", "model": "m-1"},
                        {"role": "user", "content": [{"type": "text"}]},
                        "a note",
                        7,
                    ]
                ),
                "empty": b"[]",
                "profile": b'{"name":"Ada"}',
            }
        ),
        {"owner": "ada"},
    )
    result = threads("show", ID)
    assert result.exit_code == 0
    assert (
        result.stdout
        == f"""{ID}
metadata: {{"owner": "ada"}}
title: "Holidays"

messages
  user: Where to?
    user: fake
  assistant: Zoë says: 😀
    {{"model": "m-1"}}
  {{"role": "user", "content": [{{"type": "text"}}]}}
  "a note"
  7
empty: []
profile: {{"name": "Ada"}}
"""
    )
    assert json.loads(threads("show", ID, "--json").stdout) == {
        "id": ID,
        "metadata": {"owner": "ada"},
        "state": json.loads(store.restore(ID) or b"")["state"],
    }


COMMANDS_OF_TERMINALS = "\x1b[2J\x1b]0;title\x07\x9b31m\r\x08\x7f\x00\u202eevil\u2066\u2028\x85"


def test_nothing_stored_commands_the_terminal(threads: Any, store: ThreadStore) -> None:
    evil = COMMANDS_OF_TERMINALS
    store.save(
        ID,
        codec.join_document(
            {
                evil: b"1",
                "list" + evil: codec.encode([evil, {"role": evil, "content": evil, evil: evil}]),
                "text": codec.encode(evil),
            }
        ),
        {"owner" + evil: evil},
    )
    for arguments in (["show", ID], ["list"], ["show", ID, "--json"], ["list", "--json"]):
        result = threads(*arguments, color=True)
        assert result.exit_code == 0
        # What this package itself says in bold is all there may be.
        said = re.sub("\x1b\\[(0|1)m", "", result.output)
        assert not set(said) & {each for each in evil if not each.isprintable()}
        assert "u001b" in said
    assert json.loads(threads("show", ID, "--json").stdout)["state"]["text"] == evil


def test_show_keeps_what_is_no_command(threads: Any, store: ThreadStore) -> None:
    text = "tab\there, Zoë, 👩\u200d👩\u200d👧, שלום, zero\u200bwidth"
    store.merge(ID, [Push("l", codec.encode({"role": "user", "content": text}))])
    assert f"  user: {text}\n" in threads("show", ID).stdout


def test_what_standard_output_cannot_spell_is_escaped(place: Path) -> None:
    with closing(stored_at(place)) as store:
        store.merge(ID, [Set("name", codec.encode("Zoë 😀"))])
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    shown = run(place, "show", ID, env=environment)
    assert shown.returncode == 0
    assert b'name: "Zo\\xeb \\U0001f600"' in shown.stdout
    shown = run(place, "show", ID, "--json", env=environment)
    assert json.loads(shown.stdout)["state"] == {"name": "Zoë 😀"}


def test_show_a_long_thread(threads: Any, store: ThreadStore) -> None:
    store.merge(
        ID,
        [
            Push("messages", codec.encode({"role": "user", "content": f"message {number}"}))
            for number in range(10_000)
        ],
    )
    lines = threads("show", ID).stdout.splitlines()
    assert lines[3:] == [f"  user: message {number}" for number in range(10_000)]


@pytest.mark.parametrize("arguments", [["show"], ["show", "--json"], ["delete", "-y"]])
def test_threads_that_are_not_there(threads: Any, arguments: list[str]) -> None:
    name, *options = arguments
    result = threads(name, ID, *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: Nothing is stored of thread {ID}.\n"
    result = threads(name, "thrd_\x1b[2J", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is not a thread id" in result.stderr
    assert "\x1b" not in result.stderr


def damage(place: Path, thread_id: str) -> None:
    path = place / "instance" / "agentuity_threads.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        changed = connection.execute(
            "UPDATE state_entries SET value = CAST('{\"a' AS BLOB) WHERE thread ="
            " (SELECT number FROM threads WHERE id = ?)",
            (thread_id,),
        )
        assert changed.rowcount == 1


def test_a_damaged_thread_is_named_and_can_be_deleted(place: Path) -> None:
    with closing(stored_at(place)) as store:
        store.merge(ID, [Set("a", b"1")])
        damage(place, ID)
        runner = runner_of(store)
        result = runner("show", ID)
        assert result.exit_code == 1
        assert f"Error: What is stored of thread {ID} is damaged" in result.stderr
        assert runner("delete", ID, "-y").exit_code == 0
        assert store.restore(ID) is None


def test_what_has_gone_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    shown = cli._Shown()

    def printed(**state: Any) -> list[str]:
        shown.update({"metadata": {}, "state": state})
        return capsys.readouterr().out.splitlines()

    assert printed(a=1, l=[1], e=[]) == ["a: 1", "", "l", "  1", "e: []"]
    assert printed(l=[1], e=[2]) == ["", "e", "  2", "a is not there any more."]
    assert printed(e=[2]) == ["l is not there any more."]
    assert printed(a=1, l=[1], e=[2]) == ["a: 1", "", "l", "  1"]


def test_standard_output_that_is_full(place: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with Path("/dev/full").open("w") as full:
        for arguments in (["list"], ["check"]):
            result = run(
                place, *arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE
            )
            assert result.returncode == 1
            assert b"Traceback" not in result.stderr


def test_a_store_out_of_reach_is_no_damaged_thread() -> None:
    """Deleting would try again, and hide what is wrong."""

    class Gone(MemoryStore):
        def read(self, thread_id: str, keys: Any = None) -> Any:
            raise ServiceUnavailable("there is no connection")

        def delete(self, thread_id: str) -> None:
            raise AssertionError("it cannot be known whether the thread is there")

    result = runner_of(Gone())("delete", ID, "-y")
    assert result.exit_code == 1
    assert "there is no connection" in result.stderr


def test_an_import_that_ends_says_how_far_it_came(tmp_path: Path) -> None:
    class Full(MemoryStore):
        def adopt(self, thread: ListedThread, document: bytes) -> bool:
            if len(self._threads) == 2:
                raise StoreError("it is full")
            return super().adopt(thread, document)

    file = tmp_path / "threads.jsonl"
    file.write_bytes(b"".join(line_of(id=new_id()) + b"\n" for _ in range(4)))
    result = runner_of(Full())("import", file)
    assert result.exit_code == 1
    assert "ended at line 3: it is full\n2 threads were imported until then" in result.stderr


def test_an_export_that_is_ended_leaves_nothing_behind(place: Path) -> None:
    with closing(stored_at(place)) as store:
        for _ in range(3):
            store.merge(new_id(), [Set("a", b"1")])
    code = (
        "import os, signal, sys\n"
        "from flask_agentuity.stores.sqlite.store import SQLiteStore\n"
        "SQLiteStore.peek = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
        "from flask.cli import main\n"
        "sys.argv[0] = 'flask'\n"
        "main()\n"
    )
    ended = [sys.executable, "-c", code, *command("export", "threads.jsonl")[3:]]
    result = subprocess.run(ended, cwd=place, capture_output=True, timeout=PATIENCE)
    assert result.returncode == 128 + signal.SIGTERM, result.stderr
    assert [path for path in place.iterdir() if "jsonl" in path.name] == []


def test_an_export_leaves_signals_as_they_were(threads: Any, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert threads("export", tmp_path / "threads.jsonl").exit_code == 0
    assert threads("export", tmp_path / "nowhere" / "threads.jsonl").exit_code == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_follow_and_json_do_not_go_together(threads: Any, store: ThreadStore) -> None:
    store.merge(ID, [Set("a", b"1")])
    assert threads("show", ID, "--follow", "--json").exit_code == 2


def say(store: ThreadStore, text: str, max_records: int | None = None) -> None:
    message = codec.encode({"role": "user", "content": text})
    store.merge(ID, [Push("messages", message, max_records)])


def test_follow_shows_what_another_process_adds(place: Path) -> None:
    follow = ("show", ID, "--follow", "--interval", "0.02")
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with closing(stored_at(place)) as store:
        say(store, "first")
        with started(place, *follow, **pipes) as one, started(place, *follow, **pipes) as two:
            outputs = [Reader(one.stdout), Reader(two.stdout)]
            errors = [Reader(one.stderr), Reader(two.stderr)]
            for output in outputs:
                output.wait_for("user: first\n")
            for text in ("second", "third"):
                say(store, text)
                for output in outputs:
                    output.wait_for(f"user: {text}\n")
            # A window that slides: the list is not longer, and has something new all the same.
            for number in range(5):
                say(store, f"in a window {number}", max_records=2)
                for output in outputs:
                    output.wait_for(f"user: in a window {number}\n")
            store.merge(ID, [Set("title", b'"Later"'), Set("messages", b'["anew"]')])
            for output in outputs:
                output.wait_for('title: "Later"\n')
                output.wait_for('  "anew"\n')
            one.send_signal(signal.SIGINT)
            assert one.wait(PATIENCE) == 0
            assert errors[0].join().strip() == ""
            store.delete(ID)
            assert two.wait(PATIENCE) == 0
            assert errors[1].join() == "The thread is not there any more.\n"
            for output in outputs:
                said = output.join()
                assert [said.count(f"user: {text}\n") for text in ("first", "second")] == [1, 1]
                assert said.count("in a window") == 5


# delete and purge


def test_delete_asks_first(threads: Any, store: ThreadStore) -> None:
    store.merge(ID, [Set("a", b"1")])
    for answer in ("n\n", "\n", ""):
        result = threads("delete", ID, "--json", input=answer)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"Delete thread {ID} for good?" in result.stderr
        assert store.restore(ID) is not None
    result = threads("delete", ID, "--json", input="y\n")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"deleted": ID}
    assert store.restore(ID) is None
    store.merge(ID, [Set("a", b"1")])
    result = threads("delete", ID, "-y")
    assert (result.exit_code, result.stdout) == (0, f"Deleted {ID}.\n")
    assert store.restore(ID) is None


def test_purge(place: Path) -> None:
    kept = new_id()
    with closing(stored_at(place, ttl=100.0)) as store, freeze_time("2030-01-01") as clock:
        runner = runner_of(store)
        for number in range(45):
            store.merge(new_id(), [Set("a", b"%d" % number)])
        clock.tick(60)
        store.merge(kept, [Set("a", b"1")])
        clock.tick(60)
        assert runner("purge", "--json", input="n\n").exit_code == 1
        result = runner("purge", "--json", input="y\n")
        assert json.loads(result.stdout) == {"removed": 45}
        result = runner("purge", "-y")
        assert (result.stdout, result.stderr) == ("Removed 0 expired threads.\n", "")
        assert store.restore(kept) is not None


# export and import

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=3),
    max_leaves=10,
)
times = st.floats(0, 4_000_000_000) | st.integers(0, 4_000_000_000)
exported_threads = st.tuples(
    st.dictionaries(texts | st.sampled_from(["", "state", "metadata", "__proto__"]), values),
    st.dictionaries(texts, values, max_size=4),
    times,
    times,
)


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(exported_threads, min_size=1, max_size=4))
def test_nothing_is_lost_on_the_way(made: list[Any]) -> None:
    first = MemoryStore(ttl=None)
    for state, metadata, created, updated in made:
        document = codec.join_document({key: codec.encode(value) for key, value in state.items()})
        first.adopt(ListedThread(new_id(), metadata, created, updated, 0), document)
    with tempfile.TemporaryDirectory() as folder:
        way = [first]
        for name in ("second", "third"):
            way.append(SQLiteStore(Path(folder) / f"{name}.db", ttl=None))
        way.append(MemoryStore(ttl=None))
        for source, target in pairwise(way):
            file = Path(folder) / f"{len(list(Path(folder).iterdir()))}.jsonl"
            assert runner_of(source)("export", file).exit_code == 0
            for again in (False, True):
                result = runner_of(target)("import", file, "--json")
                count = len(contents(first))
                assert result.exit_code == 0
                assert json.loads(result.stdout) == {
                    "imported": 0 if again else count,
                    "skipped": count if again else 0,
                    "damaged_lines": [],
                }
                assert contents(target) == contents(first)
        for store in way:
            store.close()


def test_the_largest_and_the_deepest_are_not_lost(tmp_path: Path) -> None:
    source = MemoryStore()
    deep: Any = []
    for _ in range(codec.MAX_DEPTH - 1):
        deep = [deep]
    source.merge(new_id(), [Set("deep", codec.encode(deep))], {"deep": deep[0]})
    rest = codec.MAX_DOCUMENT_BYTES - len('{"state":{"a":""}}')
    for text in ("x" * rest, "\0" * (rest // 6) + "x" * (rest % 6), "é" * (rest // 2)):
        source.merge(new_id(), [Set("a", codec.encode(text))])
    sizes = [thread.size for thread in source.list().threads]
    assert sizes.count(codec.MAX_DOCUMENT_BYTES) >= 2
    file = tmp_path / "threads.jsonl"
    assert runner_of(source)("export", file).exit_code == 0
    with closing(SQLiteStore(tmp_path / "threads.db")) as target:
        assert runner_of(target)("import", file).exit_code == 0
        assert contents(target) == contents(source)


def test_only_what_is_newer_is_imported(tmp_path: Path) -> None:
    source, target = MemoryStore(), MemoryStore()
    file = tmp_path / "threads.jsonl"
    source.merge(ID, [Set("a", b"1")], {"m": 1})
    runner_of(source)("export", file)
    time.sleep(0.002)
    target.merge(ID, [Set("a", b"2")])
    result = runner_of(target)("import", file)
    assert result.stdout == "Imported 0 threads, 1 were here already.\n"
    assert target.restore(ID) == b'{"state":{"a":2}}'
    time.sleep(0.002)
    source.merge(ID, [Set("a", b"3")])
    runner_of(source)("export", file)
    result = runner_of(target)("import", file)
    assert result.stdout == "Imported 1 threads, 0 were here already.\n"
    assert target.restore(ID) == b'{"state":{"a":3},"metadata":{"m":1}}'


def line_of(thread_id: str | None = None, **fields: Any) -> bytes:
    record = {"id": thread_id or new_id(), "created": 1.5, "updated": 2.5, "state": {"a": 1}}
    record |= fields
    kept = {name: value for name, value in record.items() if value is not ...}
    return json.dumps(kept, ensure_ascii=False).encode("utf-8", "surrogatepass")


DAMAGED = {
    "cut": line_of()[:-5],
    "not UTF-8": line_of(state={"a": "Zoë"}).replace("ë".encode(), b"\xeb"),
    "a surrogate": line_of(state={"a": "\ud800"}),
    "garbage": bytes(range(1, 10)) + bytes(range(14, 256)),
    "nul bytes": b"\0" * 100,
    "a list": b"[1]",
    "a number": b"5",
    "null": b"null",
    "a text": b'"id"',
    "two objects": line_of() + line_of(),
    "no id": line_of(id=...),
    "a wrong id": line_of("thrd_nonsense"),
    "an id that is a list": line_of(id=[ID]),
    "an id with a line feed": line_of(ID + "\n"),
    "no time": line_of(updated=...),
    "a time that is text": line_of(updated="2.5"),
    "a time that is NaN": line_of(updated=float("nan")),
    "a time that is NaN in words": line_of(updated="nan"),
    "a time that is no number": line_of(created=True),
    "a time that is null": line_of(created=None),
    "a time before time": line_of(created=-1),
    "a time after time": line_of(updated=1e300),
    "a time that is too large": line_of().replace(b"2.5", b"1e999"),
    "a state that is a list": line_of(state=[1]),
    "a state that is null": line_of(state=None),
    "metadata that is a text": line_of(metadata="owner"),
    "nothing": line_of(state={}, metadata={}),
    "a state over the limit": line_of(state={"a": "x" * 2_000}),
    "metadata over the limit": line_of(metadata={"a": "x" * 2_000}),
    "too deep": line_of().replace(b'"a": 1', b'"a": ' + b"[" * 300 + b"]" * 300),
    "far too deep": line_of().replace(b'"a": 1', b'"a": ' + b"[" * 50_000 + b"]" * 50_000),
    "metadata too deep": line_of(metadata=...).replace(
        b'"state"', b'"metadata": {"a": ' + b"[" * 260 + b"]" * 260 + b'}, "state"'
    ),
}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_damaged_lines_are_named_and_the_rest_goes_on(tmp_path: Path, kind: str) -> None:
    lines: list[bytes] = []
    expected: list[int] = []
    good: list[str] = []
    for number, damaged in enumerate(DAMAGED.values()):
        assert b"\n" not in damaged
        good.append(f"thrd_{number:032}")
        lines += [line_of(good[-1], state={"n": number}), damaged]
        expected.append(len(lines))
        lines += [b"", b"  "][: number % 3]
    file = tmp_path / "threads.jsonl"
    file.write_bytes(b"\n".join(lines))
    store: ThreadStore
    if kind == "memory":
        store = MemoryStore(max_bytes=1_000)
    else:
        store = SQLiteStore(tmp_path / "threads.db", max_bytes=1_000)
    with closing(store):
        runner = runner_of(store)
        result = runner("import", file, "--json")
        assert result.exit_code == 1
        named = re.findall(r"^Line (\d+) was left out: \S", result.stderr, re.MULTILINE)
        assert len(result.stderr.splitlines()) == len(expected)
        by_name = dict(zip(DAMAGED, expected, strict=True))
        assert [name for name in by_name if str(by_name[name]) not in named] == []
        assert json.loads(result.stdout) == {
            "imported": len(good),
            "skipped": 0,
            "damaged_lines": expected,
        }
        assert set(contents(store)) == set(good)
        assert runner("list").exit_code == 0
        again = runner("import", file)
        assert again.exit_code == 1
        assert again.stdout == f"Imported 0 threads, {len(good)} were here already.\n"


def test_a_line_is_read_with_what_it_has(threads: Any, store: ThreadStore, tmp_path: Path) -> None:
    file = tmp_path / "threads.jsonl"
    file.write_bytes(
        line_of(ID, created=3, updated=4, more="is ignored")
        + b"\r\n\r\n"
        + line_of(state=..., metadata={"owner": "ada"})
    )
    assert threads("import", file).exit_code == 0
    assert store.restore(ID) == b'{"state":{"a":1}}'
    found = {thread.id: thread for thread in store.list().threads}
    assert (found[ID].created, found[ID].updated) == (3.0, 4.0)
    assert len(store.list({"owner": "ada"}).threads) == 1


def test_an_import_into_what_cannot_take_it(tmp_path: Path) -> None:
    file = tmp_path / "threads.jsonl"
    file.write_bytes(b"\nnonsense\n" + line_of() + b"\n" + line_of())
    result = runner_of(MinimalStore(tmp_path))("import", file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Line 2 was left out" in result.stderr
    assert "Error: The import ended at line 3: MinimalStore cannot take over" in result.stderr


def test_files_that_are_not_there(threads: Any, tmp_path: Path) -> None:
    assert threads("import", tmp_path / "nothing").exit_code == 2
    assert threads("import", tmp_path).exit_code == 2
    assert threads("export", tmp_path).exit_code == 2
    result = threads("export", tmp_path / "nowhere" / "file")
    assert result.exit_code == 1
    assert "could not be written" in result.stderr


def test_an_export_of_nothing_is_a_file_with_nothing(threads: Any, tmp_path: Path) -> None:
    file = tmp_path / "threads.jsonl"
    result = threads("export", file)
    assert (result.exit_code, result.stdout) == (0, "Exported 0 threads.\n")
    assert file.read_bytes() == b""
    result = threads("import", file, "--json")
    assert json.loads(result.stdout) == {"imported": 0, "skipped": 0, "damaged_lines": []}


def test_what_export_says_is_not_among_the_threads(
    threads: Any, store: ThreadStore, tmp_path: Path
) -> None:
    store.merge(ID, [Set("a", b"1")])
    result = threads("export", "-")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [ID]
    assert result.stderr == "Exported 1 threads.\n"
    result = threads("export", "-", "--json")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [ID]
    assert json.loads(result.stderr) == {"exported": 1, "damaged": []}
    result = threads("export", tmp_path / "file", "--json")
    assert json.loads(result.stdout) == {"exported": 1, "damaged": []}
    assert result.stderr == ""


class Failing(MemoryStore):
    """Goes away in the middle of an export."""

    left = 3

    def peek(self, thread_id: str) -> bytes | None:
        self.left -= 1
        if self.left < 0:
            raise ServiceUnavailable("it went away")
        return super().peek(thread_id)


def test_an_export_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    store = Failing()
    for _ in range(5):
        store.merge(new_id(), [Set("a", b"1")])
    file = tmp_path / "threads.jsonl"
    file.write_bytes(b"of yesterday")
    result = runner_of(store)("export", file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: it went away\n"
    assert file.read_bytes() == b"of yesterday"
    assert list(tmp_path.iterdir()) == [file]


def test_a_damaged_thread_is_left_out_of_the_export(place: Path) -> None:
    file = place / "threads.jsonl"
    with closing(stored_at(place)) as store:
        for thread_id in (new_id(), ID, new_id()):
            store.merge(thread_id, [Set("a", b"1")])
        damage(place, ID)
        result = runner_of(store)("export", file, "--json")
        assert result.exit_code == 1
        assert json.loads(result.stdout) == {"exported": 2, "damaged": [ID]}
        assert f"Not exported: What is stored of thread {ID} is damaged" in result.stderr
        assert len(file.read_bytes().splitlines()) == 2


@pytest.mark.skipif(os.name != "posix", reason="of POSIX only")
def test_where_an_export_goes(threads: Any, store: ThreadStore, tmp_path: Path) -> None:
    store.merge(ID, [Set("a", b"1")])
    file, link = tmp_path / "threads.jsonl", tmp_path / "link"
    link.symlink_to(file)
    assert threads("export", link).exit_code == 0
    assert link.is_symlink()
    assert json.loads(file.read_bytes())["id"] == ID
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # A device stays one.
    assert threads("export", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()
    if Path("/dev/full").exists():
        result = threads("export", "/dev/full")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "/dev/full could not be written" in result.stderr


class Restless(MemoryStore):
    """Names a thread twice, as a store may while the app goes on."""

    def scan(self) -> Iterator[ListedThread]:
        for thread in super().scan():
            yield thread
            self.merge(thread.id, [Push("l", b"1")])
            yield thread


def test_an_export_names_no_thread_twice() -> None:
    store = Restless()
    ids = [new_id() for _ in range(40)]
    for thread_id in ids:
        store.merge(thread_id, [Set("a", b"1")])
    assert sorted(line["id"] for line in export_lines(runner_of(store))) == sorted(ids)


def test_many_threads_are_exported(threads: Any, store: ThreadStore) -> None:
    ids = [new_id() for _ in range(2_003)]
    for thread_id in ids:
        store.merge(thread_id, [Set("a", b"1")])
    assert sorted(line["id"] for line in export_lines(threads)) == sorted(ids)


def test_export_and_import_in_a_pipe(place: Path, tmp_path: Path) -> None:
    with closing(stored_at(place)) as source:
        for number in range(50):
            source.merge(new_id(), [Set("n", b"%d" % number)], {"owner": "Zoë"})
        url = f"sqlite:///{tmp_path / 'target.db'}"
        with (
            started(place, "export", "-", stdout=subprocess.PIPE) as exporting,
            started(
                place,
                *("import", "-", "--json"),
                stdin=exporting.stdout,
                stdout=subprocess.PIPE,
                env={"AGENTUITY_THREAD_STORE": url},
            ) as importing,
        ):
            output, _ = importing.communicate(timeout=PATIENCE)
            assert exporting.wait(PATIENCE) == 0
            assert importing.returncode == 0
        assert json.loads(output) == {"imported": 50, "skipped": 0, "damaged_lines": []}
        with closing(SQLiteStore(tmp_path / "target.db")) as target:
            assert contents(target) == contents(source)


def test_progress_is_for_terminals_only(place: Path) -> None:
    pty = pytest.importorskip("pty")
    with closing(stored_at(place)) as store:
        for _ in range(30):
            store.merge(new_id(), [Set("a", b"1")])
    file = place / "threads.jsonl"

    def on_a_terminal(*arguments: str) -> tuple[bytes, str]:
        main, side = pty.openpty()
        with (
            started(place, *arguments, stdout=subprocess.PIPE, stderr=side) as process,
            io.FileIO(main) as terminal,
        ):
            os.close(side)
            said = b""
            try:
                while part := terminal.read(65_536):
                    said += part
            except OSError:
                pass  # Linux tells so that nobody is at the other side any more.
            assert process.stdout is not None
            output = process.stdout.read()
            assert process.wait(PATIENCE) in (0, 1)
        return output, said.decode()

    output, said = on_a_terminal("export", str(file), "--json")
    assert json.loads(output)["exported"] == 30
    assert said.endswith("\r\x1b[KExported 30 threads\r\n")
    with file.open("ab") as lines:
        lines.write(b"nonsense\n" + line_of() + b"\n")
    output, said = on_a_terminal("import", str(file), "--json")
    assert json.loads(output)["imported"] == 1
    assert "\r\x1b[KLine 31 was left out: " in said
    assert said.endswith("\r\x1b[KRead 32 lines\r\n")
    result = run(place, "export", str(file))
    assert (result.stdout, result.stderr) == (b"Exported 31 threads.\n", b"")


def test_errors_of_the_store_are_words_not_tracebacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Down(MemoryStore):
        def peek(self, thread_id: str) -> bytes | None:
            raise StoreError("it is \x1b[2Jdown")

        def scan(self) -> Iterator[ListedThread]:
            raise StoreError("it is down")

        def list(self, *arguments: Any, **options: Any) -> Page:
            raise StoreError("it is down")

        def read(self, thread_id: str, keys: Any = None) -> Any:
            raise StoreError("it is down")

        def delete(self, thread_id: str) -> None:
            raise StoreError("it is down")

    runner = runner_of(Down())
    with caplog.at_level(logging.ERROR):
        for arguments in (
            ["list"],
            ["show", ID],
            ["delete", ID, "-y"],
            ["export", tmp_path / "file"],
            ["show", ID, "--json"],
        ):
            result = runner(*arguments)
            assert (result.exit_code, result.stdout) == (1, "")
            assert "Error: it is " in result.stderr
            assert "\x1b" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_serve_is_a_thread_service_on_the_store_of_the_app(place: Path) -> None:
    with started(
        place, "serve", "--port", "0", "--key", "a key", stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["listening"]
        client = ThreadClient(url, "a key")
        client.merge(ID, [Set("a", b"1")])
        assert client.restore(ID) == b'{"state":{"a":1}}'
        client.close()
        process.terminate()
        assert process.wait(PATIENCE) == 0
    with closing(SQLiteStore(place / "instance" / "agentuity_threads.db")) as store:
        (listed,) = store.list().threads
        assert listed.size == len(b'{"state":{"a":1}}')


def test_serve_needs_a_key(threads: Callable[..., Result]) -> None:
    result = threads("serve")
    assert result.exit_code == 1
    assert "needs a key" in result.stderr
