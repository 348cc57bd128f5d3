"""Operations that plain Python code cannot express: increments, unique pushes and the like."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest

from ...document import codec
from ...document.apply import apply_operations
from ...document.operations import Delete, Increment, Operation, PopLast, Push, Set, Truncate
from ...stores import ThreadStore
from ...stores.writing import Write, write_merged
from .stored import decoded, snapshot_of, warnings_of
from .suite import Suite

LONG_LIST = codec.encode([{"n": number, "t": "x" * 40} for number in range(900)])


def write(store: ThreadStore, thread_id: str, *operations: Operation) -> None:
    write_merged(store, thread_id, Write(operations))


class CountingConformance(Suite):
    """Increment, Truncate, PopLast, and Push with ``unique`` and ``keep_first``."""

    @pytest.mark.parametrize(
        ("stored", "by", "expected"),
        [
            (None, 1, b"1"),
            (None, -0.5, b"-0.5"),
            (b"5", 0, b"5"),
            (b"5", -7, b"-2"),
            (b"9007199254740993", 1, b"9007199254740994"),
            (b"-9223372036854775808", 1, b"-9223372036854775807"),
            (b"9223372036854775807", 1, b"9223372036854775808"),
            (b"18446744073709551614", 1, b"18446744073709551615"),
            (b"9223372036854775807", -9223372036854775807, b"0"),
            (b"1", 0.5, b"1.5"),
            (b"0.1", 0.2, b"0.30000000000000004"),
            (b"1.0", 1, b"2.0"),
            (b"-0.0", 0, b"0.0"),
            (b"1e300", 1e300, codec.encode(2e300)),
            (b"9007199254740993", 0.5, codec.encode(9007199254740993 + 0.5)),
            (b"-5", 5, b"0"),
        ],
    )
    def test_an_increment_is_exact(
        self,
        store: ThreadStore,
        thread_id: str,
        stored: bytes | None,
        by: int | float,
        expected: bytes,
    ) -> None:
        before = [] if stored is None else [Set("n", codec.respell(stored))]
        write(store, thread_id, Set("first", b"1"), *before, Set("last", b"1"))
        write(store, thread_id, Increment("n", by))
        assert snapshot_of(store, thread_id).encoded["n"] == expected
        write(store, thread_id, Set("m", b"1"), Increment("m", 2), Increment("m", 3))
        write(store, thread_id, Delete("m"), Increment("m", 0.5), Increment("m"))
        assert snapshot_of(store, thread_id).encoded["m"] == b"1.5"

    @pytest.mark.parametrize(
        ("operation", "value"),
        [
            *(
                (Increment("k"), value)
                for value in (b'"1"', b"null", b"true", b"[1]", b'{"1":1}', b"18446744073709551615")
            ),
            (Increment("k", -1), b"-9223372036854775808"),
            (Increment("k", 1.7e308), codec.encode(1.7e308)),
            *((Truncate("k", 0), value) for value in (b"null", b'"[1]"', b'{"0":1}', b"1")),
            *((PopLast("k"), value) for value in (b"null", b'"[1]"', b'{"0":1}', b"1")),
            (Push("k", b'{"id":1}', unique="id"), b'{"id":1}'),
            (Push("k", b"1", max_records=2, keep_first=1), b'"%b"' % (b"x" * 5_000)),
        ],
    )
    def test_what_meets_another_type_is_skipped_loudly(
        self,
        store: ThreadStore,
        thread_id: str,
        operation: Operation,
        value: bytes,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        write(store, thread_id, Set("k", value), Set("n", b"1"))
        with caplog.at_level(logging.WARNING, logger="flask_agentuity"):
            write(store, thread_id, Increment("n"), operation, Push("after", b"3"))
        assert store.restore(thread_id) == b'{"state":{"k":%b,"n":2,"after":[3]}}' % value
        (record,) = warnings_of(caplog)
        assert record.levelno == logging.WARNING
        assert self.logged_id(thread_id) in record.getMessage()
        assert 'state["k"]' in record.getMessage()

    def test_nothing_is_made_of_what_is_missing(
        self, store: ThreadStore, thread_id: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, logger="flask_agentuity"):
            write(store, thread_id, Truncate("l", 3), PopLast("l"))
            assert store.restore(thread_id) is None
            write(store, thread_id, Set("e", b"[]"), PopLast("e"), Truncate("e", 0))
        assert store.restore(thread_id) == b'{"state":{"e":[]}}'
        assert warnings_of(caplog) == []

    @pytest.mark.parametrize("keep", [0, 1, 3, 899, 900, 10_000])
    def test_truncating(self, store: ThreadStore, thread_id: str, keep: int) -> None:
        for value in (b"[1,[2],3]", b"[]", LONG_LIST):
            write(store, thread_id, Set("l", value), Set("after", b"1"))
            self.write_and_compare(store, thread_id, Truncate("l", keep))
            self.write_and_compare(store, thread_id, Push("l", b'"new"'))

    def test_popping_the_last(self, store: ThreadStore, thread_id: str) -> None:
        write(store, thread_id, Set("l", LONG_LIST), Set("s", b'[1,["]"]]'), Push("s", b'"a"'))
        for _ in range(5):
            self.write_and_compare(store, thread_id, PopLast("l"), PopLast("s"), PopLast("l"))
        assert decoded(store, thread_id)["s"] == []
        self.write_and_compare(store, thread_id, *[PopLast("l")] * 889)
        assert len(decoded(store, thread_id)["l"]) == 1
        self.write_and_compare(store, thread_id, PopLast("l"), Push("l", b"1"), PopLast("l"))
        assert store.restore(thread_id) == b'{"state":{"l":[],"s":[]}}'

    @pytest.mark.parametrize("stored", [0, 1, 2, 3, 10, 600])
    @pytest.mark.parametrize(
        ("records", "first"), [(1, 0), (1, 1), (2, 1), (5, 2), (3, 3), (3, 9), (0, 2), (400, 100)]
    )
    def test_a_window_that_keeps_the_first(
        self, store: ThreadStore, thread_id: str, stored: int, records: int, first: int
    ) -> None:
        items = [codec.encode({"n": number, "t": "x" * 20}) for number in range(stored)]
        write(store, thread_id, Set("l", codec.join_list(items)), Set("after", b"1"))
        push = Push("l", b'"new"', records, first)
        self.write_and_compare(store, thread_id, push)
        self.write_and_compare(store, thread_id, Push("l", b'"a"'), Push("l", b'"b"'), push)
        for _ in range(3):
            self.write_and_compare(store, thread_id, push)

    @pytest.mark.parametrize("stored", [0, 3, 300])
    def test_windows_that_change_within_a_write(
        self, store: ThreadStore, thread_id: str, stored: int
    ) -> None:
        chance = random.Random(stored)
        write(store, thread_id, Set("l", codec.join_list([b"0"] * stored)))
        for length in (2, 3, 5, 10, 20):
            pushes = [
                Push("l", b"%d" % number, chance.choice((None, 0, 2, 3, 9, 200)), first)
                for number in range(length)
                for first in (0 if length < 10 else chance.choice((0, 0, 1, 4)),)
            ]
            self.write_and_compare(store, thread_id, *pushes)
        many = [Push("l", b"%d" % number, 50, number % 2) for number in range(150)]
        self.write_and_compare(store, thread_id, *many, Truncate("l", 40))

    def test_a_system_prompt_stays(self, store: ThreadStore, thread_id: str) -> None:
        for number in range(12):
            write(store, thread_id, Push("l", b"%d" % number, max_records=4, keep_first=1))
        assert decoded(store, thread_id) == {"l": [0, 9, 10, 11]}

    @pytest.mark.parametrize(
        ("stored", "item", "appended"),
        [
            (b'[{"id":1}]', b'{"id":1,"text":"again"}', False),
            (b'[{"text":"x","id":1},{"id":2}]', b'{"id":1}', False),
            (b'[{"id":1}]', b'{"id":2}', True),
            (b'[{"id":1}]', b'{"id":"1"}', True),
            (b'[{"id":1}]', b'{"id":1.0}', True),
            (b'[{"id":12}]', b'{"id":1}', True),
            (b'[{"id":"ab"}]', b'{"id":"a"}', True),
            (b'[{"id":"a\\"b"}]', b'{"id":"a\\"b"}', False),
            (b'[{"id":null}]', b'{"id":null}', False),
            (b'[{"id":[1,{"a":2}]}]', b'{"id":[1,{"a":2}]}', False),
            (b'[{"x":{"id":1}}]', b'{"id":1}', True),
            (b'[[{"id":1}]]', b'{"id":1}', True),
            (b'["{\\"id\\":1}"]', b'{"id":1}', True),
            (b'[{"text":"\\"id\\":1"}]', b'{"id":1}', True),
            (b'[{"not id":1},{"id ":1}]', b'{"id":1}', True),
            (b'[{"x":{"id":1},"id":2}]', b'{"id":1}', True),
            (b'[{"x":{"id":2},"id":1}]', b'{"id":1}', False),
            (b'[1,null,"id",{"id":1}]', b'{"id":1}', False),
            (b"[]", b'{"id":1}', True),
            ('[{"id":"é"}]'.encode(), '{"id":"é"}'.encode(), False),
        ],
    )
    def test_a_unique_push(
        self, store: ThreadStore, thread_id: str, stored: bytes, item: bytes, appended: bool
    ) -> None:
        push = Push("l", item, unique="id")
        for value in (stored, codec.join_list([LONG_LIST[1:-1], *codec.items_of(stored)])):
            write(store, thread_id, Set("l", value), Set("after", b"1"))
            before = decoded(store, thread_id)["l"]
            write(store, thread_id, push)
            expected = [*before, codec.decode(item)] if appended else before
            assert decoded(store, thread_id)["l"] == expected
            write(store, thread_id, push)
            assert decoded(store, thread_id)["l"] == expected

    def test_unique_pushes_of_one_write_see_each_other(
        self, store: ThreadStore, thread_id: str
    ) -> None:
        one, two = b'{"id":"1"}', b'{"id":"2"}'
        write(
            store,
            thread_id,
            Push("l", one, unique="id"),
            Push("l", one, unique="id"),
            Push("l", two),
            Push("l", two, unique="id"),
            Push("l", two),
            Push("m", one, unique="id"),
        )
        assert decoded(store, thread_id) == {
            "l": [{"id": "1"}, {"id": "2"}, {"id": "2"}],
            "m": [{"id": "1"}],
        }

    def test_a_unique_push_with_a_window(self, store: ThreadStore, thread_id: str) -> None:
        chance = random.Random(1)
        for _ in range(80):
            number = chance.randrange(9)
            item = codec.encode({"id": number})
            self.write_and_compare(store, thread_id, Push("l", item, 5, 1, "id"))

    @pytest.mark.parametrize("field", ["", "é", 'a"b', "id", "a\\b"])
    def test_a_unique_field_may_have_any_name(
        self, store: ThreadStore, thread_id: str, field: str
    ) -> None:
        item = codec.encode({"x": 1, field: "v"})
        write(store, thread_id, Push("l", item, unique=field))
        write(store, thread_id, Push("l", item, unique=field))
        assert decoded(store, thread_id) == {"l": [{"x": 1, field: "v"}]}

    def test_any_of_them_in_any_order(self, store: ThreadStore, thread_id: str) -> None:
        chance = random.Random(20261125)
        kinds: list[Any] = [
            lambda: Push("l", b'{"id":%d}' % chance.randrange(30), unique="id"),
            lambda: Push("l", b'{"id":%d,"t":"%b"}' % (chance.randrange(30), b"x" * 300)),
            lambda: Push("l", b"%d" % chance.randrange(9), chance.randrange(1, 40), 2),
            lambda: Truncate("l", chance.randrange(40)),
            lambda: PopLast("l"),
            lambda: Increment("n", chance.choice([1, -3, 2**40])),
            lambda: Increment("f", chance.choice([0.1, 1, -2.5])),
        ]
        for _ in range(60):
            operations = [chance.choice(kinds)() for _ in range(chance.randrange(1, 12))]
            self.write_and_compare(store, thread_id, *operations)

    def write_and_compare(self, store: ThreadStore, thread_id: str, *operations: Operation) -> None:
        before = store.read(thread_id)
        state = {key: value or b"" for key, value in before.encoded.items()} if before else {}
        apply_operations(state, operations)
        write(store, thread_id, *operations)
        assert store.restore(thread_id) == (codec.join_document(state) or None)
