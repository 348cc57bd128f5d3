"""Every operation in Redis, against the pure functions that say what it means."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_agentuity.document import codec
from flask_agentuity.document.apply import apply_operations
from flask_agentuity.document.operations import (
    Change,
    Clear,
    Delete,
    Increment,
    Operation,
    PopLast,
    Push,
    Replace,
    Set,
    Splice,
    Truncate,
)
from flask_agentuity.stores.redis import seen as seen_places
from flask_agentuity.stores.redis.store import RedisStore
from flask_agentuity.stores.writing import Conflict, Write, Written

from ..conformance import new_id

_TEXTS = st.text(alphabet='"\\,[]{}:\n x#é', max_size=5) | st.just("x" * 150)
_SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | _TEXTS
_FIELDS = st.sampled_from(["id", "", 'a"id', ":", "\\"])
_VALUES = st.recursive(
    _SCALARS,
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(_FIELDS | _TEXTS, children, max_size=3)
    ),
    max_leaves=6,
)
# Adding to a float is a conflict in Redis, and has a separate test.
_WHOLE_VALUES = _VALUES.filter(lambda value: not isinstance(value, float))
_OBJECTS = st.dictionaries(_FIELDS, _VALUES, min_size=1, max_size=3)
_ITEMS = st.sampled_from([0, 1, "x", {"id": 1}, {"id": 2, "": {"id": 1}}]) | _VALUES | _OBJECTS
_KEYS = st.sampled_from(["l", 'k "2"', "m"])
_LENGTHS = st.integers(0, 12)

_PUSHES = st.builds(
    lambda key, item, window, first, unique: Push(
        key,
        codec.encode_item(item),
        window,
        first if window is not None else 0,
        unique if isinstance(item, dict) and unique in item else None,
    ),
    _KEYS,
    _ITEMS,
    st.none() | _LENGTHS,
    st.integers(0, 4),
    st.none() | _FIELDS,
)
_PLAIN = st.one_of(
    _PUSHES,
    _PUSHES,
    st.builds(lambda key, item: Push(key, codec.encode_item(item)), _KEYS, _ITEMS),
    st.builds(Truncate, _KEYS, _LENGTHS),
    st.builds(PopLast, _KEYS),
    st.builds(
        lambda key, value, missing: Set(key, codec.encode(value), missing),
        _KEYS,
        st.lists(_ITEMS, max_size=9) | _WHOLE_VALUES | st.just("x" * 1_200),
        st.booleans(),
    ),
    st.builds(Delete, _KEYS),
    st.builds(Increment, _KEYS | st.just("n"), st.integers(-5, 5)),
    st.just(Clear()),
)


@dataclass
class _Model:
    """What should be stored."""

    state: dict[str, bytes] = field(default_factory=dict)
    assigned: dict[str, int] = field(default_factory=dict)
    versions: list[int] = field(default_factory=lambda: [0])


def _conditional(data: Any, model: _Model) -> list[Operation]:
    """Draw splices and replacements of what is stored, some of which expect something else."""
    operations: list[Operation] = []
    for key in data.draw(st.sets(_KEYS, max_size=2)):
        since = data.draw(st.sampled_from(model.versions[-2:]))
        stored = model.state.get(key)
        if stored is not None and codec.is_list(stored) and data.draw(st.integers(0, 4)):
            changes = _changes(data, codec.items_of(stored))
            if changes:
                operations.append(Splice(key, changes, since))
                continue
        old = stored
        if not data.draw(st.integers(0, 5)):
            old = data.draw(st.sampled_from([None, b"[]", b"0", codec.encode("x" * 1_199)]))
        new = codec.encode(data.draw(st.lists(_ITEMS, max_size=5) | _WHOLE_VALUES))
        operations.append(Replace(key, old, new, since))
    return operations


def _changes(data: Any, items: Sequence[bytes]) -> tuple[Change, ...]:
    changes: list[Change] = []
    place = 0
    while place < len(items) and len(changes) < 4:
        place += data.draw(st.integers(0, max(0, len(items) - place - 1)))
        stop = data.draw(st.integers(place + 1, min(len(items), place + 3)))
        gone = list(items[place:stop])
        if not data.draw(st.integers(0, 12)):
            # Another item than is stored, or one more than there are.
            gone[-1:] = [codec.encode(data.draw(_ITEMS)), *data.draw(st.sampled_from([[], [b"0"]]))]
        new = data.draw(st.lists(_ITEMS, max_size=3))
        changes.append(Change(place, tuple(gone), tuple(map(codec.encode_item, new))))
        place += len(gone)
    return tuple(changes)


def _write(store: RedisStore, thread_id: str, model: _Model, write: Write) -> None:
    state = dict(model.state)
    applied = apply_operations(
        state, write.operations, counted=write.counted, assigned=model.assigned
    )
    outcome = store.write(thread_id, write)
    if applied.conflicts:
        assert isinstance(outcome, Conflict)
        assert set(outcome.keys) == applied.conflicts
        assert set(outcome.assigned) == applied.assigned_conflicts
        return
    assert isinstance(outcome, Written)
    assert outcome.version > model.versions[-1]
    assert outcome.preceding == applied.preceding
    model.state = state
    for key in applied.removed:
        model.assigned.pop(key, None)
    model.assigned.update(dict.fromkeys(applied.assigned, outcome.version))
    model.versions.append(outcome.version)


def _check(store: RedisStore, thread_id: str, model: _Model) -> None:
    expected = codec.join_document(model.state)
    assert (store.restore(thread_id) or b"") == expected
    for key, value in model.state.items():
        snapshot = store.read(thread_id, [key])
        assert snapshot is not None
        assert snapshot.encoded[key] == value
        assert snapshot.version == model.versions[-1]
    sizes = [thread.size for thread in store.scan() if thread.id == thread_id]
    assert sizes == ([len(expected)] if expected else [])


@settings(
    max_examples=250,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_operations_are_as_in_python(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, data: Any
) -> None:
    # So that the places of items are told that Redis would otherwise find by itself.
    monkeypatch.setattr(seen_places, "_NEAR", 0)
    thread_id = new_id()
    model = _Model()
    seen: list[Any] = [None]
    for _ in range(data.draw(st.integers(1, 7))):
        operations = _conditional(data, model)
        operations += data.draw(st.lists(_PLAIN, max_size=5))
        counted = data.draw(st.sampled_from([(), ("l",), ("l", "m", "n")]))
        write = Write(operations, seen=data.draw(st.sampled_from(seen[-3:])), counted=counted)
        _write(store, thread_id, model, write)
        _check(store, thread_id, model)
        snapshot = store.read(thread_id)
        seen.append(snapshot.seen if snapshot else None)
    store.delete(thread_id)


@pytest.mark.parametrize("known", [True, False], ids=["seen", "not seen"])
@pytest.mark.parametrize("window", [None, 400])
def test_edits_anywhere_in_a_long_list(
    store: RedisStore, thread_id: str, known: bool, window: int | None
) -> None:
    """With items of many widths, another writer in between now and then, and all in one string."""
    chance = random.Random(7)
    model = [codec.encode("x" * chance.choice([0, 5, 90, 3_000])) for _ in range(400)]
    for item in model:
        store.merge(thread_id, [Push("l", item, window)])
    for number in range(120):
        snapshot = store.read(thread_id, ["l"])
        assert snapshot is not None
        if number % 5 == 4:
            place = chance.randrange(len(model))
            two = (b"[%d]" % number, codec.encode("y" * number))
            operation = Splice("l", (Change(place, (model[place],), two),))
            assert isinstance(store.write(thread_id, Write([operation])), Written)
            model[place : place + 1] = two
        places = sorted(chance.sample(range(len(model)), chance.choice([1, 1, 2, 5])))
        changes = []
        for place in places:
            new = tuple(
                codec.encode("z" * chance.choice([0, 5, 90, 3_000]))
                for _ in range(chance.choice([0, 1, 1, 1, 2]))
            )
            changes.append(Change(place, (model[place],), new))
        for change in reversed(changes):
            model[change.place : change.place + 1] = change.new
        write = Write([Splice("l", tuple(changes)), Push("l", b"0")])
        if known:
            write = replace(write, seen=snapshot.seen)
        assert isinstance(store.write(thread_id, write), Written)
        model.append(b"0")
        found = store.read(thread_id, ["l"])
        assert found is not None
        assert found.encoded["l"] == codec.join_list(model)
