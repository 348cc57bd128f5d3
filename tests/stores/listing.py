"""What a store that lists, takes threads over and gives turns must do, as tests for any of them.

Subclass :class:`ListingConformance` as one subclasses ``StoreConformance``: with the same
``open``, and ``place`` and ``clock`` where the store needs others.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from freezegun import freeze_time

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Clear, Delete, Operation, Push, Set
from flask_agentuity.errors import StateTooLarge
from flask_agentuity.stores import ListedThread, Page, ThreadStore

from .conformance import ODD_KEYS, PATIENCE, Clock, new_id, pushes, with_all_done

LONG = "x" * 500
#: Values that a filter must tell apart; texts of more than 400 bytes differ in their ends.
VALUES: list[Any] = [
    *(1, 1.0, True, "1", "1.0", "true", "True"),
    *(0, 0.0, False, None, "", "0", "null", "None", " "),
    *(2**63, -(2**63), 0.1, 1e100),
    *("Zoë", "Zoe\u0308", "ZOË", "😀", "quote \" ' \\", "nul \0", "%", "_", "*", "a\nb"),
    *(LONG, LONG + "a", LONG + "b", "é" * 300, "é" * 300 + "a", "x" + "é" * 300, "x" + "é" * 301),
]


class ListingConformance:
    """Every clause of list(), adopt(), purge() and the turns."""

    #: Whether a second store opened on the same place sees the threads of the first.
    shared: ClassVar[bool] = False

    @pytest.fixture
    def place(self, tmp_path: Path) -> Any:
        """Where the threads of one test live; anything that :meth:`open` understands."""
        return tmp_path

    def open(self, place: Any, **options: Any) -> ThreadStore:
        """Return a store on *place*; *options* are ``ttl`` and ``max_bytes``."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self, place: Any) -> Iterator[Clock]:
        """Time that the test moves; a store that goes by ``time.time`` needs no other."""
        with freeze_time("2030-01-01", ignore=["_pytest.timing"]) as frozen:
            yield Clock(frozen.tick)

    @pytest.fixture
    def store(self, place: Any) -> Iterator[ThreadStore]:
        with closing(self.open(place)) as store:
            yield store

    @pytest.fixture
    def thread_id(self) -> str:
        return new_id()

    # What a listing says

    def test_nothing_is_listed_of_nothing(self, store: ThreadStore) -> None:
        assert store.list() == Page([], None)
        assert store.list({"owner": "ada"}) == Page([], None)

    def test_the_latest_updated_comes_first(self, store: ThreadStore) -> None:
        ids = fill(store, 5)
        assert listed(store) == ids[::-1]
        change(store, ids[1], [Push("l", b"1")])
        change(store, ids[3], [], {"m": 1})
        assert listed(store) == [ids[3], ids[1], ids[4], ids[2], ids[0]]
        change(store, ids[1], [Push("l", b"2")])
        assert listed(store) == [ids[1], ids[3], ids[4], ids[2], ids[0]]

    def test_reading_does_not_move_a_thread(self, store: ThreadStore) -> None:
        ids = fill(store, 3)
        before = store.list()
        store.read(ids[0])
        store.restore(ids[0])
        assert store.list() == before

    def test_times_are_those_of_the_first_and_the_last_write(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        began = time.time()
        change(store, thread_id, [Set("a", b"1")])
        first = only(store)
        assert began - 0.01 <= first.created <= time.time() + 0.01
        assert first.updated - first.created < PATIENCE
        change(store, thread_id, [Set("a", b"2")])
        second = only(store)
        assert second.created == first.created
        assert second.updated > first.updated
        store.delete(thread_id)
        change(store, thread_id, [Set("a", b"3")])
        assert only(store).created > second.updated

    @pytest.mark.parametrize("metadata", [None, {"owner": "Zoë", "tags": [1, {"a": None}]}])
    def test_size_and_metadata_are_those_of_the_document(
        self, store: ThreadStore, thread_id: str, metadata: Mapping[str, Any] | None
    ) -> None:
        text = codec.encode("é" * 3_000)
        steps: list[list[Operation]] = [
            [Set(key, b'"\xc3\xa9"') for key in ODD_KEYS],
            [*pushes("l", range(2_000)), Set("long", text), Set("empty", b"[]")],
            [Push("l", b'{"a":[]}', max_records=7), Push("empty", text, max_records=1)],
            [Delete("long"), Delete(ODD_KEYS[0]), Set("l", b"[1,2]"), Push("new", b"[[]]", 0)],
            [Set("l", b"null"), Set("empty", b"{}"), *(Delete(key) for key in ODD_KEYS)],
            [Clear(), Push("l", b"1")],
        ]
        for step in steps:
            store.merge(thread_id, step, metadata)
            thread = only(store)
            assert thread.size == len(store.restore(thread_id) or b"")
            assert thread.metadata == (metadata or {})
            metadata = None if metadata is None else {**metadata, "turn": thread.size}

    def test_a_thread_of_metadata_alone_is_listed(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [], {"owner": "ada"})
        thread = only(store)
        assert thread.size == len(b'{"metadata":{"owner":"ada"}}')
        assert listed(store, {"owner": "ada"}) == [thread_id]

    # All of them

    def test_a_scan_is_what_all_pages_have(self, store: ThreadStore) -> None:
        fill(store, 7, {"owner": "ada"})
        fill(store, 5)
        pages = [thread for page in pages_of(store, None, 5) for thread in page.threads]
        assert sorted(store.scan(), key=lambda thread: thread.id) == sorted(
            pages, key=lambda thread: thread.id
        )

    def test_a_scan_misses_nothing_that_stays(self, store: ThreadStore) -> None:
        chance = random.Random(20261124)
        ids, doomed = [new_id() for _ in range(2_500)], [new_id() for _ in range(300)]
        for thread_id in [*ids, *doomed]:
            store.merge(thread_id, [Set("a", b"1")])
        found = []
        for thread in store.scan():
            found.append(thread.id)
            if len(found) % 10 == 0:
                for _ in range(5):
                    store.merge(chance.choice(ids), [Push("l", b"1")])
                store.merge(new_id(), [Set("a", b"1")])
                if doomed:
                    store.delete(doomed.pop())
            assert len(found) < 10_000
        assert set(ids) <= set(found)

    def test_a_scan_leaves_out_what_has_expired(self, place: Any, clock: Clock) -> None:
        with closing(self.open(place, ttl=10.0)) as store:
            old = fill(store, 3)
            clock.advance(8.0)
            new = fill(store, 2)
            assert {thread.id for thread in store.scan()} == {*old, *new}
            clock.advance(4.0)
            assert {thread.id for thread in store.scan()} == set(new)

    def test_peeking_is_no_use(self, place: Any, clock: Clock, thread_id: str) -> None:
        other = new_id()
        with closing(self.open(place, ttl=10.0)) as store:
            for known in (thread_id, other):
                store.merge(known, [Push("l", b"1"), Set("t", codec.encode("x" * 2_000))], {"m": 1})
            document = store.restore(thread_id)
            assert store.peek(new_id()) is None
            clock.advance(8.0)
            assert store.peek(thread_id) == document
            assert store.restore(other) == document
            assert len(list(store.scan())) == 2
            clock.advance(4.0)
            assert store.peek(thread_id) is None
            assert store.peek(other) == document

    # Pages

    @pytest.mark.parametrize("limit", [1, 2, 5, 22, 23, 24, 1000])
    @pytest.mark.parametrize("wanted", [None, {"owner": "ada"}], ids=["all", "by owner"])
    def test_pages_are_complete_and_without_doubles(
        self, store: ThreadStore, limit: int, wanted: Mapping[str, Any] | None
    ) -> None:
        ids = fill(store, 23, {"owner": "ada"})
        others = fill(store, 5, {"owner": "bob"})
        expected = ids[::-1] if wanted else [*others[::-1], *ids[::-1]]
        pages = pages_of(store, wanted, limit)
        assert [thread.id for page in pages for thread in page.threads] == expected
        assert all(len(page.threads) == limit for page in pages[:-1])
        assert 1 <= len(pages[-1].threads) <= limit
        assert len(pages) == -(-len(expected) // limit)

    def test_threads_of_one_moment_are_all_paged(self, place: Any) -> None:
        with closing(self.open(place, ttl=None)) as store:
            ids = [new_id() for _ in range(9)]
            for thread_id in ids:
                assert store.adopt(ListedThread(thread_id, {}, 5.0, 7.0, 0), b'{"a":1}')
            found = [thread.id for page in pages_of(store, None, 2) for thread in page.threads]
            assert found == sorted(ids, reverse=True)

    def test_what_holds_when_threads_change_between_pages(self, store: ThreadStore) -> None:
        """A thread that nobody touches is seen exactly once, and none is seen twice."""
        ids = fill(store, 12, {"owner": "ada"})
        newest_first = ids[::-1]
        first = store.list({"owner": "ada"}, limit=4)
        seen = [thread.id for thread in first.threads]
        assert seen == newest_first[:4]
        updated_seen, updated_unseen = newest_first[1], newest_first[6]
        change(store, updated_seen, [Push("l", b"1")])
        change(store, updated_unseen, [Push("l", b"1")])
        store.delete(newest_first[7])
        change(store, newest_first[8], [], {"owner": "bob"})
        fill(store, 1, {"owner": "ada"})
        cursor = first.cursor
        while cursor:
            page = store.list({"owner": "ada"}, limit=2, cursor=cursor)
            seen += [thread.id for thread in page.threads]
            cursor = page.cursor
        assert seen == [*newest_first[:6], *newest_first[9:]]
        # One that was still to come has moved to the front.
        assert updated_unseen in listed(store, {"owner": "ada"}, limit=3)

    def test_the_thread_that_a_cursor_was_made_of_may_go(self, store: ThreadStore) -> None:
        ids = fill(store, 4)
        page = store.list(limit=2)
        store.delete(page.threads[-1].id)
        assert [thread.id for thread in store.list(cursor=page.cursor).threads] == ids[1::-1]

    def test_a_listing_goes_on_while_others_write(self, store: ThreadStore) -> None:
        still = fill(store, 30, {"owner": "ada"})
        busy = fill(store, 5, {"owner": "ada"})
        done = threading.Event()
        passes: list[list[str]] = []

        def write(name: int) -> None:
            while not done.is_set():
                for thread_id in busy:
                    store.merge(thread_id, [Push("l", b"1", 3)], {"owner": "ada", "n": name})

        def look() -> None:
            try:
                for _ in range(15):
                    pages = pages_of(store, {"owner": "ada"}, 4)
                    passes.append([thread.id for page in pages for thread in page.threads])
            finally:
                done.set()

        with_all_done(lambda name: write(name) if name else look(), range(3))
        for found in passes:
            assert len(found) == len(set(found))
            assert [thread_id for thread_id in found if thread_id in still] == still[::-1]

    # Filters

    def test_values_are_told_apart_by_type_and_to_the_end(self, store: ThreadStore) -> None:
        different = {codec.encode(value): value for value in VALUES}
        ids = {}
        for encoded, value in different.items():
            (ids[encoded],) = fill(store, 1, {"v": value})
        for encoded, value in different.items():
            assert listed(store, {"v": value}) == [ids[encoded]], value

    def test_long_values_are_paged(self, store: ThreadStore) -> None:
        """The index may hold their beginnings only: what it finds too much is left out."""
        wanted, others = LONG + "wanted", LONG + "other"
        ids = []
        for number in range(40):
            (thread_id,) = fill(store, 1, {"v": wanted if number % 4 == 0 else others})
            ids.append(thread_id)
        pages = pages_of(store, {"v": wanted}, 3)
        assert [thread.id for page in pages for thread in page.threads] == ids[::4][::-1]
        assert [len(page.threads) for page in pages] == [3, 3, 3, 1]

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
        store.merge(thread_id, [Set("a", b"1")], {"owner": "ada"})
        store.merge(thread_id, [Clear()])
        assert listed(store, {"owner": "ada"}) == [thread_id]

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
            # It begins anew, with nothing of what it was.
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

    # What is asked wrongly

    @pytest.mark.parametrize(
        "cursor",
        ["nonsense", "!", "é", "bnVsbA", "W10", "WzFd", "WyJhIiwiYiJd", "e30", "A", "=", "\0"],
    )
    def test_a_wrong_cursor_is_a_clear_error(self, store: ThreadStore, cursor: str) -> None:
        fill(store, 3)
        with pytest.raises(ValueError, match="is not the cursor of a listing"):
            store.list(cursor=cursor)

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
            {"tags": "\ud800"},
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
        with pytest.raises(ValueError, match="keys of metadata are texts"):
            store.list({key: "a"})

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_page_of_nothing_is_a_clear_error(self, store: ThreadStore, limit: int) -> None:
        fill(store, 2)
        with pytest.raises(ValueError, match=f"limit={limit}"):
            store.list(limit=limit)

    # Taking threads over

    def test_adopting_keeps_everything(self, store: ThreadStore, thread_id: str) -> None:
        now = time.time()
        document = codec.join_document(
            {key: codec.encode([key, {"n": 1.5}]) for key in ODD_KEYS}
            | {"l": codec.encode([{"text": "x" * 50}] * 3_000), "long": codec.encode("é" * 50_000)}
        )
        metadata = {"owner": "Zoë", "tags": [1, None], "title": LONG}
        thread = ListedThread(thread_id, metadata, now - 1000.125, now - 500.25, 1)
        assert store.adopt(thread, document) is True
        expected = document[:-1] + b',"metadata":%b}' % codec.encode(metadata)
        assert store.restore(thread_id) == expected
        assert only(store) == ListedThread(
            thread_id, metadata, now - 1000.125, now - 500.25, len(expected)
        )
        assert listed(store, {"title": LONG, "owner": "Zoë"}) == [thread_id]

    def test_an_adopted_thread_goes_on(self, store: ThreadStore, thread_id: str) -> None:
        then = time.time() - 500
        store.adopt(ListedThread(thread_id, {"m": 1}, then, then, 0), b'{"state":{"l":[1]}}')
        store.merge(thread_id, [Push("l", b"2"), Set("a", b"1")])
        assert store.restore(thread_id) == b'{"state":{"l":[1,2],"a":1},"metadata":{"m":1}}'
        thread = only(store)
        assert thread.created == then
        assert thread.updated > then + 400

    def test_adopted_threads_are_listed_by_their_times(self, store: ThreadStore) -> None:
        now = time.time()
        ids = [new_id() for _ in range(4)]
        for thread_id, age in zip(ids, (30, 10, 40, 20), strict=True):
            store.adopt(ListedThread(thread_id, {}, now - 50, now - age, 0), b'{"a":1}')
        assert listed(store) == [ids[1], ids[3], ids[0], ids[2]]

    def test_the_metadata_of_the_document_does_not_count(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        now = time.time()
        document = b'{"state":{"a":1},"metadata":{"owner":"bob"}}'
        store.adopt(ListedThread(thread_id, {"owner": "ada"}, now, now, 0), document)
        assert store.restore(thread_id) == b'{"state":{"a":1},"metadata":{"owner":"ada"}}'
        assert listed(store, {"owner": "bob"}) == []

    def test_only_a_newer_thread_replaces(self, store: ThreadStore, thread_id: str) -> None:
        now = time.time()

        def adopt(age: float, document: bytes, **metadata: str) -> bool:
            thread = ListedThread(thread_id, metadata, now - 100, now - age, 0)
            return store.adopt(thread, document)

        assert adopt(50, b'{"state":{"a":1,"l":[1,2]}}', owner="ada")
        before = store.list()
        assert not adopt(50, b'{"state":{"a":2}}', owner="bob")
        assert not adopt(51, b'{"state":{"a":2}}', owner="bob")
        assert store.list() == before
        assert listed(store, {"owner": "bob"}) == []
        assert store.restore(thread_id) == (
            b'{"state":{"a":1,"l":[1,2]},"metadata":{"owner":"ada"}}'
        )
        assert adopt(49, b'{"state":{"b":[3]}}', title="new")
        assert store.restore(thread_id) == b'{"state":{"b":[3]},"metadata":{"title":"new"}}'
        assert listed(store, {"owner": "ada"}) == []
        assert only(store).updated == now - 49

    def test_a_thread_in_use_here_is_newer(self, store: ThreadStore, thread_id: str) -> None:
        change(store, thread_id, [Set("a", b"1")])
        then = only(store).updated - 1
        assert not store.adopt(ListedThread(thread_id, {}, then, then, 0), b'{"state":{"a":2}}')
        assert store.restore(thread_id) == b'{"state":{"a":1}}'

    def test_adopting_keeps_to_the_limit(self, place: Any, thread_id: str) -> None:
        now = time.time()
        with closing(self.open(place, max_bytes=1_000)) as store:
            store.adopt(ListedThread(thread_id, {}, now, now - 9, 0), b'{"state":{"a":1}}')

            def adopt(size: int) -> bool:
                rest = size - len(b'{"state":{"a":""},"metadata":{"owner":"ada"}}')
                document = b'{"state":{"a":"%b"}}' % (b"x" * rest)
                return store.adopt(ListedThread(thread_id, {"owner": "ada"}, now, now, 0), document)

            with pytest.raises(StateTooLarge) as caught:
                adopt(1_001)
            assert (caught.value.size, caught.value.limit) == (1_001, 1_000)
            assert store.restore(thread_id) == b'{"state":{"a":1}}'
            assert listed(store, {"owner": "ada"}) == []
            assert adopt(1_000)
            assert only(store).size == 1_000

    def test_an_expired_thread_gives_way_to_the_adopted(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        now = time.time()
        thread = ListedThread(thread_id, {"owner": "ada"}, now - 9, now, 0)
        with closing(self.open(place, ttl=100.0)) as store:
            for _ in range(2):
                assert store.adopt(thread, b'{"state":{"a":1}}')
                assert not store.adopt(thread, b'{"state":{"a":1}}')
                clock.advance(101)
                assert store.restore(thread_id) is None

    def test_an_adopted_thread_lives_as_long_as_one_that_was_used_now(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        then = time.time() - 10_000
        with closing(self.open(place, ttl=100.0)) as store:
            assert store.adopt(ListedThread(thread_id, {}, then, then, 0), b'{"state":{"a":1}}')
            clock.advance(60)
            assert only(store).updated == then
            clock.advance(60)
            assert store.list() == Page([], None)

    def test_nothing_can_be_adopted(self, store: ThreadStore, thread_id: str) -> None:
        now = time.time()
        store.adopt(ListedThread(thread_id, {}, now - 9, now - 9, 0), b'{"state":{"a":1}}')
        store.adopt(ListedThread(thread_id, {}, now, now, 0), b"")
        assert store.restore(thread_id) is None
        assert store.list() == Page([], None)

    # Turns

    def test_one_at_a_time(self, store: ThreadStore, thread_id: str) -> None:
        assert store.take_turn(thread_id, "a", 60)
        assert not store.take_turn(thread_id, "b", 60)
        assert store.take_turn(thread_id, "a", 60)
        assert store.take_turn(new_id(), "b", 60)
        store.end_turn(thread_id, "b")
        assert not store.take_turn(thread_id, "b", 60)
        store.end_turn(thread_id, "a")
        assert store.take_turn(thread_id, "b", 60)

    def test_ending_a_turn_that_nobody_has(self, store: ThreadStore, thread_id: str) -> None:
        store.end_turn(thread_id, "a")
        store.take_turn(thread_id, "a", 60)
        store.end_turn(thread_id, "a")
        store.end_turn(thread_id, "a")
        assert store.take_turn(thread_id, "b", 60)

    def test_a_turn_ends_with_its_lease(self, place: Any, thread_id: str, clock: Clock) -> None:
        with closing(self.open(place)) as store:
            assert store.take_turn(thread_id, "a", 15)
            clock.advance(10)
            assert store.take_turn(thread_id, "a", 15)
            clock.advance(10)
            assert not store.take_turn(thread_id, "b", 15)
            clock.advance(6)
            assert store.take_turn(thread_id, "b", 15)
            # Whoever has lost it does not end another's.
            assert not store.take_turn(thread_id, "a", 15)
            store.end_turn(thread_id, "a")
            assert not store.take_turn(thread_id, "a", 15)

    def test_a_turn_is_no_thread(self, store: ThreadStore, thread_id: str) -> None:
        store.take_turn(thread_id, "a", 60)
        assert store.restore(thread_id) is None
        assert store.list() == Page([], None)
        store.merge(thread_id, [Set("a", b"1")])
        store.delete(thread_id)
        assert not store.take_turn(thread_id, "b", 60)

    def test_of_many_who_come_at_once_one_has_it(self, store: ThreadStore) -> None:
        ids = [new_id() for _ in range(20)]
        winners: list[tuple[str, int]] = []

        def run(name: int) -> None:
            start.wait(PATIENCE)
            for thread_id in ids:
                if store.take_turn(thread_id, str(name), 60):
                    winners.append((thread_id, name))

        start = threading.Barrier(6)
        with_all_done(run, range(6))
        assert sorted(thread_id for thread_id, _ in winners) == sorted(ids)

    def test_nobody_is_with_the_holder(self, store: ThreadStore, thread_id: str) -> None:
        inside: list[int] = []
        done: list[int] = []

        def run(name: int) -> None:
            for _ in range(15):
                while not store.take_turn(thread_id, str(name), 60):
                    time.sleep(0.0005)
                inside.append(name)
                assert inside == [name]
                inside.remove(name)
                done.append(name)
                store.end_turn(thread_id, str(name))

        with_all_done(run, range(4))
        assert len(done) == 60

    def test_turns_hold_across_stores_on_one_place(
        self, store: ThreadStore, place: Any, thread_id: str
    ) -> None:
        if not self.shared:
            pytest.skip("no second store can see the threads of this one")
        with closing(self.open(place)) as other:
            assert store.take_turn(thread_id, "a", 60)
            assert not other.take_turn(thread_id, "b", 60)
            other.end_turn(thread_id, "a")
            assert other.take_turn(thread_id, "b", 60)
            assert not store.take_turn(thread_id, "a", 60)


def change(
    store: ThreadStore,
    thread_id: str,
    operations: list[Operation],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Merge at a moment of its own: a store may count in milliseconds."""
    time.sleep(0.002)
    store.merge(thread_id, operations, metadata)


def fill(store: ThreadStore, count: int, metadata: Mapping[str, Any] | None = None) -> list[str]:
    """Store *count* threads, one after the other, and return their ids."""
    ids = [new_id() for _ in range(count)]
    for thread_id in ids:
        change(store, thread_id, [Set("a", b"1")], metadata)
    return ids


def listed(
    store: ThreadStore, metadata: Mapping[str, Any] | None = None, limit: int = 100
) -> list[str]:
    return [thread.id for thread in store.list(metadata, limit=limit).threads]


def only(store: ThreadStore) -> ListedThread:
    (thread,) = store.list().threads
    return thread


def pages_of(store: ThreadStore, metadata: Mapping[str, Any] | None, limit: int) -> list[Page]:
    """Return every page, and fail rather than go round for ever."""
    pages = [store.list(metadata, limit=limit)]
    while pages[-1].cursor is not None:
        assert len(pages) < 200
        pages.append(store.list(metadata, limit=limit, cursor=pages[-1].cursor))
    return pages
