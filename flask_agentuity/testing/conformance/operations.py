"""Operations: merged in order, all or none."""

from __future__ import annotations

import logging

import pytest

from ...document.codec import Snapshot
from ...document.operations import Clear, Delete, Operation, Push, Set
from ...errors import StateNotSerializable
from ...stores import ThreadStore
from .stored import (
    pushes,
    snapshot_of,
    warnings_of,
)
from .suite import ODD_KEYS, Suite


class OperationConformance(Suite):
    """What each operation does to a stored state."""

    @pytest.mark.parametrize(
        "changes",
        [
            [Push("a", b"null")],
            [Push("a", b'[{"x":null}]'), Push("a", b"3")],
            [Push("a", b"null", 2), Push("a", b"3", 2)],
            [Set("a", b"null")],
            [Set("a", b"[1,null]"), Push("a", b"2")],
            [Set("a", b"[null]"), Set("a", b"[1]"), Push("a", b"null")],
            [Delete("a"), Push("a", b"null")],
            [Clear(), Set("a", b'["%b",null]' % (b"x" * 9_000))],
        ],
    )
    def test_a_null_that_comes_is_not_denied(
        self, store: ThreadStore, thread_id: str, changes: list[Operation]
    ) -> None:
        """If a store says which values hold no null, it has to be right; it need not say it."""
        for calls in ([[change] for change in changes], [changes]):
            for before in (b"[1]", b"[null]"):
                store.delete(thread_id)
                store.merge(thread_id, [Set("a", before), Set("b", b"1"), Push("c", b'"nul"')])
                for call in calls:
                    store.merge(thread_id, call)
                assert "a" not in snapshot_of(store, thread_id).without_null
                assert "a" not in snapshot_of(store, thread_id, ["a"]).without_null

    def test_operations_apply_in_order(self, store: ThreadStore, thread_id: str) -> None:
        store.save(thread_id, b'{"state":{"a":1,"l":[1],"gone":0}}')
        self.merge_and_compare(
            store,
            thread_id,
            [
                Delete("gone"),
                Push("l", b"2"),
                Set("a", b'"x"'),
                Set("l", b"[9]"),
                Push("l", b"10"),
                Delete("a"),
                Set("a", b"[]"),
                Push("a", b"{}"),
                Delete("missing"),
                Push("new", b"null"),
            ],
        )
        assert store.restore(thread_id) == b'{"state":{"l":[9,10],"a":[{}],"new":[null]}}'

    def test_a_set_keeps_its_place_and_a_new_one_goes_last(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store.save(thread_id, b'{"state":{"a":1,"b":[1],"c":3}}')
        store.merge(thread_id, [Set("b", b"2"), Set("a", b"[5]"), Push("a", b"6")])
        assert store.restore(thread_id) == b'{"state":{"a":[5,6],"b":2,"c":3}}'
        store.merge(thread_id, [Delete("a"), Set("a", b"7")])
        assert store.restore(thread_id) == b'{"state":{"b":2,"c":3,"a":7}}'

    def test_clear_keeps_the_metadata_and_what_follows(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store.merge(thread_id, [Set("a", b"1"), *pushes("l", range(2_000))], {"m": 1})
        store.merge(thread_id, [Set("b", b"2"), Clear(), Push("l", b"1"), Set("c", b"3")])
        assert store.restore(thread_id) == b'{"state":{"l":[1],"c":3},"metadata":{"m":1}}'
        store.merge(thread_id, [Clear()])
        assert store.restore(thread_id) == b'{"metadata":{"m":1}}'
        store.merge(thread_id, [], {})
        assert store.restore(thread_id) is None

    def test_a_thread_with_nothing_left_is_gone(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [Set("a", b"1")])
        store.merge(thread_id, [Delete("a")])
        assert store.restore(thread_id) is None
        assert store.read(thread_id) is None

    def test_metadata_is_replaced_as_a_whole_or_kept(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store.merge(thread_id, [Set("a", b"1")], {"m": 1, "n": [1, {"o": "é"}]})
        store.merge(thread_id, [Set("a", b"2")])
        assert store.restore(thread_id) == (
            '{"state":{"a":2},"metadata":{"m":1,"n":[1,{"o":"é"}]}}'.encode()
        )
        store.merge(thread_id, [], {"p": None})
        assert store.restore(thread_id) == b'{"state":{"a":2},"metadata":{"p":null}}'
        store.merge(thread_id, [Delete("a")])
        assert store.restore(thread_id) == b'{"metadata":{"p":null}}'
        assert snapshot_of(store, thread_id) == Snapshot({}, b'{"p":null}')

    def test_metadata_json_cannot_hold_changes_nothing(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store.merge(thread_id, [Set("a", b"1")], {"m": 1})
        with pytest.raises(StateNotSerializable, match="metadata"):
            store.merge(thread_id, [Set("a", b"2")], {"m": float("nan")})
        with pytest.raises(StateNotSerializable, match="metadata"):
            store.save(thread_id, b'{"state":{"a":2}}', {"m": {1, 2}})
        assert store.restore(thread_id) == b'{"state":{"a":1},"metadata":{"m":1}}'

    def test_a_default_is_set_only_where_nothing_is(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store.merge(thread_id, [Set("a", b"[]", only_if_missing=True), Push("a", b"1")])
        store.merge(thread_id, [Set("a", b"[]", only_if_missing=True), Push("a", b"2")])
        store.merge(thread_id, [Set("n", b"null"), Set("n", b"1", only_if_missing=True)])
        store.merge(thread_id, [Delete("n"), Set("n", b"2", only_if_missing=True)])
        assert store.restore(thread_id) == b'{"state":{"a":[1,2],"n":2}}'

    @pytest.mark.parametrize("value", [b"null", b'"["', b'{"0":1}', b"1", b'"%b"' % (b"x" * 9_000)])
    def test_a_push_onto_what_is_no_list_is_skipped_loudly(
        self,
        store: ThreadStore,
        thread_id: str,
        value: bytes,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        store.merge(thread_id, [Set("k", value)])
        with caplog.at_level(logging.WARNING, logger="flask_agentuity"):
            store.merge(thread_id, [Push("l", b"1"), Push("k", b"2"), Set("after", b"3")])
        assert store.restore(thread_id) == (
            b'{"state":{"k":%b,"l":[1],"after":3}}' % value  # all but the push that cannot be
        )
        (record,) = warnings_of(caplog)
        assert record.levelno == logging.WARNING
        assert self.logged_id(thread_id) in record.getMessage()
        assert 'state["k"]' in record.getMessage()

    def test_a_push_after_a_set_in_one_merge_meets_the_new_value(
        self, store: ThreadStore, thread_id: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.merge(thread_id, [Set("l", b"[1]")])
        store.merge(thread_id, [Set("l", b"1"), Push("l", b"2")])
        assert store.restore(thread_id) == b'{"state":{"l":1}}'
        assert len(warnings_of(caplog)) == 1
        store.merge(thread_id, [Delete("l"), Push("l", b"3"), Set("l", b"[4]"), Push("l", b"5")])
        assert store.restore(thread_id) == b'{"state":{"l":[4,5]}}'

    @pytest.mark.parametrize("key", ODD_KEYS, ids=lambda key: ascii(key[:20]))
    def test_odd_keys_are_keys(self, store: ThreadStore, thread_id: str, key: str) -> None:
        self.merge_and_compare(
            store, thread_id, [Set("first", b"0"), Set(key, b'"v"'), Set("last", b"1")]
        )
        snapshot = snapshot_of(store, thread_id, [key])
        assert list(snapshot.encoded) == ["first", key, "last"]
        assert snapshot.encoded[key] == b'"v"'
        self.merge_and_compare(
            store, thread_id, [Delete(key), Push(key, b"1"), Push(key, b"2", max_records=1)]
        )
        self.merge_and_compare(store, thread_id, [Delete(key)])
        assert store.restore(thread_id) == b'{"state":{"first":0,"last":1}}'
