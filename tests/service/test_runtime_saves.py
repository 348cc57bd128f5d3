"""Full saves of the JavaScript runtime beside writes of Flask apps, through one service."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flask_agentuity.document.operations import Push, Set, SetMetadata
from flask_agentuity.service import ThreadService, views
from flask_agentuity.service.tenants import namespace_of, stored_id
from flask_agentuity.stores import ThreadStore
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.stores.remote import RemoteStore
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write, Written

from .peers import KEY, THREAD, Peer
from .runtime import Runtime

Serve = Callable[..., ThreadService]
Run = Callable[[ThreadService], Runtime]
Remote = Callable[[ThreadService], RemoteStore]

TURNS = 200


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ThreadStore]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        with closing(SQLiteStore(tmp_path / "threads.db", timeout=30.0)) as opened:
            yield opened


def stored(store: ThreadStore) -> dict[str, Any]:
    document = store.restore(THREAD)
    parts: dict[str, Any] = json.loads(document or b"{}")
    return parts


def push(store: ThreadStore, value: Any, key: str = "l") -> None:
    store.merge(THREAD, [Push(key, json.dumps(value).encode())])


@pytest.mark.parametrize("overlapping", [1, 4, 12])
def test_turns_of_both_sides_at_once(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore, overlapping: int
) -> None:
    """200 turns each; those of JavaScript overlap on one connection."""
    service = serve(store)
    agent, app = run(service), remote(service)
    numbers = itertools.count()
    errors: list[BaseException] = []

    def answer(seed: int) -> None:
        dice = random.Random(seed)
        while (number := next(numbers)) < TURNS:
            request = agent.begin()
            time.sleep(dice.uniform(0, 0.004))
            messages = request.state.setdefault("messages", [])
            messages += [f"question {number}", f"answer {number}"]
            request.state["turns"] = request.state.get("turns", 0) + 1
            request.save()

    def append(seed: int) -> None:
        dice = random.Random(seed)
        for number in range(seed, TURNS, 2):
            time.sleep(dice.uniform(0, 0.004))
            push(app, f"message {number}", "messages")

    def guarded(work: Callable[[int], None], seed: int) -> None:
        try:
            work(seed)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(append, seed)) for seed in range(2)]
    threads += [
        threading.Thread(target=guarded, args=(answer, seed)) for seed in range(overlapping)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    messages = stored(app)["state"]["messages"]
    expected = {f"message {number}" for number in range(TURNS)}
    expected |= {f"{kind} {n}" for kind in ("question", "answer") for n in range(TURNS)}
    assert set(messages) == expected
    assert len(messages) == len(expected)
    # A turn is together, and each side's own order is kept.
    for number in range(TURNS):
        assert messages.index(f"answer {number}") == messages.index(f"question {number}") + 1


def test_a_save_removes_what_its_request_removed(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore
) -> None:
    service = serve(store)
    agent, app = run(service), remote(service)
    app.merge(THREAD, [Set("l", b"[1,2,3]"), Set("a", b"1"), Set("b", b"1")])
    request = agent.begin()
    push(app, 4)
    app.merge(THREAD, [Set("c", b"1")])
    request.state["l"].remove(2)
    del request.state["a"]
    request.save()
    assert stored(app)["state"] == {"l": [1, 3, 4], "b": 1, "c": 1}


def test_one_request_after_another_is_exact(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore
) -> None:
    """Turn, undo, regenerate and edit, each with what the request before it has saved."""
    service = serve(store)
    agent, app = run(service), remote(service)
    states: list[dict[str, Any]] = [
        {"l": ["q", "a"]},
        {"l": ["q", "a", "q2", "a2"], "n": 1},
        {"l": ["q", "a"], "n": 2},
        {"l": ["q", "b"], "n": 2},
        {"l": ["other"]},
        {},
        {"l": ["q", "a"]},
        {"l": ["q", "a"], "o": {"x": 1.5, "10": [1]}},
        {"l": [], "o": {"10": [1, 2]}},
    ]
    for state in states:
        request = agent.begin()
        request.state.clear()
        request.state.update(state)
        request.save()
        assert stored(app).get("state", {}) == state


def test_the_order_of_saves_does_not_matter(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore
) -> None:
    service = serve(store)
    app = remote(service)
    for order in itertools.permutations(range(3)):
        app.delete(THREAD)
        agent = run(service)
        requests = []
        for number in range(3):
            requests.append(agent.begin())
            push(app, f"before {number}")
        for number in order:
            requests[number].state.setdefault("l", []).append(f"mine {number}")
            requests[number].save()
        expected = [f"before {number}" for number in range(3)]
        expected += [f"mine {number}" for number in order]
        assert stored(app)["state"]["l"] == expected


def test_a_thread_that_was_missing_is_added_to(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore
) -> None:
    service = serve(store)
    agent, app = run(service), remote(service)
    request = agent.begin()
    push(app, "theirs")
    app.merge(THREAD, [Set("a", b"1"), SetMetadata(b'{"m":1}')])
    request.state.update({"l": ["mine"], "b": 2})
    request.save({"n": 2})
    assert stored(app) == {
        "state": {"l": ["theirs", "mine"], "a": 1, "b": 2},
        "metadata": {"m": 1, "n": 2},
    }


def test_metadata_is_merged_key_by_key(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore
) -> None:
    service = serve(store)
    agent, app = run(service), remote(service)
    app.merge(THREAD, [Set("a", b"1")], {"a": 1, "b": 1, "c": 1})
    request = agent.begin()
    app.merge(THREAD, [], {"a": 1, "b": 2, "c": 1, "d": 1})
    request.save({"a": 1, "c": 3})
    assert stored(app) == {"state": {"a": 1}, "metadata": {"a": 1, "c": 3, "d": 1}}


def test_what_javascript_spells_in_another_way_was_not_changed(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore
) -> None:
    service = serve(store)
    agent, app = run(service), remote(service)
    app.merge(
        THREAD, [Set("t", b"1.0"), Set("l", b'[{"at":5.0,"c":"x"}]'), Set("o", b'{"b":2.0,"10":1}')]
    )
    request = agent.begin()
    app.merge(THREAD, [Set("t", b"2.0")])
    request.state["l"].append({"at": 6.0, "c": "y"})
    request.save()
    document = b'"t":2.0,"l":[{"at":5.0,"c":"x"},{"at":6,"c":"y"}],"o":{"b":2.0,"10":1}'
    assert app.restore(THREAD) == b'{"state":{%b}}' % document


def test_a_save_that_is_repeated_changes_nothing(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore
) -> None:
    service = serve(store)
    agent, app = run(service), remote(service)
    request = agent.begin()
    request.state["l"] = ["q"]
    request.save()
    push(app, "theirs")
    request.save()
    assert stored(app)["state"]["l"] == ["q", "theirs"]
    request.state["l"].append("a")
    request.save()
    assert stored(app)["state"]["l"] == ["q", "theirs", "a"]


def test_a_save_without_a_restore_replaces(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore
) -> None:
    service = serve(store)
    app = remote(service)
    app.merge(THREAD, [Set("a", b"1"), Push("l", b"1")], {"m": 1})
    # Another connection has restored it; that is not this one's.
    run(service).begin()
    reply = run(service).call("save", user_data='{"state":{"b":2}}')
    assert reply["success"] is True
    assert stored(app) == {"state": {"b": 2}, "metadata": {"m": 1}}


def test_a_view_that_is_too_old_is_not_used(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "VIEW_SECONDS", 0.0)
    service = serve(store)
    agent, app = run(service), remote(service)
    request = agent.begin()
    push(app, "theirs")
    request.state["l"] = ["mine"]
    request.save()
    assert stored(app)["state"]["l"] == ["mine"]


def test_a_store_without_edits_is_merged_as_well(serve: Serve, run: Run, remote: Remote) -> None:
    class Plain(MemoryStore):
        edits = False
        write = ThreadStore.write

    service = serve(Plain())
    agent, app = run(service), remote(service)
    app.merge(THREAD, [Set("l", b"[1,2,3]")], {"a": 1})
    request = agent.begin()
    push(app, 4)
    request.state["l"].remove(2)
    request.save({"a": 1, "b": 2})
    assert stored(app) == {"state": {"l": [1, 3, 4]}, "metadata": {"a": 1, "b": 2}}


# Deleted threads stay deleted


def test_a_request_that_began_before_a_deletion_is_dropped(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore
) -> None:
    service = serve(store)
    agent, app = run(service), remote(service)
    push(app, 1)
    late, later = agent.begin(), agent.begin()
    app.delete(THREAD)
    late.state["l"].append(2)
    reply = late.try_save()
    assert reply["success"] is False
    assert reply["gone"] is True
    assert THREAD in reply["error"] and "deleted" in reply["error"]
    # Also after the same process has seen that nothing is there.
    again = agent.begin()
    assert again.state == {}
    later.state["l"].append(3)
    assert later.try_save()["gone"] is True
    assert stored(app) == {}
    again.state["l"] = ["new"]
    again.save()
    assert stored(app) == {"state": {"l": ["new"]}}


def test_destroy_and_the_save_at_the_end_of_the_request(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore
) -> None:
    service = serve(store)
    agent, app = run(service), remote(service)
    push(app, 1)
    request = agent.begin()
    assert agent.call("delete")["success"] is True
    request.state["l"].append(2)
    assert request.try_save()["gone"] is True
    assert agent.call("merge", operations=[{"op": "push", "key": "l", "value": 1}])["gone"] is True
    assert stored(app) == {}


@pytest.mark.parametrize(
    ("action", "data"),
    [
        ("save", {"user_data": '{"state":{"l":[1]}}'}),
        ("save", {"user_data": '{"state":{"l":[1]}}', "metadata": {"a": 1}}),
        ("merge", {"operations": [{"op": "push", "key": "l", "value": 1}]}),
        ("merge", {"operations": [], "metadata": {"a": 1}}),
    ],
)
def test_a_client_that_never_restored_does_not_bring_a_thread_back(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore, action: str, data: dict[str, Any]
) -> None:
    service = serve(store)
    agent, app = run(service), remote(service)
    assert agent.call(action, **data)["success"] is True
    app.delete(THREAD)
    reply = agent.call(action, **data)
    assert reply["success"] is False
    assert reply["gone"] is True
    assert stored(app) == {}
    # Other threads, and this one after a look at it, are not concerned.
    assert agent.call(action, THREAD + "other", **data)["success"] is True
    assert agent.begin().state == {}
    assert agent.call(action, **data)["success"] is True
    assert stored(app) != {}


def test_a_merge_belongs_to_the_last_restore(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore
) -> None:
    service = serve(store)
    agent, app = run(service), remote(service)
    push(app, 1)
    agent.begin()
    app.delete(THREAD)
    merge: dict[str, Any] = {"operations": [{"op": "push", "key": "l", "value": 2}]}
    assert agent.call("merge", **merge)["gone"] is True
    app.merge(THREAD, [Push("l", b"3")])
    assert agent.call("merge", **merge)["gone"] is True
    agent.begin()
    assert agent.call("merge", **merge)["success"] is True
    assert stored(app)["state"] == {"l": [3, 2]}


def test_a_thread_that_was_emptied_was_not_deleted(
    serve: Serve, run: Run, remote: Remote, store: ThreadStore
) -> None:
    service = serve(store)
    agent, app = run(service), remote(service)
    push(app, 1)
    late, emptying = agent.begin(), agent.begin()
    emptying.state.clear()
    emptying.save()
    assert stored(app) == {}
    late.state["l"].append(2)
    late.save()
    assert stored(app) == {"state": {"l": [2]}}


def test_the_tombstone_of_an_hour_ago_is_forgotten(serve: Serve, run: Run) -> None:
    store = MemoryStore()
    agent = run(serve(store))
    assert agent.call("delete")["success"] is True
    merge: dict[str, Any] = {"operations": [{"op": "push", "key": "l", "value": 2}]}
    assert agent.call("merge", **merge)["gone"] is True
    inside = stored_id(namespace_of(KEY), THREAD)
    tenants = store.for_tenants()
    (tombstone,) = tenants._tombstones.values()
    tenants._tombstones[inside] = type(tombstone)(tombstone.deleted - 3601, tombstone.version)
    assert agent.call("merge", **merge)["success"] is True
    outcome = tenants.write(inside, Write([]))
    assert isinstance(outcome, Written)
    assert outcome.version


def test_a_save_with_too_many_keys_is_refused(
    serve: Callable[..., ThreadService], connect: Callable[..., Peer]
) -> None:
    store = MemoryStore()
    store.max_keys = 3
    peer = connect(serve(store))

    def save(count: int) -> Any:
        state = {f"key {number}": number for number in range(count)}
        return peer.call("save", user_data=json.dumps({"state": state}))

    assert save(3) == {"success": True}
    refused = save(4)
    assert refused["success"] is False
    assert "would have 4 keys; the limit is 3." in refused["error"]
    assert THREAD in refused["error"]
    pushed = peer.call("merge", operations=[{"op": "push", "key": "l", "value": 1}])
    assert "would have 4 keys" in pushed["error"]
    assert len(json.loads(peer.restore())["state"]) == 3
    assert save(2) == {"success": True}
