"""What every store of threads must do, as tests that run on any of them.

To test a store of your own, subclass :class:`StoreConformance` in a test module and say how
to open it::

    from stores.conformance import StoreConformance

    class TestMyStore(StoreConformance):
        def open(self, place, **options):
            return MyStore(place / "threads", **options)

or, without a line of code, name a factory (it is called with a fresh folder, and with
``ttl`` and ``max_bytes`` where it takes them)::

    pytest tests/stores/test_third_party.py --store package.module:factory

The attributes and methods at the top of the class say what else a store can do; what it
does not claim is skipped, with the reason.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.codec import Snapshot
from flask_agentuity.document.operations import Clear, Delete, Operation, Push, Set
from flask_agentuity.errors import StateNotSerializable, StateTooLarge, StoreError
from flask_agentuity.stores import ThreadStore

ODD_KEYS = [
    "",
    " ",
    "__proto__",
    "constructor",
    "state",
    "metadata",
    "size",
    "10",
    'double " quote',
    "single ' quote",
    "back \\ slash",
    "new\nline\r\n",
    "nul \0 in the middle",
    "\x7f\x80\u2028",
    "ключ",
    "😀",
    "{brace}",
    "a:b>c.d*[e]=f",
    "k" * 10_240,
]

#: One reads what a process wrote: seconds after which a test gives up, not what it takes.
PATIENCE = 60.0


class Clock:
    """Moves the time that a store goes by."""

    def __init__(self, advance: Callable[[float], object]) -> None:
        self.advance = advance


class StoreConformance:
    """Every clause that a store must pass; subclass it and say how to open the store."""

    #: Whether a second store opened on the same place sees the threads of the first.
    shared: ClassVar[bool] = False
    #: Whether damage in one value leaves :meth:`ThreadStore.read` of the others possible.
    reads_keys_apart: ClassVar[bool] = False

    @pytest.fixture
    def place(self, tmp_path: Path) -> Any:
        """Where the threads of one test live; anything that :meth:`open` understands."""
        return tmp_path

    def open(self, place: Any, **options: Any) -> ThreadStore:
        """Return a store on *place*; *options* are ``ttl`` and ``max_bytes``."""
        raise NotImplementedError

    def opener(self, place: Any) -> Callable[[], ThreadStore] | None:
        """Return what opens the store in another process (it is pickled), if that can be."""
        return None

    def damage(self, store: ThreadStore, place: Any, thread_id: str, key: str) -> None:
        """Spoil the stored bytes of the value at *key* so that they are not JSON any more."""
        pytest.skip("this store does not say how its stored bytes can be damaged")

    @pytest.fixture
    def clock(self, place: Any) -> Iterator[Clock]:
        """Time that the test moves; a store that goes by ``time.time`` needs no other."""
        with freeze_time("2030-01-01", ignore=["_pytest.timing"]) as frozen:
            yield Clock(frozen.tick)

    # From here on: what the clauses themselves need.

    @pytest.fixture
    def store(self, place: Any) -> Iterator[ThreadStore]:
        with closing(self.open(place)) as store:
            yield store

    @pytest.fixture
    def thread_id(self) -> str:
        return new_id()

    def second(self, place: Any, **options: Any) -> ThreadStore:
        if not self.shared:
            pytest.skip("no second store can see the threads of this one")
        return self.open(place, **options)

    def elsewhere(self, place: Any) -> Callable[[], ThreadStore]:
        opener = self.opener(place)
        if opener is None:
            pytest.skip("this store cannot be reached from another process")
        return opener

    # A thread that is not there

    def test_an_unknown_thread_is_none(self, store: ThreadStore, thread_id: str) -> None:
        assert store.restore(thread_id) is None
        assert store.read(thread_id) is None
        assert store.read(thread_id, ["a"]) is None
        assert store.read(thread_id, []) is None

    def test_deleting_an_unknown_thread_is_no_error(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        store.delete(thread_id)
        assert store.restore(thread_id) is None

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
        """Whoever says that values hold no null is believed; a store may say nothing."""
        for calls in ([[change] for change in changes], [changes]):
            for before in (b"[1]", b"[null]"):
                store.delete(thread_id)
                store.merge(thread_id, [Set("a", before), Set("b", b"1"), Push("c", b'"nul"')])
                for call in calls:
                    store.merge(thread_id, call)
                assert "a" not in snapshot_of(store, thread_id).without_null
                assert "a" not in snapshot_of(store, thread_id, ["a"]).without_null

    def test_merging_makes_a_thread(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [Set("a", b"1")])
        assert store.restore(thread_id) == b'{"state":{"a":1}}'

    def test_merging_nothing_makes_nothing(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [])
        store.merge(thread_id, [], {})
        store.merge(thread_id, [Clear(), Delete("a")])
        store.merge(thread_id, [Set("a", b"1"), Delete("a")])
        assert store.restore(thread_id) is None

    def test_threads_are_apart(self, store: ThreadStore, thread_id: str) -> None:
        other = new_id()
        store.merge(thread_id, [Push("l", b"1"), Set("a", b"1")], {"m": 1})
        store.merge(other, [Push("l", b"2"), Set("a", b"2")], {"m": 2})
        store.delete(thread_id)
        assert store.restore(thread_id) is None
        assert store.restore(other) == b'{"state":{"l":[2],"a":2},"metadata":{"m":2}}'

    # What comes back

    @pytest.mark.parametrize(
        "document",
        [
            '{"state":{"b":1,"a":2,"10":3,"9":4}}',
            '{"state":{"a":null,"b":false,"c":true,"d":0,"e":"","f":[],"g":{}}}',
            '{"state":{"a":-0.0,"b":1.0,"c":1e+100,"d":0.1,"e":-9223372036854775808}}',
            '{"state":{"a":18446744073709551615,"b":9007199254740993}}',
            '{"state":{"a":"\\u0000\\u001f\\"\\\\é测😀\u2028\x7f"}}',
            '{"state":{"a":[1,[2,[3,{"b":[4]}]],{"c":[]}]}}',
            '{"state":{"a":["],[",",","\\n","{}"]}}',
            '{"state":{"state":{"state":1},"metadata":{"metadata":1}}}',
        ],
    )
    def test_restore_gives_the_exact_text(
        self, store: ThreadStore, thread_id: str, document: str
    ) -> None:
        document = document.replace("1e+100", codec.encode(1e100).decode())
        store.save(thread_id, document.encode(), {"é": ["x", 1]})
        expected = document[:-1] + ',"metadata":{"é":["x",1]}}'
        assert store.restore(thread_id) == expected.encode()

    def test_the_deepest_value_comes_back(self, store: ThreadStore, thread_id: str) -> None:
        value: Any = []
        for _ in range(codec.MAX_DEPTH - 1):
            value = [value]
        store.merge(thread_id, [Set("deep", codec.encode(value))])
        assert snapshot_of(store, thread_id).encoded["deep"] == codec.encode(value)

    def test_save_replaces_the_state(self, store: ThreadStore, thread_id: str) -> None:
        store.save(thread_id, b'{"state":{"a":1,"l":[1,2],"long":"%b"}}' % (b"x" * 50_000))
        store.save(thread_id, b'{"state":{"b":2,"l":[3]}}')
        assert store.restore(thread_id) == b'{"state":{"b":2,"l":[3]}}'

    def test_save_keeps_or_replaces_the_metadata(self, store: ThreadStore, thread_id: str) -> None:
        store.save(thread_id, b'{"state":{"a":1}}', {"m": 1, "n": 2})
        store.save(thread_id, b'{"state":{"a":2},"metadata":{"ignored":true}}')
        assert store.restore(thread_id) == b'{"state":{"a":2},"metadata":{"m":1,"n":2}}'
        store.save(thread_id, b'{"state":{"a":3}}', {"m": 5})
        assert store.restore(thread_id) == b'{"state":{"a":3},"metadata":{"m":5}}'
        store.save(thread_id, b'{"state":{"a":4}}', {})
        assert store.restore(thread_id) == b'{"state":{"a":4}}'

    @pytest.mark.parametrize("nothing", [b"", b"{}", b"null", b'{"state":{}}', b'{"state":null}'])
    def test_saving_nothing_removes_the_state(
        self, store: ThreadStore, thread_id: str, nothing: bytes
    ) -> None:
        store.save(thread_id, b'{"state":{"a":1}}', {"m": 1})
        store.save(thread_id, nothing)
        assert store.restore(thread_id) == b'{"metadata":{"m":1}}'
        store.save(thread_id, nothing, {})
        assert store.restore(thread_id) is None

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b'{"a":1,"b":[2]}', b'{"state":{"a":1,"b":[2]}}'),
            (b' { "a" : 1 } \n', b'{"state":{"a":1}}'),
            (b'{"state":"CA","zip":1}', b'{"state":{"state":"CA","zip":1}}'),
            (b'{"state":{"a":1},"b":2}', b'{"state":{"a":1,"b":2}}'),
            (b'{"a":"\\u00e9\\/"}', '{"state":{"a":"é/"}}'.encode()),
            (b'{"a":1,"a":2}', b'{"state":{"a":2}}'),
        ],
    )
    def test_old_documents_may_be_saved(
        self, store: ThreadStore, thread_id: str, old: bytes, new: bytes
    ) -> None:
        store.save(thread_id, old)
        assert store.restore(thread_id) == new

    @pytest.mark.parametrize("broken", [b"{{{", b"[1]", b"5", b'{"state":{"a":1}', b"\xff"])
    def test_saving_what_is_no_document_changes_nothing(
        self, store: ThreadStore, thread_id: str, broken: bytes
    ) -> None:
        store.save(thread_id, b'{"state":{"a":1}}', {"m": 1})
        with pytest.raises(StoreError, match=thread_id):
            store.save(thread_id, broken, {"m": 2})
        assert store.restore(thread_id) == b'{"state":{"a":1},"metadata":{"m":1}}'

    def test_delete_removes_everything(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [Set("a", b"1"), *pushes("l", range(500))], {"m": 1})
        store.delete(thread_id)
        assert store.restore(thread_id) is None
        store.merge(thread_id, [Push("l", b"7")])
        assert store.restore(thread_id) == b'{"state":{"l":[7]}}'

    # Merging

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
        assert thread_id in record.getMessage()
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

    # Lists

    @pytest.mark.parametrize("stored", [0, 1, 5, 300, 1_000])
    @pytest.mark.parametrize("records", [0, 1, 3, 299, 2_000])
    def test_a_window_keeps_the_last(
        self, store: ThreadStore, thread_id: str, stored: int, records: int
    ) -> None:
        items = [codec.encode({"n": number, "t": "x" * 20}) for number in range(stored)]
        store.merge(thread_id, [Set("l", codec.join_list(items)), Set("after", b"1")])
        self.merge_and_compare(store, thread_id, [Push("l", b'"new"', max_records=records)])
        self.merge_and_compare(
            store, thread_id, [Push("l", b'"a"'), Push("l", b'"b"', max_records=records)]
        )

    def test_a_window_after_many_pushes_at_once(self, store: ThreadStore, thread_id: str) -> None:
        for first in range(0, 40, 4):
            store.merge(thread_id, pushes("l", range(first, first + 4)))
        for records in (39, 20, 5):
            self.merge_and_compare(store, thread_id, [Push("l", b'"new"', max_records=records)])

    @pytest.mark.parametrize("size", [10, 999, 1_500, 3_000, 5_000])
    def test_a_push_alone_onto_a_text_is_skipped(
        self, store: ThreadStore, thread_id: str, size: int
    ) -> None:
        text = codec.encode("x" * size)
        store.merge(thread_id, [Set("t", text), Push("l", b"1")])
        store.merge(thread_id, [Push("t", b"2")])
        assert store.restore(thread_id) == b'{"state":{"t":%b,"l":[1]}}' % text

    def test_a_window_on_a_missing_key(self, store: ThreadStore, thread_id: str) -> None:
        store.merge(thread_id, [Push("l", b"1", max_records=3), Push("m", b"1", max_records=0)])
        assert store.restore(thread_id) == b'{"state":{"l":[1],"m":[]}}'

    def test_windows_of_several_widths_in_one_merge(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        changes: list[Operation] = []
        for number in range(60):
            width = (None, 5, 0, 40, 2, None)[number % 6]
            changes.append(Push("l", b"%d" % number, width))
            changes.append(Push("m", b"%d" % number, 7))
        self.merge_and_compare(store, thread_id, changes)

    def test_a_window_slides_over_a_long_list(self, store: ThreadStore, thread_id: str) -> None:
        chance = random.Random(1)
        model: list[int] = []
        number = 0
        for _ in range(60):
            batch = list(range(number, number + chance.choice((1, 2, 150))))
            number = batch[-1] + 1
            store.merge(
                thread_id,
                [Push("l", codec.encode(["m" * 30, item]), max_records=200) for item in batch],
            )
            model = (model + batch)[-200:]
            stored = codec.decode(snapshot_of(store, thread_id).encoded["l"] or b"")
            assert [item for _, item in stored] == model

    def test_thousands_of_pushes_in_one_merge(self, store: ThreadStore, thread_id: str) -> None:
        self.merge_and_compare(store, thread_id, pushes("l", range(4_000)))
        self.merge_and_compare(store, thread_id, pushes("l", range(4_000, 8_000)))

    def test_many_merges_of_one_push(self, store: ThreadStore, thread_id: str) -> None:
        for number in range(1_000):
            store.merge(thread_id, [Push("l", codec.encode({"text": "x" * 50, "n": number}))])
        stored = codec.decode(snapshot_of(store, thread_id).encoded["l"] or b"")
        assert [item["n"] for item in stored] == list(range(1_000))
        assert store.restore(thread_id) == codec.join_document({"l": codec.encode(stored)})

    def test_big_items_and_a_window_over_them(self, store: ThreadStore, thread_id: str) -> None:
        model: list[str] = []
        for number in range(14):
            text = f"{number}" * (100_000 if number % 3 else 10)
            store.merge(thread_id, [Push("l", codec.encode(text), max_records=4)])
            model = [*model, text][-4:]
            expected = codec.join_document({"l": codec.encode(model)})
            assert store.restore(thread_id) == expected
        # The size that the store keeps has not drifted: a full document fits, no byte more.
        room = codec.MAX_DOCUMENT_BYTES - len(expected)
        store.merge(thread_id, [Push("l", b'"%b"' % (b"y" * (room - 3)))])
        assert len(store.restore(thread_id) or b"") == codec.MAX_DOCUMENT_BYTES
        with pytest.raises(StateTooLarge):
            store.merge(thread_id, [Push("l", b"1")])

    def test_a_list_is_set_and_grows(self, store: ThreadStore, thread_id: str) -> None:
        long = codec.encode([{"n": number, "t": "x" * 40} for number in range(3_000)])
        self.merge_and_compare(store, thread_id, [Set("l", long), Set("m", b"[1,2]")])
        self.merge_and_compare(store, thread_id, [Push("l", b"1"), Push("m", b"3")])
        self.merge_and_compare(store, thread_id, [Set("l", b'"short"')])
        self.merge_and_compare(store, thread_id, [Set("l", b"[]"), Set("m", long)])
        self.merge_and_compare(store, thread_id, [Push("l", b"1"), Push("m", b"1", 10)])

    def test_long_values_come_and_go(self, store: ThreadStore, thread_id: str) -> None:
        for length in (10, 100_000, 900, 5_000, 1_100, 999, 0):
            self.merge_and_compare(
                store, thread_id, [Set("v", codec.encode("x" * length)), Set("w", b"1")]
            )
            self.merge_and_compare(
                store, thread_id, [Set("o", codec.encode({"k": "é" * length})), Delete("w")]
            )

    # The limit

    def growing(self) -> dict[str, Callable[[int], tuple[list[Operation], dict[str, str] | None]]]:
        odd = '"é\n\0\\😀\x7f'
        return {
            "by a set": lambda count: ([Set("v", b'"%b"' % (b"x" * count))], None),
            "by a set of non-ASCII": lambda count: (
                [Set("v", codec.encode("é" * (count // 2) + "x" * (count % 2)))],
                None,
            ),
            "by a push": lambda count: ([Push("l", b'"%b"' % (b"x" * count))], None),
            "by a first push": lambda count: ([Push("first", b'"%b"' % (b"x" * count))], None),
            "by many pushes": lambda count: (
                [*([Push("l", b"1")] * 100), Push("l", b'"%b"' % (b"x" * (count - 300)))],
                None,
            ),
            "by a push in a window": lambda count: (
                [Push("l", b'"%b"' % (b"x" * count), max_records=2)],
                None,
            ),
            "by a list": lambda count: ([Set("v", b'[1,"%b"]' % (b"x" * count))], None),
            "by metadata": lambda count: ([], {odd: "x" * count}),
            "by a key": lambda count: ([Set(odd + "k" * count, b"1")], None),
            "by a key of a list": lambda count: ([Push(odd + "k" * count, b"[]")], None),
            "by a key in place of another": lambda count: (
                [Delete(odd), Set("l", b"1"), Set("k" * count, b"{}")],
                {},
            ),
        }

    @pytest.mark.parametrize("limit", [1_500, 30_000])
    @pytest.mark.parametrize(
        "way",
        [
            "by a set",
            "by a set of non-ASCII",
            "by a push",
            "by a first push",
            "by many pushes",
            "by a push in a window",
            "by a list",
            "by metadata",
            "by a key",
            "by a key of a list",
            "by a key in place of another",
        ],
    )
    def test_the_limit_is_exact(self, place: Any, thread_id: str, way: str, limit: int) -> None:
        grow = self.growing()[way]
        with closing(self.open(place, max_bytes=limit)) as store:
            start: list[Operation] = [
                Set('"é\n\0\\😀\x7f', b'{"a":1}'),
                *pushes("l", range(10)),
                Set("v", b"0"),
            ]
            store.merge(thread_id, start, {"m": "é"})
            before = store.restore(thread_id)
            assert before is not None

            def size(count: int) -> int:
                return len(expected_after(before, thread_id, *grow(count)))

            count = limit - size(400) + 400
            assert size(count) == limit
            with pytest.raises(StateTooLarge) as caught:
                store.merge(thread_id, *grow(count + 1))
            assert (caught.value.size, caught.value.limit) == (limit + 1, limit)
            assert thread_id in str(caught.value)
            assert store.restore(thread_id) == before
            store.merge(thread_id, *grow(count))
            assert store.restore(thread_id) == expected_after(before, thread_id, *grow(count))

    def test_too_much_leaves_all_as_it_was(self, place: Any, thread_id: str) -> None:
        with closing(self.open(place, max_bytes=2_000)) as store:
            store.merge(thread_id, [Set("a", b"1"), *pushes("l", range(20))], {"m": 1})
            before = store.restore(thread_id)
            with pytest.raises(StateTooLarge):
                store.merge(
                    thread_id,
                    [
                        Set("a", b"2"),
                        Push("l", b"0", max_records=1),
                        Delete("m"),
                        Clear(),
                        Set("b", b"%d" % 10**18),
                        Push("l", b'"%b"' % (b"x" * 3_000)),
                    ],
                    {"m": 2},
                )
            assert store.restore(thread_id) == before
            with pytest.raises(StateTooLarge):
                store.save(thread_id, b'{"state":{"a":"%b"}}' % (b"x" * 2_000), {"m": 3})
            assert store.restore(thread_id) == before
            with pytest.raises(StateTooLarge):
                store.merge(new_id(), [], {"m": "x" * 2_000})
            store.merge(thread_id, [Push("l", b"20")])
            assert snapshot_of(store, thread_id).encoded["l"] == codec.encode(list(range(21)))

    def test_a_thread_over_the_limit_may_shrink(self, place: Any, thread_id: str) -> None:
        with closing(self.open(place)) as store:
            store.merge(thread_id, [Set("a", b'"%b"' % (b"x" * 3_000)), Set("b", b"11")])
            with closing(self.second(place, max_bytes=1_000)) as smaller:
                with pytest.raises(StateTooLarge):
                    smaller.merge(thread_id, [Set("c", b"1")])
                with pytest.raises(StateTooLarge):
                    smaller.merge(thread_id, [Set("b", b"12")])
                smaller.merge(thread_id, [Set("b", b"1")])
                smaller.merge(thread_id, [Set("a", b'"%b"' % (b"x" * 2_000))])
                smaller.merge(thread_id, [Delete("a"), Set("c", b"1")])
                assert smaller.restore(thread_id) == b'{"state":{"b":1,"c":1}}'

    # Reading less than everything

    @pytest.mark.parametrize(
        "keys",
        [
            None,
            [],
            ["small"],
            ["messages"],
            ["text", "missing"],
            {"small", "messages"},
            ("metadata",),
            frozenset({"", "small"}),
        ],
    )
    def test_read_gives_every_name_and_the_wanted_values(
        self, store: ThreadStore, thread_id: str, keys: Collection[str] | None
    ) -> None:
        state = {
            "messages": codec.encode([{"n": number, "t": "x" * 30} for number in range(2_000)]),
            "small": b"1",
            "": b"[]",
            "text": codec.encode("é" * 20_000),
            "metadata": b"null",
        }
        store.save(thread_id, codec.join_document(state), {"m": 1})
        snapshot = snapshot_of(store, thread_id, keys)
        assert list(snapshot.encoded) == list(state)
        assert snapshot.metadata == b'{"m":1}'
        for key, value in snapshot.encoded.items():
            if keys is None or key in keys:
                assert value is not None
            assert value is None or value == state[key]
        for key, value in snapshot.decoded.items():
            assert codec.encode(value) == state[key]
        assert store.restore(thread_id) == codec.join_document(state, b'{"m":1}')

    def test_the_order_of_many_names_stands(self, store: ThreadStore, thread_id: str) -> None:
        keys = [f"key {number}" for number in range(600)]
        random.Random(1).shuffle(keys)
        self.merge_and_compare(store, thread_id, [Set(key, b"1") for key in keys])
        gone, moved = keys[::7], keys[::11]
        self.merge_and_compare(
            store,
            thread_id,
            [
                *(Delete(key) for key in {*gone, *moved}),
                *(Push(key, b"1") for key in moved),
                *(Set(key, b"2") for key in keys if key not in gone and key not in moved),
            ],
        )
        left = [key for key in keys if key not in gone and key not in moved] + moved
        assert list(snapshot_of(store, thread_id, []).encoded) == left

    # Damage

    @pytest.mark.parametrize("key", ["small", "messages", "text"])
    def test_damage_is_reported_and_left_alone(
        self, store: ThreadStore, place: Any, thread_id: str, key: str
    ) -> None:
        other = new_id()
        document = codec.join_document(
            {
                "small": b'{"a":1}',
                "messages": codec.encode([{"n": number, "t": "x" * 30} for number in range(500)]),
                "text": codec.encode("x" * 20_000),
                "fine": b"1",
            }
        )
        store.save(thread_id, document)
        store.save(other, document)
        self.damage(store, place, thread_id, key)
        for _ in range(2):
            with pytest.raises(StoreError, match=thread_id):
                store.restore(thread_id)
        assert store.restore(other) == document
        try:
            value = snapshot_of(store, thread_id, [key]).encoded[key]
        except StoreError as error:
            assert thread_id in str(error)
        else:
            assert value is not None
            with pytest.raises(ValueError):
                codec.decode(value)
        try:
            snapshot = snapshot_of(store, thread_id, ["fine"])
        except StoreError as error:
            assert thread_id in str(error)
            assert not self.reads_keys_apart
        else:
            assert list(snapshot.encoded) == ["small", "messages", "text", "fine"]
            assert snapshot.encoded["fine"] == b"1"
        try:
            store.merge(thread_id, [Set("fine", b"2")])
        except StoreError as error:
            assert thread_id in str(error)
        with pytest.raises(StoreError, match=thread_id):
            store.restore(thread_id)
        store.delete(thread_id)
        assert store.restore(thread_id) is None

    # Time

    def test_a_thread_expires(self, place: Any, thread_id: str, clock: Clock) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            store.merge(thread_id, [Set("a", b"1"), Push("l", b"1")], {"m": 1})
            clock.advance(95)
            store.merge(thread_id, [Set("b", b"1")])
            clock.advance(95)
            assert store.restore(thread_id) is not None
            clock.advance(101)
            assert store.restore(thread_id) is None
            assert store.read(thread_id) is None
            store.delete(thread_id)

    @pytest.mark.parametrize("way", ["merge", "save"])
    def test_nothing_of_an_expired_thread_comes_back(
        self, place: Any, thread_id: str, clock: Clock, way: str
    ) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            store.merge(thread_id, [Set("a", b"1"), *pushes("l", range(900))], {"m": 1})
            clock.advance(101)
            if way == "save":
                store.save(thread_id, b'{"state":{"l":[5]}}')
            else:
                store.merge(thread_id, [Push("l", b"5")])
            assert store.restore(thread_id) == b'{"state":{"l":[5]}}'

    def test_an_expired_thread_does_not_count_for_the_limit(
        self, place: Any, thread_id: str, clock: Clock
    ) -> None:
        with closing(self.open(place, ttl=100.0, max_bytes=1_000)) as store:
            store.merge(thread_id, [Set("a", b'"%b"' % (b"x" * 900))])
            clock.advance(101)
            store.merge(thread_id, [Set("b", b'"%b"' % (b"x" * 900))])
            with pytest.raises(StateTooLarge):
                store.merge(thread_id, [Set("c", b'"%b"' % (b"x" * 900))])

    @pytest.mark.parametrize("way", ["read", "restore", "read one key"])
    def test_a_read_renews(self, place: Any, thread_id: str, clock: Clock, way: str) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            store.merge(thread_id, [Set("a", b"1"), *pushes("l", range(900))])
            whole = store.restore(thread_id)
            for _ in range(4):
                clock.advance(60)
                if way == "read":
                    assert store.read(thread_id) is not None
                elif way == "restore":
                    assert store.restore(thread_id) is not None
                else:
                    assert store.read(thread_id, ["a"]) is not None
            clock.advance(85)
            assert store.restore(thread_id) == whole

    def test_without_a_ttl_nothing_expires(self, place: Any, thread_id: str, clock: Clock) -> None:
        with closing(self.open(place, ttl=None)) as store:
            store.merge(thread_id, [Set("a", b"1")])
            clock.advance(60 * 60 * 24 * 365 * 50)
            assert store.restore(thread_id) == b'{"state":{"a":1}}'
            store.merge(thread_id, [Set("b", b"1")])
            assert store.restore(thread_id) == b'{"state":{"a":1,"b":1}}'

    def test_purge_removes_the_expired_only(self, place: Any, clock: Clock) -> None:
        with closing(self.open(place, ttl=100.0)) as store:
            try:
                assert store.purge() == 0
            except StoreError as error:
                pytest.skip(str(error))
            old = [new_id() for _ in range(50)]
            for thread_id in old:
                store.merge(thread_id, [Push("l", b"1")], {"m": 1})
            clock.advance(60)
            young = new_id()
            store.merge(young, [Set("a", b"1")])
            assert store.purge() == 0
            clock.advance(60)
            steps: list[int] = []
            assert store.purge(steps.append) == sum(steps) == len(old)
            assert store.purge() == 0
            assert store.restore(young) == b'{"state":{"a":1}}'
            assert all(store.restore(thread_id) is None for thread_id in old)

    # Several at once

    def test_threads_pushing_to_one_thread(self, store: ThreadStore, thread_id: str) -> None:
        def run(name: int) -> None:
            start.wait(PATIENCE)
            push_in_turn(store, thread_id, name, 40)

        start = threading.Barrier(8)
        with_all_done(run, range(8))
        assert_all_in_order(store, thread_id, range(8), 40)

    def test_each_key_has_its_last_writer(self, store: ThreadStore, thread_id: str) -> None:
        def run(name: int) -> None:
            start.wait(PATIENCE)
            for number in range(40):
                store.merge(
                    thread_id,
                    [Set(f"mine {name}", b"%d" % number), Set("ours", b"[%d,%d]" % (name, number))],
                )

        start = threading.Barrier(6)
        with_all_done(run, range(6))
        state = decoded(store, thread_id)
        assert [state[f"mine {name}"] for name in range(6)] == [39] * 6
        assert state["ours"] in [[name, 39] for name in range(6)]

    def test_readers_never_see_half_a_merge(self, store: ThreadStore, thread_id: str) -> None:
        done = threading.Event()
        torn: list[object] = []

        def write(_: int) -> None:
            try:
                for number in range(100):
                    value = codec.encode([number] * 200)
                    store.merge(
                        thread_id,
                        [Set("a", value), Push("l", b"%d" % number, 50), Set("b", value)],
                        {"n": number},
                    )
            finally:
                done.set()

        def read(_: int) -> None:
            while not done.is_set():
                snapshot = store.read(thread_id)
                if snapshot is None:
                    continue
                state = snapshot.encoded
                number = codec.decode(snapshot.metadata)["n"]
                seen = codec.decode(state["l"] or b"")
                if state["a"] != state["b"] or seen != list(range(max(0, number - 49), number + 1)):
                    torn.append(snapshot)

        with_all_done(lambda name: (read if name else write)(name), range(3))
        assert torn == []

    def test_two_stores_on_one_place(self, store: ThreadStore, place: Any, thread_id: str) -> None:
        with closing(self.second(place)) as other:
            store.merge(thread_id, [Push("l", b"1"), Set("a", b"1")], {"m": 1})
            other.merge(thread_id, [Push("l", b"2"), Set("b", b"2")])
            store.merge(thread_id, [Push("l", b"3"), Set("a", b"3")])
            expected = b'{"state":{"l":[1,2,3],"a":3,"b":2},"metadata":{"m":1}}'
            assert store.restore(thread_id) == other.restore(thread_id) == expected
            other.delete(thread_id)
            assert store.restore(thread_id) is None
            store.merge(thread_id, [Push("l", b"4")])
            assert other.restore(thread_id) == b'{"state":{"l":[4]}}'

    def test_two_stores_on_one_place_at_once(
        self, store: ThreadStore, place: Any, thread_id: str
    ) -> None:
        with closing(self.second(place)) as other:

            def run(name: int) -> None:
                start.wait(PATIENCE)
                push_in_turn(store if name % 2 else other, thread_id, name, 40)

            start = threading.Barrier(4)
            with_all_done(run, range(4))
            assert_all_in_order(other, thread_id, range(4), 40)

    def test_processes_pushing_to_one_thread(self, place: Any, thread_id: str) -> None:
        opener = self.elsewhere(place)
        context = multiprocessing.get_context("spawn")
        processes = [
            context.Process(target=push_elsewhere, args=(opener, thread_id, name, 60))
            for name in range(3)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        with closing(self.second(place)) as store:
            assert_all_in_order(store, thread_id, range(3), 60)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
    def test_a_store_that_was_in_use_survives_a_fork(
        self, store: ThreadStore, place: Any, thread_id: str
    ) -> None:
        self.elsewhere(place)
        store.merge(thread_id, [Push("messages", b"[0,0]")])
        children = []
        for name in (1, 2):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    push_in_turn(store, thread_id, name, 30)
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        for number in range(1, 30):
            store.merge(thread_id, [Push("messages", b"[0,%d]" % number)])
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
        assert_all_in_order(store, thread_id, range(3), 30)

    # The end

    def test_closing_twice_is_no_error(self, place: Any, thread_id: str) -> None:
        store = self.open(place)
        store.merge(thread_id, [Set("a", b"1")])
        store.close()
        store.close()
        unused = self.open(place)
        unused.close()

    def test_what_was_merged_outlives_the_store(self, place: Any, thread_id: str) -> None:
        with closing(self.open(place)) as store:
            store.merge(thread_id, [Push("l", b"1")], {"m": 1})
        with closing(self.second(place)) as store:
            assert store.restore(thread_id) == b'{"state":{"l":[1]},"metadata":{"m":1}}'

    # Anything at all

    def test_any_sequence_of_calls_does_as_the_model(self, place: Any) -> None:
        with closing(self.open(place, max_bytes=MACHINE_LIMIT)) as store:
            run_state_machine_as_test(
                lambda: AgainstModel(store),  # type: ignore[arg-type]
                settings=settings(
                    max_examples=40,
                    stateful_step_count=25,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )

    def merge_and_compare(
        self, store: ThreadStore, thread_id: str, changes: Sequence[Operation]
    ) -> None:
        expected = expected_after(store.restore(thread_id), thread_id, changes)
        store.merge(thread_id, changes)
        assert store.restore(thread_id) == (expected or None)
        state = codec.split_document(expected, thread_id)
        snapshot = store.read(thread_id)
        assert (snapshot and snapshot.encoded) == (state and state.encoded)


MACHINE_LIMIT = 700

_keys = st.sampled_from(["messages", "a", "b", "", "__proto__", "metadata", 'é"\n\0😀'])
_leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8)
_values = st.recursive(
    _leaves | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=3)
    ),
    max_leaves=8,
) | st.sampled_from([[], ["x" * 60] * 5, "y" * 300])
_operations = (
    st.builds(Set, _keys, _values.map(codec.encode), st.booleans())
    | st.builds(Delete, _keys)
    | st.just(Clear())
    | st.builds(Push, _keys, _values.map(codec.encode_item), st.none() | st.integers(0, 5))
    # More of what is usual, so that lists grow at all.
    | st.builds(Push, st.just("messages"), _values.map(codec.encode_item), st.none())
    | st.builds(Push, st.just("messages"), _values.map(codec.encode_item), st.integers(1, 9))
)
_metadata = st.none() | st.dictionaries(st.text(max_size=3), _leaves, max_size=3)


class AgainstModel(RuleBasedStateMachine):
    """Any sequence of calls, on one store and on a model made of pure functions."""

    def __init__(self, store: ThreadStore) -> None:
        super().__init__()
        self.store = store
        self.thread_id = new_id()
        self.state: dict[str, bytes] = {}
        self.metadata = b"{}"
        self.bystander = new_id()
        store.merge(self.bystander, [Push("messages", b"1")], {"m": 1})

    @rule(changes=st.lists(_operations, max_size=8), metadata=_metadata)
    def merge(self, changes: list[Operation], metadata: dict[str, Any] | None) -> None:
        state = dict(self.state)
        apply_operations(state, changes)
        self.change(state, metadata, lambda: self.store.merge(self.thread_id, changes, metadata))

    @rule(
        state=st.dictionaries(_keys, _values.map(codec.encode), max_size=4),
        metadata=_metadata,
        within=_metadata,
    )
    def save(
        self,
        state: dict[str, bytes],
        metadata: dict[str, Any] | None,
        within: dict[str, Any] | None,
    ) -> None:
        document = codec.join_document(state, codec.encode(within or {}))
        self.change(state, metadata, lambda: self.store.save(self.thread_id, document, metadata))

    def change(
        self,
        state: dict[str, bytes],
        metadata: dict[str, Any] | None,
        call: Callable[[], None],
    ) -> None:
        encoded = self.metadata if metadata is None else codec.encode(metadata)
        size = len(codec.join_document(state, encoded))
        if size > MACHINE_LIMIT:
            with pytest.raises(StateTooLarge) as caught:
                call()
            assert caught.value.size == size
        else:
            call()
            self.state, self.metadata = state, encoded

    @rule()
    def delete(self) -> None:
        self.store.delete(self.thread_id)
        self.state, self.metadata = {}, b"{}"

    @rule(keys=st.sets(_keys))
    def read(self, keys: set[str]) -> None:
        snapshot = self.store.read(self.thread_id, keys)
        if not self.state and self.metadata == b"{}":
            assert snapshot is None
            return
        assert snapshot is not None
        assert list(snapshot.encoded) == list(self.state)
        assert snapshot.metadata == self.metadata
        for key, value in snapshot.encoded.items():
            assert value == self.state[key] or (value is None and key not in keys)
        # What a store says of nulls is taken for granted; it may say nothing.
        for key in snapshot.without_null:
            assert b"null" not in self.state[key]

    @invariant()
    def is_as_the_model(self) -> None:
        expected = codec.join_document(self.state, self.metadata)
        assert self.store.restore(self.thread_id) == (expected or None)

    def teardown(self) -> None:
        bystander = self.store.restore(self.bystander)
        assert bystander == b'{"state":{"messages":[1]},"metadata":{"m":1}}'
        self.store.delete(self.thread_id)
        self.store.delete(self.bystander)


def new_id() -> str:
    return f"thrd_{uuid.uuid4().hex}"


def pushes(key: str, items: Collection[object]) -> list[Operation]:
    return [Push(key, codec.encode_item(item)) for item in items]


def snapshot_of(
    store: ThreadStore, thread_id: str, keys: Collection[str] | None = None
) -> Snapshot:
    snapshot = store.read(thread_id, keys)
    assert snapshot is not None
    return snapshot


def decoded(store: ThreadStore, thread_id: str) -> dict[str, Any]:
    snapshot = snapshot_of(store, thread_id)
    return {key: codec.decode(value or b"") for key, value in snapshot.encoded.items()}


def expected_after(
    document: bytes | None,
    thread_id: str,
    changes: Sequence[Operation],
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the document that *changes* make of *document*, by pure functions alone."""
    snapshot = codec.split_document(document, thread_id) or Snapshot({})
    state = {key: value for key, value in snapshot.encoded.items() if value is not None}
    apply_operations(state, changes)
    kept = snapshot.metadata if metadata is None else codec.encode(dict(metadata))
    return codec.join_document(state, kept)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("flask_agentuity")]


def push_in_turn(store: ThreadStore, thread_id: str, name: int, count: int) -> None:
    for number in range(count):
        store.merge(thread_id, [Push("messages", b"[%d,%d]" % (name, number))])


def push_elsewhere(
    opener: Callable[[], ThreadStore], thread_id: str, name: int, count: int
) -> None:
    with closing(opener()) as store:
        push_in_turn(store, thread_id, name, count)


def assert_all_in_order(
    store: ThreadStore, thread_id: str, names: Collection[int], count: int
) -> None:
    messages = decoded(store, thread_id)["messages"]
    assert len(messages) == len(names) * count
    for name in names:
        mine = [number for writer, number in messages if writer == name]
        assert mine == list(range(count))


def with_all_done(run: Callable[[int], object], names: Collection[int]) -> None:
    """Run *run* in one thread for each of *names*, and raise what any of them raised."""
    failures: list[BaseException] = []

    def guarded(name: int) -> None:
        try:
            run(name)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]
