"""``flask threads delete`` and ``purge``."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from freezegun import freeze_time

from flask_agentuity.document.operations import Set
from flask_agentuity.errors import ServiceUnavailable
from flask_agentuity.stores import ThreadStore, pacing
from flask_agentuity.stores.memory import MemoryStore

from .running import ID, Runner, damage, new_id, runner_of, stored_at


def test_a_damaged_thread_is_named_and_can_be_deleted(place: Path) -> None:
    with closing(stored_at(place)) as store:
        store.merge(ID, [Set("a", b"1")])
        damage(place, ID)
        runner = runner_of(store)
        result = runner("show", ID)
        assert result.exit_code == 1
        assert f"Error: The stored data of thread {ID} is damaged" in result.stderr
        assert runner("delete", ID, "-y").exit_code == 0
        assert store.restore(ID) is None


def test_an_unreachable_store_is_not_a_damaged_thread() -> None:
    """A deletion would be attempted, and hide the cause."""

    class Gone(MemoryStore):
        def read(self, thread_id: str, keys: Any = None) -> Any:
            raise ServiceUnavailable("there is no connection")

        def delete(self, thread_id: str) -> None:
            raise AssertionError("it cannot be known whether the thread is there")

    result = runner_of(Gone())("delete", ID, "-y")
    assert result.exit_code == 1
    assert "there is no connection" in result.stderr


def test_delete_asks_first(threads: Runner, store: ThreadStore) -> None:
    store.merge(ID, [Set("a", b"1")])
    for answer in ("n\n", "\n", ""):
        result = threads("delete", ID, "--json", input=answer)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"Delete thread {ID} permanently?" in result.stderr
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
        for _ in range(2):
            assert runner("purge", "--dry-run").stdout == "45 threads have expired.\n"
            assert json.loads(runner("purge", "--dry-run", "--json").stdout) == {"expired": 45}
        assert runner("purge", "--json", input="n\n").exit_code == 1
        result = runner("purge", "--json", input="y\n")
        assert json.loads(result.stdout) == {"removed": 45}
        result = runner("purge", "-y")
        assert (result.stdout, result.stderr) == ("Removed 0 expired threads.\n", "")
        assert store.restore(kept) is not None


def test_delete_by_metadata(threads: Runner, store: ThreadStore) -> None:
    ids = [new_id() for _ in range(1_203)]
    for number, thread_id in enumerate(ids):
        store.merge(thread_id, [Set("a", b"1")], {"odd": bool(number % 2), "owner": "ada"})
    result = threads("delete", "--where", "odd=true", "--where", "owner=ada", input="n\n")
    assert result.exit_code == 1
    assert "Delete 601 threads permanently?" in result.stderr
    result = threads("delete", "--where", "odd=true", "--where", "owner=ada", input="y\n")
    assert (result.exit_code, result.stdout) == (0, "Deleted 601 threads.\n")
    assert {thread.id for thread in store.scan()} == set(ids[::2])
    result = threads("delete", "--where", "owner=bob", "--json")
    assert json.loads(result.stdout) == {"deleted": []}
    result = threads("delete", "--where", "owner=ada", "--json", "--yes")
    assert sorted(json.loads(result.stdout)["deleted"]) == sorted(ids[::2])
    assert list(store.scan()) == []


def test_delete_needs_one_way_to_say_what(threads: Runner) -> None:
    for arguments in ([], [ID, "--where", "a=1"]):
        result = threads("delete", "-y", *arguments)
        assert result.exit_code == 2
        assert "either THREAD_ID or --where" in result.stderr


def test_deleting_many_leaves_pauses(
    threads: Runner, store: ThreadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In which the app can write."""
    pauses: list[float] = []
    monkeypatch.setattr(
        pacing, "time", SimpleNamespace(sleep=pauses.append, perf_counter=time.perf_counter)
    )
    for _ in range(12):
        store.merge(new_id(), [Set("a", b"1")], {"m": 1})
    assert threads("delete", "--where", "m=1", "-y").exit_code == 0
    # After five, ten and twelve.
    assert len(pauses) == 3
    assert min(pauses) > 0
