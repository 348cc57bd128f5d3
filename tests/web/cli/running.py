"""Runs ``flask threads``, in this process or as a command."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import ScriptInfo

from flask_agentuity import ThreadManager
from flask_agentuity.stores import ListedThread, ThreadStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.web import cli

#: Runs ``flask threads`` with arguments, and with options of ``CliRunner.invoke``.
Runner = Callable[..., Result]

#: Seconds after which a test gives up waiting.
PATIENCE = 30.0

ID = "thrd_0123456789abcdef0123456789abcdef"


def new_id() -> str:
    return f"thrd_{uuid4().hex}"


def runner_of(store: ThreadStore | str | None, folder: Path | None = None, **config: Any) -> Runner:
    """Return a function that runs ``flask threads`` on an app whose threads are in *store*."""
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


def export_lines(runner: Runner, *arguments: str) -> list[Any]:
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


def run(
    place: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdout: Any = subprocess.PIPE,
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*arguments),
        cwd=place,
        env=env,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
    )


def stored_at(place: Path, **options: Any) -> SQLiteStore:
    return SQLiteStore(place / "instance" / "agentuity_threads.db", **options)


class Reader:
    """Collects the output of a process."""

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


def damage(place: Path, thread_id: str) -> None:
    path = place / "instance" / "agentuity_threads.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        changed = connection.execute(
            "UPDATE thread_entries SET value = CAST('{\"a' AS BLOB) WHERE thread ="
            " (SELECT number FROM threads WHERE id = ?)",
            (thread_id,),
        )
        assert changed.rowcount == 1


def line_of(thread_id: str | None = None, **fields: Any) -> bytes:
    record = {"id": thread_id or new_id(), "created": 1.5, "updated": 2.5, "state": {"a": 1}}
    record |= fields
    kept = {name: value for name, value in record.items() if value is not ...}
    return json.dumps(kept, ensure_ascii=False).encode("utf-8", "surrogatepass")
