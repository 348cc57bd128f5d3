"""``current_thread`` and ``current_session``, which have types where ``g`` has none."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, assert_type

from flask_agentuity import Session, Thread, ThreadManager, ThreadState
from flask_agentuity import current_session as session
from flask_agentuity import current_thread as thread


def use_the_thread() -> None:
    assert_type(thread.id, str)
    assert_type(thread.state, ThreadState)
    assert_type(thread.metadata, dict[str, Any])
    assert_type(thread.is_new, bool)
    assert_type(thread.degraded, bool)
    assert_type(thread.empty(), bool)
    thread.metadata["owner"] = "ada"
    thread.metadata = {"owner": "ada"}
    thread.save()
    thread.refresh()
    thread.destroy()


def use_the_session() -> None:
    assert_type(session, Session)
    assert_type(session.id, str)
    assert_type(session.thread, Thread)


def use_the_state(state: ThreadState) -> MutableMapping[str, Any]:
    state["profile"] = {"name": "Ada"}
    state.push("messages", {"role": "user"}, max_records=50, keep_first=1)
    state.push("events", {"id": 1}, unique="id")
    state.increment("visits")
    state.increment("score", 0.5)
    state.truncate("messages", keep=4)
    state.pop_last("messages")
    state.change("budget", lambda budget: budget - 1)
    assert_type(state.copy(), dict[str, Any])
    assert_type("profile" in state, bool)
    return state


def use_the_manager(threads: ThreadManager) -> None:
    assert_type(threads.new(), Thread)
    with threads.open("thrd_0123456789abcdef0123456789abcdef", create=False) as opened:
        assert_type(opened, Thread)
    for listed in threads.list({"owner": "ada"}, limit=10).threads:
        assert_type(listed.metadata, dict[str, Any])
        assert_type(listed.updated, float)


def use_it_wrongly(state: ThreadState) -> None:
    thread.id = "another"  # type: ignore[misc]
    state[1] = "one"  # type: ignore[index]
    state.push("messages", 1, maximum=2)  # type: ignore[call-arg]
