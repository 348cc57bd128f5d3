"""What users find on the objects that they hold."""

from __future__ import annotations

from collections.abc import MutableMapping

import pytest

from flask_agentuity import Session, Thread, ThreadManager, ThreadState

THREAD = {
    *("id", "state", "metadata", "owner", "is_new", "loaded", "dirty", "degraded"),
    *("size", "max_size"),
    *("save", "refresh", "destroy", "empty", "get_serialized_state"),
    *("add_event_listener", "remove_event_listener"),
}
STATE = {
    *("push", "increment", "change", "truncate", "pop_last", "copy", "loaded", "dirty"),
    *(name for name in dir(MutableMapping) if not name.startswith("_")),
}
SESSION = {
    *("id", "serialize_user_data", "add_event_listener", "remove_event_listener"),
}


def names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("kind", "allowed"), [(Thread, THREAD), (ThreadState, STATE), (Session, SESSION)]
)
def test_nothing_else_is_public(kind: type, allowed: set[str]) -> None:
    assert names(kind) == allowed


def test_instances_have_no_further_public_names() -> None:
    manager = ThreadManager()
    assert {name for name in vars(manager) if not name.startswith("_")} == set()
