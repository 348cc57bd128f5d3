"""Random sequences of writes with every operation, compared with the store in memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ...document import codec
from ...document.operations import (
    Change,
    Clear,
    Delete,
    Edit,
    EditMetadata,
    Increment,
    MetadataOperation,
    Operation,
    PopLast,
    Push,
    Replace,
    ReplaceMetadata,
    Set,
    SetMetadata,
    Splice,
    Truncate,
)
from ...errors import StateTooLarge, ThreadGone
from ...stores import ThreadStore
from ...stores.memory import MemoryStore
from ...stores.writing import Conflict, Write, Written
from .requests import LATER, edit
from .stored import new_id
from .suite import Suite, needs

#: The size limit of both stores: room for several segments of a list, but still reached.
LIMIT = 15_000

KEYS = ["l", "m", "n", 'é"\n']

keys = st.sampled_from(KEYS)
items = st.one_of(
    st.integers(0, 3),
    st.sampled_from(["", "a", "],[", "x" * 900, "y" * 2_500]),
    st.builds(lambda identity, text: {"id": identity, "t": text}, st.integers(0, 5), st.text("ab")),
    st.lists(st.integers(0, 1), max_size=2),
)
values = st.lists(items, max_size=12) | items | st.integers(-(2**50), 2**50)
# Operations for which no store needs a second attempt.
numbers = st.sampled_from([0, 1, -3, 2**40])
blind = st.one_of(
    st.builds(Set, keys, values.map(codec.encode), st.booleans()),
    st.builds(Push, keys, items.map(codec.encode_item)),
    st.builds(Push, keys, items.map(codec.encode_item)),
    st.builds(Push, keys, items.map(codec.encode_item), st.integers(0, 9), st.integers(0, 3)),
    st.builds(
        lambda key, identity: Push(key, codec.encode({"id": identity}), unique="id"),
        keys,
        st.integers(0, 9),
    ),
    st.builds(Delete, keys),
    st.builds(Increment, keys, numbers),
    st.builds(Truncate, keys, st.integers(0, 9)),
    st.builds(PopLast, keys),
    st.just(Clear()),
    st.builds(SetMetadata, st.dictionaries(st.sampled_from("abc"), items).map(codec.encode)),
)


@dataclass(frozen=True)
class Plan:
    """How to make an operation with a condition from a state of the thread that was read.

    ``age`` counts the writes since then. ``wrong``: it expects values that were never there.
    """

    kind: str
    key: str
    age: int
    place: int
    count: int
    new: list[Any]
    wrong: bool


plans = st.builds(
    Plan,
    st.sampled_from(["splice", "replace", "edit", "edit", "metadata", "edit metadata"]),
    keys,
    st.integers(0, 4),
    st.integers(0, 20),
    st.integers(0, 4),
    st.lists(items, max_size=3),
    st.integers(0, 9).map(lambda roll: roll == 0),
)


@dataclass(frozen=True)
class Seen:
    """A thread at one moment, and its version in each of the two stores."""

    state: dict[str, bytes]
    metadata: bytes
    versions: tuple[int, int]


class AgainstMemory(RuleBasedStateMachine):
    """Does the same writes in a store and in the store in memory."""

    def __init__(self, store: ThreadStore) -> None:
        super().__init__()
        self.stores: tuple[ThreadStore, ThreadStore] = (store, MemoryStore(max_bytes=LIMIT))
        self.thread_id = new_id()
        self.seen: list[Seen] = []

    @initialize(state=st.dictionaries(keys, values.map(codec.encode)))
    def begin(self, state: dict[str, bytes]) -> None:
        self.began = time.monotonic()
        self.write([Set(key, value) for key, value in state.items()], [], 0)

    @rule(
        operations=st.lists(blind, max_size=5),
        conditions=st.lists(plans, max_size=2, unique_by=lambda plan: (plan.key, len(plan.kind))),
        seen=st.integers(0, 3),
    )
    def write(self, operations: list[Operation], conditions: list[Plan], seen: int) -> None:
        outcomes = []
        for which in range(2):
            together = [*self._made(conditions, which), *operations]
            metadata = [each for each in together if isinstance(each, MetadataOperation)]
            together = [each for each in together if not isinstance(each, MetadataOperation)]
            outcomes.append(self._write(which, [*together, *metadata[:1]], seen))
        assert outcomes[0] == outcomes[1]
        self.look()

    @rule()
    def delete(self) -> None:
        for which, store in enumerate(self.stores):
            store.delete(self.thread_id)
            assert self._write(which, [Push("l", b"1")], 0, self.began) == "gone"
        self.began = time.monotonic()
        self.seen.clear()

    @invariant()
    def are_equal(self) -> None:
        documents = [store.restore(self.thread_id) for store in self.stores]
        assert documents[0] == documents[1]

    def teardown(self) -> None:
        self.stores[0].delete(self.thread_id)

    def look(self) -> None:
        found = [store.read(self.thread_id) for store in self.stores]
        if found[0] is not None and found[1] is not None:
            state = {key: value or b"" for key, value in found[1].encoded.items()}
            versions = found[0].version, found[1].version
            self.seen.append(Seen(state, found[1].metadata, versions))

    def _write(
        self, which: int, operations: list[Operation], seen: int, began: float | None = None
    ) -> object:
        write = Write(operations, counted=["l", "m"])
        if began is not None:
            write = replace(write, began=began)
        elif seen < len(self.seen):
            write = replace(write, version=self.seen[-1 - seen].versions[which])
        try:
            outcome = self.stores[which].write(self.thread_id, write)
        except StateTooLarge as error:
            return error.size
        except ThreadGone:
            return "gone"
        if isinstance(outcome, Conflict):
            return set(outcome.keys), set(outcome.assigned), outcome.metadata
        assert isinstance(outcome, Written)
        replaced = _replaced(operations)
        return [
            {key: value for key, value in told.items() if key not in replaced}
            for told in (outcome.preceding, outcome.merged)
        ]

    def _made(self, conditions: list[Plan], which: int) -> list[Operation]:
        made: list[Operation] = []
        concerned: set[str] = set()
        for plan in conditions:
            concern = "the metadata" if plan.kind.endswith("metadata") else plan.key
            if len(self.seen) > plan.age and concern not in concerned:
                concerned.add(concern)
                operation = MAKERS[plan.kind](plan, self.seen[-1 - plan.age], which)
                made.extend([] if operation is None else [operation])
        return made


def _replaced(operations: list[Operation]) -> set[str]:
    """Return the keys of which nothing is left that a write could tell of."""
    found: set[str] = set()
    for operation in operations:
        match operation:
            case Clear():
                found.update(KEYS)
            case Set(key=key) | Delete(key=key):
                found.add(key)
    return found


def _since(plan: Plan, seen: Seen, which: int) -> int:
    return LATER if plan.place % 3 == 0 else seen.versions[which]


def _splice(plan: Plan, seen: Seen, which: int) -> Operation | None:
    stored = seen.state.get(plan.key, b"[1]")
    present = codec.items_of(stored) if codec.is_list(stored) else [b"1"]
    if not present:
        return None
    changes, end = [], 0
    for step in (plan.place, plan.place // 2):
        place = end + step % 5
        gone = present[place : place + plan.count + 1]
        if gone:
            if plan.wrong:
                gone = [*gone[:-1], b'"never"']
            new = tuple(codec.encode_item(item) for item in plan.new)
            changes.append(Change(place, tuple(gone), new))
            end = place + len(gone)
    return Splice(plan.key, tuple(changes), _since(plan, seen, which)) if changes else None


def _replace(plan: Plan, seen: Seen, which: int) -> Operation:
    old = b'"never"' if plan.wrong else seen.state.get(plan.key)
    return Replace(plan.key, old, codec.encode(plan.new), _since(plan, seen, which))


def _edit(plan: Plan, seen: Seen, which: int) -> Operation:
    base, since = seen.state.get(plan.key), _since(plan, seen, which)
    value: Any = plan.new
    if base is not None and codec.is_list(base) and not plan.wrong:
        value = codec.decode(base)
        value[plan.place : plan.place + plan.count] = plan.new
    made: Edit = edit(plan.key, base, value, since)
    return made


def _metadata(plan: Plan, seen: Seen, which: int) -> Operation:
    old = b'{"never":1}' if plan.wrong else seen.metadata
    return ReplaceMetadata(old, codec.encode({"a": plan.place, "b": plan.new}))


def _edit_metadata(plan: Plan, seen: Seen, which: int) -> Operation:
    value = {**codec.decode(seen.metadata), "abc"[plan.place % 3]: plan.new}
    return EditMetadata(seen.metadata, codec.encode(value))


MAKERS: dict[str, Callable[[Plan, Seen, int], Operation | None]] = {
    "splice": _splice,
    "replace": _replace,
    "edit": _edit,
    "metadata": _metadata,
    "edit metadata": _edit_metadata,
}


@needs("edits")
class WriteSequenceConformance(Suite):
    """A store does the same as the store in memory, for any sequence of writes."""

    #: How many sequences of writes are tested.
    write_examples: ClassVar[int] = 60

    def test_any_sequence_of_writes_does_as_the_store_in_memory(
        self, place: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.CRITICAL, logger="flask_agentuity")
        with closing(self.open(place, max_bytes=LIMIT)) as store:
            run_state_machine_as_test(
                lambda: AgainstMemory(store),  # type: ignore[arg-type]
                settings=settings(
                    max_examples=self.write_examples,
                    stateful_step_count=20,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
