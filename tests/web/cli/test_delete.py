"""``flask threads delete`` and ``purge``."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from freezegun import freeze_time

from flask_agentuity.document.operations import Set
from flask_agentuity.errors import ServiceUnavailable
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore

from .running import ID, Runner, damage, new_id, runner_of, stored_at


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
        assert runner("purge", "--json", input="n\n").exit_code == 1
        result = runner("purge", "--json", input="y\n")
        assert json.loads(result.stdout) == {"removed": 45}
        result = runner("purge", "-y")
        assert (result.stdout, result.stderr) == ("Removed 0 expired threads.\n", "")
        assert store.restore(kept) is not None
