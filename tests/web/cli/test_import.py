"""``flask threads import``."""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.minimal import MinimalStore

from flask_agentuity.document.operations import Set
from flask_agentuity.errors import StoreError
from flask_agentuity.stores import ListedThread, ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .running import ID, Runner, contents, line_of, new_id, runner_of


def test_an_import_that_stops_reports_its_progress(tmp_path: Path) -> None:
    class Full(MemoryStore):
        def import_thread(self, thread: ListedThread, document: bytes) -> bool:
            if len(self._threads) == 2:
                raise StoreError("it is full")
            return super().import_thread(thread, document)

    file = tmp_path / "threads.jsonl"
    file.write_bytes(b"".join(line_of(id=new_id()) + b"\n" for _ in range(4)))
    result = runner_of(Full())("import", file)
    assert result.exit_code == 1
    assert "stopped at line 3: it is full\nImported 2 threads before that line." in result.stderr


def test_only_what_is_newer_is_imported(tmp_path: Path) -> None:
    source, target = MemoryStore(), MemoryStore()
    file = tmp_path / "threads.jsonl"
    source.merge(ID, [Set("a", b"1")], {"m": 1})
    runner_of(source)("export", file)
    time.sleep(0.002)
    target.merge(ID, [Set("a", b"2")])
    result = runner_of(target)("import", file)
    assert result.stdout == "Imported 0 threads; skipped 1 that were there already.\n"
    assert target.restore(ID) == b'{"state":{"a":2}}'
    time.sleep(0.002)
    source.merge(ID, [Set("a", b"3")])
    runner_of(source)("export", file)
    result = runner_of(target)("import", file)
    assert result.stdout == "Imported 1 thread; skipped 0 that were there already.\n"
    assert target.restore(ID) == b'{"state":{"a":3},"metadata":{"m":1}}'


DAMAGED = {
    "cut": line_of()[:-5],
    "not UTF-8": line_of(state={"a": "Zoë"}).replace("ë".encode(), b"\xeb"),
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
    "a time that no float can be": line_of(updated=10**400),
    "a time after time": line_of(updated=1e300),
    "a time in the year 9999": line_of(updated=253_370_764_800),
    "a creation in the year 9999": line_of(created=253_370_764_800),
    "a time that is too large": line_of().replace(b"2.5", b"1e999"),
    "a state that is a list": line_of(state=[1]),
    "a state that is null": line_of(state=None),
    "metadata that is a text": line_of(metadata="owner"),
    "nothing": line_of(state={}, metadata={}),
    "a state over the limit": line_of(state={"a": "x" * 2_000}),
    "metadata over the limit": line_of(metadata={"a": "x" * 2_000}),
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
        named = re.findall(r"^Line (\d+) was skipped: \S", result.stderr, re.MULTILINE)
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
        assert again.stdout == f"Imported 0 threads; skipped {len(good)} that were there already.\n"


def test_a_line_is_read_with_what_it_has(
    threads: Runner, store: ThreadStore, tmp_path: Path
) -> None:
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


def test_an_import_into_a_store_that_cannot_take_it(tmp_path: Path) -> None:
    file = tmp_path / "threads.jsonl"
    file.write_bytes(b"\nnonsense\n" + line_of() + b"\n" + line_of())
    result = runner_of(MinimalStore(tmp_path))("import", file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Line 2 was skipped" in result.stderr
    assert "Error: The import stopped at line 3: MinimalStore cannot import" in result.stderr


def test_files_that_are_not_there(threads: Runner, tmp_path: Path) -> None:
    assert threads("import", tmp_path / "nothing").exit_code == 2
    assert threads("import", tmp_path).exit_code == 2
    assert threads("export", tmp_path).exit_code == 2
    result = threads("export", tmp_path / "nowhere" / "file")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
