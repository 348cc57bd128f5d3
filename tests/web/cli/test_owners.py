"""The commands for all threads of one person."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flask_agentuity import ThreadManager
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.web.app_threads import threads_of

from .running import Runner, new_id, runner_of


def store_thread(store: ThreadStore, owner: str | None, **state: Any) -> str:
    from flask import Flask

    app = Flask("storing")
    app.secret_key = "tested"
    threads = ThreadManager(app, store=store)
    with threads.open(new_id(), owner=owner) as thread:
        thread.state.update(state)
        thread.metadata["topic"] = str(state)
        assert threads_of(app).store is store
        return thread.id


def test_erase(threads: Runner, store: ThreadStore) -> None:
    ids = [store_thread(store, owner, n=1) for owner in ("ada", "ada", "bob", None)]
    asked = threads("erase", "--owner", "ada", input="n\n")
    assert asked.exit_code == 1
    assert store.restore(ids[0])
    erased = threads("erase", "--owner", "ada", "--yes")
    assert erased.output == "Deleted 2 threads of ada.\n"
    assert [store.restore(thread_id) is None for thread_id in ids] == [True, True, False, False]
    again = threads("erase", "--owner", "ada", "--yes", "--json")
    assert json.loads(again.output) == {"owner": "ada", "erased": 0}
    assert threads("erase", "--yes").exit_code == 2
    assert threads("erase", "--owner", "", "--yes").exit_code == 2


def test_list_of_one_person(threads: Runner, store: ThreadStore) -> None:
    thread_id, _ = store_thread(store, "5", n=1), store_thread(store, "6", n=1)
    listed = json.loads(threads("list", "--owner", "5", "--json").output)["threads"]
    assert [(each["id"], each["owner"]) for each in listed] == [(thread_id, "5")]
    assert threads("list", "--owner", "").exit_code == 2


@pytest.mark.parametrize("to", ["memory", "sqlite"])
def test_owners_survive_an_export(
    threads: Runner, store: ThreadStore, tmp_path: Path, to: str
) -> None:
    ids = {store_thread(store, owner, n=1): owner for owner in ("ada", "bob", None)}
    file = tmp_path / "all.jsonl"
    threads("export", file)
    other = MemoryStore() if to == "memory" else SQLiteStore(tmp_path / "other.db")
    with closing(other):
        runner_of(other)("import", file)
        assert {thread.id: thread.owner for thread in other.scan()} == ids


def test_export_of_one_person(threads: Runner, store: ThreadStore, tmp_path: Path) -> None:
    file = tmp_path / "ada.jsonl"
    wanted = {store_thread(store, "ada", n=n) for n in range(3)}
    store_thread(store, "bob", n=0)
    exported = threads("export", file, "--owner", "ada")
    assert exported.output == "Exported 3 threads.\n"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["id"] for line in lines} == wanted
    assert {line["owner"] for line in lines} == {"ada"}
    threads("export", file, "--owner", "ada", "--where", "topic=\"{'n': 1}\"")
    assert [json.loads(line)["state"] for line in file.read_text().splitlines()] == [{"n": 1}]


def test_an_owner_that_is_none_is_not_imported(
    threads: Runner, store: ThreadStore, tmp_path: Path
) -> None:
    record = {"id": new_id(), "created": 1.0, "updated": 1.0, "state": {"a": 1}, "owner": 5}
    file = tmp_path / "wrong.jsonl"
    file.write_text(json.dumps(record) + "\n" + json.dumps(record | {"owner": ""}) + "\n")
    assert json.loads(threads("import", file, "--json").stdout)["damaged_lines"] == [1, 2]
