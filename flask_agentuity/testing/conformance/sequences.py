"""Random sequences of calls, compared with a model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ...document import codec
from ...document.apply import apply_operations
from ...document.operations import Clear, Delete, Operation, Push, Set
from ...errors import StateTooLarge
from ...stores import ThreadStore
from .stored import new_id
from .suite import Suite

#: The size limit of the store: small, so that it is reached.
MACHINE_LIMIT = 700

keys_of_states = st.sampled_from(["messages", "a", "b", "", "__proto__", "metadata", 'é"\n\0😀'])
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8)
json_values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=3)
    ),
    max_leaves=8,
) | st.sampled_from([[], ["x" * 60] * 5, "y" * 300])
operations = (
    st.builds(Set, keys_of_states, json_values.map(codec.encode), st.booleans())
    | st.builds(Delete, keys_of_states)
    | st.just(Clear())
    | st.builds(
        Push, keys_of_states, json_values.map(codec.encode_item), st.none() | st.integers(0, 5)
    )
    # More pushes to one key, so that its list grows.
    | st.builds(Push, st.just("messages"), json_values.map(codec.encode_item), st.none())
    | st.builds(Push, st.just("messages"), json_values.map(codec.encode_item), st.integers(1, 9))
)
metadata_or_none = st.none() | st.dictionaries(st.text(max_size=3), scalars, max_size=3)


class AgainstModel(RuleBasedStateMachine):
    """Makes the same calls on a store and on a model made of pure functions."""

    def __init__(self, store: ThreadStore) -> None:
        super().__init__()
        self.store = store
        self.thread_id = new_id()
        self.state: dict[str, bytes] = {}
        self.metadata = b"{}"
        self.bystander = new_id()
        store.merge(self.bystander, [Push("messages", b"1")], {"m": 1})

    @rule(changes=st.lists(operations, max_size=8), metadata=metadata_or_none)
    def merge(self, changes: list[Operation], metadata: dict[str, Any] | None) -> None:
        state = dict(self.state)
        apply_operations(state, changes)
        self.change(state, metadata, lambda: self.store.merge(self.thread_id, changes, metadata))

    @rule(
        state=st.dictionaries(keys_of_states, json_values.map(codec.encode), max_size=4),
        metadata=metadata_or_none,
        within=metadata_or_none,
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

    @rule(keys=st.sets(keys_of_states))
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
        # A store need not say which values hold nulls; what it says must be true.
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


class SequenceConformance(Suite):
    """A store does the same as pure functions, for any sequence of calls."""

    #: How many sequences are tested.
    examples: ClassVar[int] = 40

    def test_any_sequence_of_calls_does_as_the_model(self, place: Any) -> None:
        with closing(self.open(place, max_bytes=MACHINE_LIMIT)) as store:
            run_state_machine_as_test(
                lambda: AgainstModel(store),  # type: ignore[arg-type]
                settings=settings(
                    max_examples=self.examples,
                    stateful_step_count=25,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
