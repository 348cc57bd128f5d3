"""``flask threads export``."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flask_agentuity.document.operations import Push, Set
from flask_agentuity.errors import ServiceUnavailable
from flask_agentuity.stores import ListedThread, ThreadStore
from flask_agentuity.stores.memory import MemoryStore

from .running import (
    ID,
    PATIENCE,
    Runner,
    command,
    damage,
    export_lines,
    line_of,
    new_id,
    run,
    runner_of,
    started,
    stored_at,
)


def test_a_terminated_export_leaves_no_file(place: Path) -> None:
    with closing(stored_at(place)) as store:
        for _ in range(3):
            store.merge(new_id(), [Set("a", b"1")])
    code = (
        "import os, signal, sys\n"
        "from flask_agentuity.stores.sqlite.store import SQLiteStore\n"
        "SQLiteStore.restore_without_renewing = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
        "from flask.cli import main\n"
        "sys.argv[0] = 'flask'\n"
        "main()\n"
    )
    ended = [sys.executable, "-c", code, *command("export", "threads.jsonl")[3:]]
    result = subprocess.run(ended, cwd=place, capture_output=True, timeout=PATIENCE)
    assert result.returncode == 128 + signal.SIGTERM, result.stderr
    assert [path for path in place.iterdir() if "jsonl" in path.name] == []


def test_an_export_leaves_signals_as_they_were(threads: Runner, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert threads("export", tmp_path / "threads.jsonl").exit_code == 0
    assert threads("export", tmp_path / "nowhere" / "threads.jsonl").exit_code == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_empty_export_is_an_empty_file(threads: Runner, tmp_path: Path) -> None:
    file = tmp_path / "threads.jsonl"
    result = threads("export", file)
    assert (result.exit_code, result.stdout) == (0, "Exported 0 threads.\n")
    assert file.read_bytes() == b""
    result = threads("import", file, "--json")
    assert json.loads(result.stdout) == {"imported": 0, "skipped": 0, "damaged_lines": []}


def test_the_summary_is_not_mixed_with_the_threads(
    threads: Runner, store: ThreadStore, tmp_path: Path
) -> None:
    store.merge(ID, [Set("a", b"1")])
    result = threads("export", "-")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [ID]
    assert result.stderr == "Exported 1 thread.\n"
    result = threads("export", "-", "--json")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [ID]
    assert json.loads(result.stderr) == {"exported": 1, "damaged": []}
    result = threads("export", tmp_path / "file", "--json")
    assert json.loads(result.stdout) == {"exported": 1, "damaged": []}
    assert result.stderr == ""


class Failing(MemoryStore):
    """Becomes unavailable during an export."""

    left = 3

    def restore_without_renewing(self, thread_id: str) -> bytes | None:
        self.left -= 1
        if self.left < 0:
            raise ServiceUnavailable("it went away")
        return super().restore_without_renewing(thread_id)


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
        assert f"Not exported: The stored data of thread {ID} is damaged" in result.stderr
        assert len(file.read_bytes().splitlines()) == 2


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
def test_where_an_export_goes(threads: Runner, store: ThreadStore, tmp_path: Path) -> None:
    store.merge(ID, [Set("a", b"1")])
    file, link = tmp_path / "threads.jsonl", tmp_path / "link"
    link.symlink_to(file)
    assert threads("export", link).exit_code == 0
    assert link.is_symlink()
    assert json.loads(file.read_bytes())["id"] == ID
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # A device is written to, not replaced.
    assert threads("export", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()
    if Path("/dev/full").exists():
        result = threads("export", "/dev/full")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "/dev/full cannot be written" in result.stderr


class Restless(MemoryStore):
    """Lists each thread twice, as a store may when threads change during the scan."""

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


def test_many_threads_are_exported(threads: Runner, store: ThreadStore) -> None:
    ids = [new_id() for _ in range(2_003)]
    for thread_id in ids:
        store.merge(thread_id, [Set("a", b"1")])
    assert sorted(line["id"] for line in export_lines(threads)) == sorted(ids)


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
                pass  # Linux reports the closed side of a terminal as an error.
            assert process.stdout is not None
            output = process.stdout.read()
            assert process.wait(PATIENCE) in (0, 1)
        return output, said.decode()

    output, said = on_a_terminal("export", str(file), "--json")
    assert json.loads(output)["exported"] == 30
    assert re.search("Threads exported: 30 *\x1b\\[[?]25h\r\n$", said)
    with file.open("ab") as lines:
        lines.write(b"nonsense\n" + line_of() + b"\n")
    output, said = on_a_terminal("import", str(file), "--json")
    assert json.loads(output)["imported"] == 1
    assert "\r\x1b[KLine 31 was skipped: " in said
    assert re.search("Lines read: 32 *\x1b\\[[?]25h\r\n$", said)
    result = run(place, "export", str(file))
    assert (result.stdout, result.stderr) == (b"Exported 31 threads.\n", b"")
