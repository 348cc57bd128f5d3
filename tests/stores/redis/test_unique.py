"""A push with ``unique`` finds its field in the text of the list, exactly, without decoding it."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import redis
from support.redis_server import measured

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.operations import Operation, PopLast, Push, Set, Truncate
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Write, Written

from .stored import MESSAGE

#: Items that have the text of a field with the id "a" or 1, but not the field.
LURES: list[Any] = [
    *('"id":"a"', '{"id":"a"}', '\\"id\\":\\"a\\"', ',"id":1,', "id", "a", 1),
    {"b": '{"id":"a"}', "c": '"id":1}'},
    {"b": {"id": "a"}, "c": [{"id": 1}]},
    [{"id": "a"}, {"id": 1}],
    {"b": [{"id": "a"}], 'c"id': "a", 'x"id': 1},
    {"id": "ab", "d": {"id": "a", "e": 1}},
    {"id": 1.5, "f": {"id": 1}},
    {"id": 11},
    {"id": [1]},
    {"id": {"id": 1}},
    {"id": "1"},
    {"id": "\\"},
    {"ID": "a", "id ": "a", "": {"id": "a"}},
]

FOUND: list[tuple[Any, Any]] = [
    ("a", {"id": "a"}),
    ("a", {"b": 1, "id": "a", "c": 2}),
    ("a", {"b": {"id": 1}, "c": '{"', "id": "a"}),
    (1, {"b": [], "id": 1}),
    (None, {"id": None, "b": 1}),
    (True, {"id": True}),
    ("", {"id": ""}),
    ('"', {"b": "\\", "id": '"'}),
    ([1, {"id": 2}], {"id": [1, {"id": 2}], "b": 3}),
    ({"id": 1}, {"id": {"id": 1}}),
    ("é\n,}", {"id": "é\n,}"}),
    (1.5, {"id": 1.5}),
]


def push(store: RedisStore, thread_id: str, *operations: Operation) -> list[Any]:
    outcome = store.write(thread_id, Write(operations, counted=["l"]))
    assert isinstance(outcome, Written)
    snapshot = store.read(thread_id, ["l"])
    assert snapshot is not None
    items: list[Any] = codec.decode(snapshot.encoded["l"] or b"")
    return items


def unique(item: Any, field: str = "id", **window: Any) -> Push:
    return Push("l", codec.encode(item), unique=field, **window)


@pytest.mark.parametrize("value", ["a", 1])
@pytest.mark.parametrize("lure", LURES, ids=str)
def test_what_only_looks_like_the_field_does_not_count(
    store: RedisStore, thread_id: str, lure: Any, value: Any
) -> None:
    item = {"id": value}
    store.merge(thread_id, [Set("l", codec.encode([0, lure, "x"]))])
    assert push(store, thread_id, unique(item)) == [0, lure, "x", item]
    assert push(store, thread_id, unique(item)) == [0, lure, "x", item]


@pytest.mark.parametrize(("value", "stored"), FOUND, ids=str)
@pytest.mark.parametrize("place", [0, 1, len(LURES)])
def test_the_field_is_found_among_others(
    store: RedisStore, thread_id: str, value: Any, stored: Any, place: int
) -> None:
    others = [lure for lure in LURES if not (isinstance(lure, dict) and lure.get("id") == value)]
    items = [*others[:place], stored, *others[place:]]
    store.merge(thread_id, [Set("l", codec.encode(items))])
    assert push(store, thread_id, unique({"new": 1, "id": value})) == items
    # Another value, or another field, is another matter.
    expected = [*items, {"id": "other"}]
    assert push(store, thread_id, unique({"id": "other"})) == expected


@pytest.mark.parametrize("field", ["", ":", '"', 'a":1,"b', "\\", "é", "\n", "#"])
def test_any_name_of_a_field(store: RedisStore, thread_id: str, field: str) -> None:
    item = {"b": 1, field: 2, "a": {field: 3}}
    assert push(store, thread_id, unique(item, field), unique(item, field)) == [item]
    other = {field: 3}
    assert push(store, thread_id, unique(other, field)) == [item, other]


def test_pushes_of_one_write_see_each_other(store: RedisStore, thread_id: str) -> None:
    first, second, third = {"id": 1}, {"id": 2}, {"id": 3}
    items = push(
        store,
        thread_id,
        unique(first),
        unique(second),
        Push("l", codec.encode(third)),
        unique(first),
        unique(third),
    )
    assert items == [first, second, third]
    items = push(store, thread_id, unique(third), Push("l", b'"plain"'), unique(second))
    assert items == [first, second, third, "plain"]


def test_a_window_applies_to_what_is_appended_only(store: RedisStore, thread_id: str) -> None:
    store.merge(thread_id, [Set("l", b'["system",{"id":1},{"id":2},{"id":3}]')])
    window: dict[str, Any] = {"max_records": 3, "keep_first": 1}
    assert push(store, thread_id, unique({"id": 1}, **window)) == [
        "system",
        {"id": 1},
        {"id": 2},
        {"id": 3},
    ]
    expected = ["system", {"id": 3}, {"id": 4}]
    assert push(store, thread_id, unique({"id": 4}, **window)) == expected
    # What the window has passed may come again, and what it has left may not.
    assert push(store, thread_id, unique({"id": 3}, **window)) == expected
    expected = ["system", {"id": 4}, {"id": 1}]
    assert push(store, thread_id, unique({"id": 1}, **window)) == expected
    pushes = [unique({"id": number}, **window) for number in (4, 5, 6, 4, 6, 7, 7)]
    assert push(store, thread_id, *pushes) == ["system", {"id": 4}, {"id": 7}]


@pytest.mark.parametrize("item", [1, "a", ["id"], {"other": 1}])
def test_an_item_without_the_field_is_like_no_other(
    store: RedisStore, thread_id: str, item: Any
) -> None:
    assert push(store, thread_id, unique(item), unique(item)) == [item, item]


def test_it_costs_one_call_at_any_length(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    store.merge(thread_id, [Push("l", MESSAGE)] * 4_000)
    operation = unique({"id": "0" * 32, "content": "x" * 100})
    store.merge(thread_id, [operation])
    commands, received, _ = measured(client, lambda: store.merge(thread_id, [operation]))
    assert commands["evalsha"] == 1
    assert received < 1_000


def test_many_pushes_in_one_write_are_as_in_python(store: RedisStore, thread_id: str) -> None:
    """After some searches there is an index, which windows and other operations keep right."""
    chance = random.Random(5)
    for number in range(60):
        operations: list[Operation] = []
        for _ in range(chance.choice([5, 30, 120])):
            item = {"id": chance.randint(0, 12), "sub": {"id": chance.randint(0, 12)}}
            window = chance.choice([None, None, None, 6])
            operations.append(unique(item, chance.choice(["id", "id", "id", "sub"])))
            if window is not None:
                operations[-1] = unique(item, max_records=window, keep_first=chance.choice([0, 2]))
            operations += chance.choice(
                [[], [], [], [PopLast("l")], [Push("l", b'{"id":3}')], [Truncate("l", 4)]]
            )
        before = store.read(thread_id)
        state = {key: value or b"" for key, value in before.encoded.items()} if before else {}
        apply_operations(state, operations)
        store.merge(thread_id, operations)
        assert store.restore(thread_id) == codec.join_document(state), number


@pytest.mark.parametrize("kind", ["many pushes", "many lures"])
def test_the_work_is_linear_in_what_is_written(
    store: RedisStore, client: redis.Redis, thread_id: str, kind: str
) -> None:
    """Redis does nothing else meanwhile, so ten times as much may not cost much more than that."""

    def cost(count: int) -> float:
        store.delete(thread_id)
        operations: list[Operation]
        if kind == "many pushes":
            store.merge(thread_id, [Push("l", b'{"id":%d}' % number) for number in range(count)])
            operations = [Push("l", b'{"id":-%d}' % number, unique="id") for number in range(count)]
        else:
            lures = b",".join([b'{"id":7}'] * count)
            store.merge(thread_id, [Push("l", b'{"a":[%b]}' % lures)])
            operations = [Push("l", b'{"id":7}', unique="id")] * 9
        best = math.inf
        for _ in range(3):
            client.config_resetstat()
            store.merge(thread_id, operations)
            spent = client.info("commandstats")["cmdstat_evalsha"]
            best = min(best, spent["usec"] / spent["calls"])
        return best

    # Quadratic work would take a hundred times as long.
    assert cost(20_000) <= 35 * cost(2_000)
