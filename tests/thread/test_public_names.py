"""What users find on the objects that they hold."""

from __future__ import annotations

from collections.abc import MutableMapping

import pytest
from flask import Flask, g

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
MANAGER = {
    *("init_app", "exempt", "open", "new", "list", "one_at_a_time", "set_thread_id_provider"),
    *("owner_loader", "select", "mine", "claim", "rotate", "fork", "delete", "erase", "export"),
    *("stream", "run", "stop", "blueprint"),
}


def names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [(Thread, THREAD), (ThreadState, STATE), (Session, SESSION), (ThreadManager, MANAGER)],
)
def test_nothing_else_is_public(kind: type, allowed: set[str]) -> None:
    assert names(kind) == allowed


def test_instances_have_no_further_public_names() -> None:
    app = Flask("names")
    app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
    manager = ThreadManager(app)
    with app.test_request_context():
        thread, session = g.thread, g.session
        for held in (manager, thread, thread.state):
            assert {name for name in vars(held) if not name.startswith("_")} == set()
        found = {name for name in vars(session) if not name.startswith("_")}
        # The last three are for reporters of sessions.
        assert found == {"thread", "state", "metadata", "request", "error", "status_code"}
