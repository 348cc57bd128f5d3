"""All threads with some metadata, or of some owner."""

from __future__ import annotations

from typing import Any

import pytest

from ...document import codec
from ...document.operations import Clear, Push, Set, SetMetadata
from ...stores import ThreadStore
from .owners import write
from .stored import LONG, new_id
from .suite import Suite, needs


def found(store: ThreadStore, metadata: Any = None, owner: str | None = None) -> list[str]:
    """Return the ids that find_all() finds, each once."""
    return sorted({thread.id for thread in store.find_all(metadata, owner=owner)})


@needs("lists")
class ScanConformance(Suite):
    """What find_all() yields."""

    def test_all_threads_that_match(self, store: ThreadStore) -> None:
        ids: dict[tuple[str | None, str], list[str]] = {}
        for number in range(60):
            thread_id, owner = new_id(), ("ada", "bob", None)[number % 3]
            color = ("red", "blue")[number % 2]
            metadata = codec.encode({"color": color, "n": number, "app": True})
            write(store, thread_id, owner, Set("a", b"1"), SetMetadata(metadata))
            ids.setdefault((owner, color), []).append(thread_id)

        def expected(*keys: tuple[str | None, str]) -> list[str]:
            return sorted(thread_id for key in keys for thread_id in ids[key])

        assert found(store) == expected(*ids)
        assert found(store, {"app": True}) == expected(*ids)
        assert found(store, {"app": 1}) == []
        assert found(store, {"color": "red"}) == expected(
            ("ada", "red"), ("bob", "red"), (None, "red")
        )
        assert found(store, owner="ada") == expected(("ada", "red"), ("ada", "blue"))
        assert found(store, {"color": "blue", "app": True}, "bob") == expected(("bob", "blue"))
        assert found(store, {"n": 7}) == [ids["bob", "blue"][1]]
        assert found(store, {"n": 7}, "ada") == found(store, owner="eve") == []

    def test_what_is_gone_is_not_found(self, store: ThreadStore) -> None:
        ids = [new_id() for _ in range(4)]
        for thread_id in ids:
            write(store, thread_id, "ada", Set("a", b"1"), SetMetadata(b'{"m":1}'))
        store.delete(ids[0])
        write(store, ids[1], "ada", Clear(), SetMetadata(b"{}"))
        write(store, ids[2], "ada", SetMetadata(b'{"m":2}'))
        assert found(store, {"m": 1}) == [ids[3]]

    def test_long_values_are_compared_completely(self, store: ThreadStore) -> None:
        ids = [new_id() for _ in range(2)]
        for number, thread_id in enumerate(ids):
            metadata = codec.encode({"title": f"{LONG}{number}"})
            write(store, thread_id, None, Set("a", b"1"), SetMetadata(metadata))
        assert found(store, {"title": f"{LONG}1"}) == [ids[1]]

    def test_a_thread_that_changes_meanwhile_is_not_left_out(self, store: ThreadStore) -> None:
        ids = [new_id() for _ in range(1_200)]
        for thread_id in ids:
            store.merge(thread_id, [Set("a", b"1")], {"m": 1})
        met = set()
        for number, thread in enumerate(store.find_all({"m": 1})):
            met.add(thread.id)
            if number % 7 == 0:
                for other in (ids[number % 1_200], ids[-1 - number % 1_200]):
                    store.merge(other, [Push("l", b"1")])
        assert met == set(ids)

    def test_what_cannot_be_asked_for(self, store: ThreadStore) -> None:
        with pytest.raises(ValueError, match="found by"):
            store.find_all({"a": []})
        with pytest.raises(ValueError, match="owner"):
            store.find_all(owner="")
