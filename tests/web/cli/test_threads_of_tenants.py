"""Commands on the store in which a thread service keeps the threads of its keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flask_agentuity.service.tenants import stored_id
from flask_agentuity.stores.sqlite.store import SQLiteStore

from .running import Runner, contents, runner_of

NAMESPACE = "e278dd64440b1f85c463"

#: What a client may use as the id of a thread: a usual one, the longest one, and any text.
IDS = ["thrd_" + "c" * 32, "thrd_" + "d" * 59, "agent-7", "a b/é\n%", "thrd_\U0001f600" * 12]
STORED = [stored_id(NAMESPACE, each) for each in IDS]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(tmp_path / "threads-tenants.db")) as store:
        for thread_id in STORED:
            store.save(thread_id, b'{"state":{"a":1}}')
        yield store


@pytest.fixture
def run(store: SQLiteStore) -> Runner:
    return runner_of(store)


def test_every_listed_thread_can_be_shown_and_deleted(run: Runner, store: SQLiteStore) -> None:
    for thread_id in STORED:
        shown = run("show", thread_id)
        assert (shown.exit_code, shown.stdout) == (0, f"{thread_id}\na: 1\n"), shown.stderr
        deleted = run("delete", thread_id, "--yes")
        assert (deleted.exit_code, deleted.stdout) == (0, f"Deleted {thread_id}.\n")
    assert run("list").stdout == "No threads.\n"


def test_the_beginning_of_an_id_is_enough(run: Runner, store: SQLiteStore) -> None:
    for written, thread_id in {
        f"thrd_{NAMESPACE}-d": STORED[1],
        f"{NAMESPACE}-d": STORED[1],
        f"{NAMESPACE}-ag": STORED[2],
        f"{NAMESPACE}-a%20": STORED[3],
    }.items():
        assert run("show", written).stdout.splitlines()[0] == thread_id
    several = run("show", f"{NAMESPACE}-a")
    assert several.exit_code == 1
    assert several.stderr == (
        f"Error: Several threads have an id that begins with {NAMESPACE}-a:\n"
        f"  {STORED[3]}\n  {STORED[2]}\n"
    )


def test_an_id_that_another_one_begins_with(run: Runner, store: SQLiteStore) -> None:
    store.save(f"{NAMESPACE}-agent-71", b'{"state":{"a":1}}')
    assert run("show", STORED[2]).stdout.splitlines()[0] == STORED[2]


def test_an_export_can_be_imported(run: Runner, store: SQLiteStore, tmp_path: Path) -> None:
    file = tmp_path / "threads.jsonl"
    assert run("export", file).stdout == f"Exported {len(STORED)} threads.\n"
    with closing(SQLiteStore(tmp_path / "other.db")) as other:
        imported = runner_of(other)("import", file)
        assert imported.stderr == ""
        assert (
            imported.stdout
            == f"Imported {len(STORED)} threads; skipped 0 that were there already.\n"
        )
        assert contents(other).keys() == contents(store).keys()


@pytest.mark.parametrize(
    "wrong", ["agent-7", f"{NAMESPACE}-", f"{NAMESPACE}-a\n", f"{NAMESPACE}-a b"]
)
def test_what_no_service_stores_is_not_imported(run: Runner, tmp_path: Path, wrong: str) -> None:
    file = tmp_path / "threads.jsonl"
    written = wrong.replace("\n", "\\n")
    file.write_text(f'{{"id":"{written}","created":1.0,"updated":1.0,"state":{{"a":1}}}}\n')
    result = run("import", file)
    assert result.exit_code == 1
    assert "is not a thread id" in result.stderr
