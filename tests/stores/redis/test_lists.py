"""Lists in Redis: appended to, moved under a window, and never mixed up with what is left over."""

from __future__ import annotations

import logging
import random
from itertools import pairwise
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.operations import Operation, Push, Set
from flask_agentuity.stores import ListedThread
from flask_agentuity.stores.redis.steps import encode_steps
from flask_agentuity.stores.redis.store import RedisStore

from ..conformance import new_id, pushes

#: What looks like the end of an item and is none, and the other way round.
ODD_ITEMS: list[Any] = [
    *(None, True, 0, -1.5, 1e100, "", ",", "[", "]", "{", "}", '"', "\\", '\\"', "\n", "\r\n"),
    *('","', '\\",', "],[", "}{", "\\\\", '"\\\\"', "\0", "\x7f", "é测😀", "\u2028", "a,b\nc"),
    *([], [[]], [1, 2], ["],", '"'], [["\\"], {"a,b": "]"}], {}, {"": ""}, {'"': ["}"]}),
    {"role": "user", "content": 'He said: "[1, 2]", and then\n\t{"x": "\\"}'},
]


def items(store: RedisStore, thread_id: str, key: str = "l") -> list[Any]:
    """Return a list as both ways of reading give it."""
    for_itself, with_all = store.read(thread_id, [key]), store.read(thread_id)
    assert for_itself is not None
    assert with_all is not None
    encoded = for_itself.encoded[key]
    assert encoded == with_all.encoded[key]
    assert encoded is not None
    decoded: list[Any] = codec.decode(encoded)
    # Not only equal: spelled as it was written.
    assert codec.encode(decoded) == encoded
    return decoded


def string(client: redis.Redis, thread_id: str, key: str = "l") -> bytes:
    value = client.get(f'agentuity:{{0}}:{thread_id}."{key}"')
    assert isinstance(value, bytes)
    return value


# A window over a list that was without one


@pytest.mark.parametrize("window", [1, 2, len(ODD_ITEMS), len(ODD_ITEMS) + 1, 1_000])
@pytest.mark.parametrize("way", ["set", "pushed", "imported", "in one call"])
def test_a_window_is_given_to_a_list_of_odd_items(
    store: RedisStore, thread_id: str, way: str, window: int
) -> None:
    last = Push("l", b'"last"', window)
    if way == "set":
        store.merge(thread_id, [Set("l", codec.encode(ODD_ITEMS))])
    elif way == "pushed":
        for operation in pushes("l", ODD_ITEMS):
            store.merge(thread_id, [operation])
    elif way == "imported":
        document = codec.join_document({"l": codec.encode(ODD_ITEMS)})
        store.import_thread(ListedThread(thread_id, {}, 5.0, 5.0, 0), document)
    if way == "in one call":
        store.merge(thread_id, [Set("l", codec.encode(ODD_ITEMS)), last])
    else:
        store.merge(thread_id, [last])
    assert items(store, thread_id) == [*ODD_ITEMS, "last"][-window:]
    # And on, with and without a window.
    store.merge(thread_id, pushes("l", ODD_ITEMS))
    assert items(store, thread_id) == [*[*ODD_ITEMS, "last"][-window:], *ODD_ITEMS]
    store.merge(thread_id, [last])
    assert items(store, thread_id) == [*ODD_ITEMS, "last", *ODD_ITEMS, "last"][-window:]


_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.text(alphabet='"\\,[]{}:\n x', max_size=12)
)
_items = st.recursive(
    _leaves,
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.text(alphabet='"\\,]}\n a', max_size=4), children, max_size=3)
    ),
    max_leaves=10,
)
_windows = st.none() | st.integers(0, 12)
_steps = st.lists(
    st.tuples(st.just("push"), st.lists(_items, min_size=1, max_size=6), _windows)
    | st.tuples(st.just("set"), st.lists(_items, max_size=15), st.none()),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(merges=st.lists(_steps, min_size=1, max_size=6))
def test_any_lists_and_windows_are_as_in_python(
    store: RedisStore, merges: list[list[tuple[str, list[Any], int | None]]]
) -> None:
    thread_id = new_id()
    model: list[Any] | None = None
    for steps in merges:
        changes: list[Operation] = []
        for kind, values, window in steps:
            if kind == "set":
                changes.append(Set("l", codec.encode(values)))
                model = list(values)
                continue
            for value in values:
                changes.append(Push("l", codec.encode_item(value), window))
                model = [*(model or []), value]
                if window is not None:
                    model = model[-window:] if window else []
        store.merge(thread_id, changes)
        assert model is not None
        # As text: Python takes 1, 1.0 and True for equal.
        assert codec.encode(items(store, thread_id)) == codec.encode(model)
        size = store.list(limit=1).threads[0].size
        assert size == len(store.restore(thread_id) or b"")
    store.delete(thread_id)


def test_pushes_of_many_widths_are_as_in_python(store: RedisStore, thread_id: str) -> None:
    chance = random.Random(3)
    model: list[Any] = []
    for number in range(400):
        window = chance.choice([None, 1, 5, 30, 60, 60, 60])
        batch = [[number, "x" * chance.choice([0, 10, 700])] for _ in range(chance.randint(1, 4))]
        store.merge(thread_id, [Push("l", codec.encode(item), window) for item in batch])
        model = [*model, *batch]
        if window is not None:
            model = model[-window:]
        assert items(store, thread_id) == model


# What a window leaves behind


def test_what_a_window_has_passed_is_rewritten_now_and_then(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    item = b'"%b"' % (b"x" * 100)
    width, count = 50, 500
    longest = width * (len(item) + 1)
    store.merge(thread_id, [Push("l", item, width)] * width)
    client.config_resetstat()
    lengths = []
    for _ in range(count):
        store.merge(thread_id, [Push("l", item, width)])
        lengths.append(len(string(client, thread_id)))
    assert items(store, thread_id) == [codec.decode(item)] * width
    # Never more than twice what is in the window, and one item; and it does grow to that.
    assert longest * 1.9 <= max(lengths) <= longest * 2 + 2 * len(item)
    rewritten = sum(later < earlier for earlier, later in pairwise(lengths))
    assert count / width - 2 <= rewritten <= count / width + 2
    statistics = client.info("commandstats")
    assert statistics["cmdstat_setrange"]["calls"] == count - rewritten
    assert statistics["cmdstat_set"]["calls"] == rewritten


def test_a_window_that_is_passed_at_once(
    store: RedisStore, client: redis.Redis, thread_id: str
) -> None:
    store.merge(thread_id, [Push("l", b"%d" % number, 10) for number in range(10)])
    store.merge(thread_id, [Push("l", b"%d" % number, 10) for number in range(100)])
    assert items(store, thread_id) == list(range(90, 100))
    expected = b"\n".join(b"%d" % number for number in range(90, 100))
    assert string(client, thread_id) == b"[%b]" % expected
    store.merge(thread_id, [Push("l", b"1", 0)])
    assert items(store, thread_id) == []
    assert not client.exists(f'agentuity:{{0}}:{thread_id}."l"')
    store.merge(thread_id, [Push("l", b"2")])
    assert items(store, thread_id) == [2]


def test_pushes_with_any_windows_are_one_step() -> None:
    many = [Push("l", b"1", (None, 10, 11)[number % 3]) for number in range(1_000)]
    (step,) = encode_steps(many).operations
    assert step == many


def test_a_very_long_item_is_passed(store: RedisStore, thread_id: str) -> None:
    long = codec.encode("x" * 300_000)
    store.merge(thread_id, [Push("l", long, 3), Push("l", b"1", 3), Push("l", b"2", 3)])
    store.merge(thread_id, [Push("l", b"3", 3)])
    assert items(store, thread_id) == [1, 2, 3]


def test_a_list_with_a_window_may_be_replaced(
    store: RedisStore, thread_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.merge(thread_id, [Push("l", b"1", 2)] * 9)
    store.merge(thread_id, [Set("l", b"[5]"), Push("l", b"6")])
    assert items(store, thread_id) == [5, 6]
    store.merge(thread_id, [Push("l", b"1", 2)] * 9)
    store.merge(thread_id, [Set("l", b"null")])
    with caplog.at_level(logging.WARNING, logger="flask_agentuity"):
        store.merge(thread_id, [Push("l", b"1", 2)])
    assert store.restore(thread_id) == b'{"state":{"l":null}}'
    assert len(caplog.records) == 1


# What is left over


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("orphan", [b"7,8,9", b"7\n8\n9"])
def test_a_string_that_was_left_over_never_comes_back(
    store: RedisStore, client: redis.Redis, thread_id: str, orphan: bytes, window: int | None
) -> None:
    """As when a thread has expired, whose strings stay a little longer."""
    name = f'agentuity:{{0}}:{thread_id}."l"'
    client.set(name, orphan)
    assert store.restore(thread_id) is None
    store.merge(thread_id, [Set("a", b"1")])
    assert store.restore(thread_id) == b'{"state":{"a":1}}'
    assert store.read(thread_id, ["l"]).encoded == {"a": b"1"}  # type: ignore[union-attr]
    store.merge(thread_id, [Push("l", b"1", window), Push("l", b"2", window)])
    assert items(store, thread_id) == [1, 2]
    store.merge(thread_id, [Set("l", b"[]")])
    client.set(name, orphan)
    store.merge(thread_id, [Push("l", b"3", window)])
    assert items(store, thread_id) == [3]
