"""Listing threads by their metadata."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from ...document import codec
from ...document.operations import Clear, Delete, Set
from ...errors import StateTooLarge
from ...stores import ThreadStore
from ...stores.listing import MOST_TERMS
from .stored import (
    LONG,
    fill,
    listed,
    new_id,
    pages_of,
)
from .suite import ODD_KEYS, Clock, Suite, needs

#: Values that a filter must distinguish; texts of more than 400 bytes differ at their ends.
VALUES: list[Any] = [
    *(1, 1.0, True, "1", "1.0", "true", "True"),
    *(0, 0.0, False, None, "", "0", "null", "None", " "),
    *(2**63, -(2**63), 0.1, 1e100),
    *("Zoë", "Zoe\u0308", "ZOË", "😀", "quote \" ' \\", "nul \0", "%", "_", "*", "a\nb"),
    *(LONG, LONG + "a", LONG + "b", "é" * 300, "é" * 300 + "a", "x" + "é" * 300, "x" + "é" * 301),
]


@needs("lists")
class FilterConformance(Suite):
    """Filters, and the index that serves them."""

    def test_values_are_told_apart_by_type_and_to_the_end(self, store: ThreadStore) -> None:
        different = {codec.encode(value): value for value in VALUES}
        ids = {}
        for encoded, value in different.items():
            (ids[encoded],) = fill(store, 1, {"v": value})
        for encoded, value in different.items():
            assert listed(store, {"v": value}) == [ids[encoded]], value

    def test_long_values_are_paged(self, store: ThreadStore) -> None:
        """An index may keep only the beginnings, so it may find threads that do not match."""
        wanted, others = LONG + "wanted", LONG + "other"
        ids = []
        for number in range(40):
            (thread_id,) = fill(store, 1, {"v": wanted if number % 4 == 0 else others})
            ids.append(thread_id)
        pages = pages_of(store, {"v": wanted}, 3)
        assert [thread.id for page in pages for thread in page.threads] == ids[::4][::-1]
        assert [len(page.threads) for page in pages] == [3, 3, 3, 1]

    def test_a_thread_is_found_by_a_limited_number_of_values(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        """So that a change to the metadata writes a limited number of index entries."""
        values = {f"key {number}": number for number in range(MOST_TERMS + 10)}
        store.merge(thread_id, [Set("a", b"1")], {"list": [1], **values})
        for number in (0, 1, MOST_TERMS - 1):
            assert listed(store, {f"key {number}": number}) == [thread_id]
        for number in (MOST_TERMS, MOST_TERMS + 9):
            assert listed(store, {f"key {number}": number}) == []
        # A key that is removed makes room for the next one.
        del values["key 1"]
        store.merge(thread_id, [], values)
        assert listed(store, {"key 1": 1}) == []
        assert listed(store, {f"key {MOST_TERMS}": MOST_TERMS}) == [thread_id]

    @pytest.mark.parametrize("key", ODD_KEYS, ids=lambda key: ascii(key[:20]))
    def test_odd_keys_can_be_asked_for(self, store: ThreadStore, thread_id: str, key: str) -> None:
        fill(store, 1, {"another": "v"})
        store.merge(thread_id, [], {key: "v", "second": 2})
        assert listed(store, {key: "v"}) == [thread_id]
        assert listed(store, {key: "w"}) == []

    def test_all_conditions_must_hold(self, store: ThreadStore) -> None:
        both, first, second = (
            fill(store, 1, metadata)[0]
            for metadata in ({"a": 1, "b": 2, "c": []}, {"a": 1, "b": 3}, {"a": 2, "b": 2})
        )
        assert listed(store, {"a": 1, "b": 2}) == [both]
        assert listed(store, {"a": 1}) == [first, both]
        assert listed(store, {"b": 2}) == [second, both]
        assert listed(store, {"a": 1, "d": None}) == []
        assert listed(store, {}) == [second, first, both]

    def test_an_absent_key_is_not_none(self, store: ThreadStore) -> None:
        fill(store, 1, {"b": 1})
        (thread_id,) = fill(store, 1, {"a": None})
        assert listed(store, {"a": None}) == [thread_id]

    def test_what_is_no_scalar_is_kept_and_not_found(self, store: ThreadStore) -> None:
        (thread_id,) = fill(store, 1, {"tags": ["a"], "owner": "ada", "more": {"owner": "bob"}})
        assert listed(store, {"owner": "ada"}) == [thread_id]
        assert listed(store, {"tags": '["a"]'}) == []
        assert listed(store, {"owner": "bob"}) == []

    # The index follows

    def test_metadata_that_changes(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [Set("a", b"1")], {"owner": "ada", "title": "one"})
        store.merge(thread_id, [], {"owner": "bob", "title": "one"})
        assert listed(store, {"owner": "ada"}) == []
        assert listed(store, {"owner": "bob", "title": "one"}) == [thread_id]
        store.save(thread_id, b'{"state":{"a":2}}', {"owner": "eve"})
        assert listed(store, {"title": "one"}) == []
        assert listed(store, {"owner": "eve"}) == [thread_id]
        store.save(thread_id, b'{"state":{"a":3}}')
        assert listed(store, {"owner": "eve"}) == [thread_id]
        store.merge(thread_id, [], {"owner": ["eve"]})
        assert listed(store, {"owner": "eve"}) == []

    def test_metadata_that_is_emptied(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [Set("a", b"1")], {"owner": "ada"})
        store.merge(thread_id, [], {})
        assert listed(store, {"owner": "ada"}) == []
        assert listed(store) == [thread_id]

    def test_metadata_outlives_the_state(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [Set("a", b"1")], {"topic": "sea"})
        store.merge(thread_id, [Clear()])
        assert listed(store, {"topic": "sea"}) == [thread_id]

    @pytest.mark.parametrize("way", ["deleted", "emptied", "saved as nothing"])
    def test_a_thread_that_is_gone(self, store: ThreadStore, thread_id: str, way: str) -> None:
        store.merge(thread_id, [Set("a", b"1")], {"owner": "ada"})
        if way == "deleted":
            store.delete(thread_id)
        elif way == "emptied":
            store.merge(thread_id, [Delete("a")], {})
        else:
            store.save(thread_id, b"", {})
        assert listed(store) == listed(store, {"owner": "ada"}) == []
        store.merge(thread_id, [Set("a", b"1")])
        assert listed(store) == [thread_id]
        assert listed(store, {"owner": "ada"}) == []

    def test_what_was_refused_changes_no_index(self, place: Any, thread_id: str) -> None:
        with closing(self.open(place, max_bytes=1_000)) as store:
            store.merge(thread_id, [Set("a", b"1")], {"owner": "ada"})
            with pytest.raises(StateTooLarge):
                store.merge(thread_id, [], {"owner": "bob", "more": "x" * 1_000})
            assert listed(store, {"owner": "ada"}) == [thread_id]
            assert listed(store, {"owner": "bob"}) == []

    def test_an_expired_thread_is_not_listed(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            store.merge(thread_id, [Set("a", b"1")], {"owner": "ada"})
            used = new_id()
            store.merge(used, [Set("a", b"1")], {"owner": "ada"})
            clock.advance(60)
            assert store.read(used) is not None
            clock.advance(60)
            assert listed(store) == listed(store, {"owner": "ada"}) == [used]
            # It starts again, without its metadata.
            store.merge(thread_id, [Set("b", b"1")])
            assert listed(store) == [thread_id, used]
            assert listed(store, {"owner": "ada"}) == [used]

    def test_pages_leave_expired_threads_out(self, place: Any, clock: Clock) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            ids = fill(store, 12, {"owner": "ada"})
            clock.advance(60)
            kept = ids[::3]
            for thread_id in kept:
                assert store.read(thread_id) is not None
            clock.advance(60)
            for wanted in (None, {"owner": "ada"}):
                pages = pages_of(store, wanted, 2)
                found = [thread.id for page in pages for thread in page.threads]
                assert sorted(found) == sorted(kept)

    # Wrong questions

    @pytest.mark.parametrize(
        "cursor",
        [
            *("nonsense", "!", "é", "bnVsbA", "W10", "WzFd", "WyJhIiwiYiJd", "e30", "A", "=", "\0"),
            # ["nan","x"], ["1","x"], [true,"x"], [1,2]
            *("WyJuYW4iLCJ4Il0", "WyIxIiwieCJd", "W3RydWUsIngiXQ", "WzEsMl0"),
            # [1000...000,"x"]
            "WzEw" + "MDAw" * 200 + "LCJ4Il0",
        ],
    )
    def test_a_wrong_cursor_is_a_clear_error(self, store: ThreadStore, cursor: str) -> None:
        fill(store, 3)
        with pytest.raises(ValueError, match="is not the cursor of a listing"):
            store.list(cursor=cursor)

    @pytest.mark.parametrize("limit", [1_001, 2**31, 2**63, 10**30])
    def test_a_page_has_a_limited_length(self, store: ThreadStore, limit: int) -> None:
        ids = fill(store, 3)
        assert listed(store, {}, limit=limit) == ids[::-1]

    @pytest.mark.parametrize(
        "wanted",
        [
            {"tags": ["a"]},
            {"tags": {"a": 1}},
            {"tags": ("a",)},
            {"tags": {"a"}},
            {"tags": b"a"},
            {"tags": object()},
            {"tags": float("nan")},
            {"tags": float("inf")},
            {"tags": 2**64},
            {"a": "fine", "tags": []},
        ],
        ids=lambda wanted: type(wanted["tags"]).__name__,
    )
    def test_a_filter_by_what_no_index_has_is_a_clear_error(
        self, store: ThreadStore, wanted: dict[str, Any]
    ) -> None:
        for _ in range(2):
            with pytest.raises(ValueError, match="tags"):
                store.list(wanted)
            fill(store, 2, {"tags": "a", "a": "fine"})

    @pytest.mark.parametrize("key", [5, None, b"a", ("a",)])
    def test_a_filter_by_what_is_no_key_is_a_clear_error(
        self, store: ThreadStore, key: Any
    ) -> None:
        fill(store, 2, {"5": "a"})
        with pytest.raises(ValueError, match="keys of metadata are strings"):
            store.list({key: "a"})

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_page_of_nothing_is_a_clear_error(self, store: ThreadStore, limit: int) -> None:
        fill(store, 2)
        with pytest.raises(ValueError, match=f"limit={limit}"):
            store.list(limit=limit)
