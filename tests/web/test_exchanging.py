"""New ids for conversations: after a login, and for copies; and what is removed of a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g
from flask_login import login_user

from flask_agentuity import (
    ConfigurationError,
    ThreadGone,
    ThreadManager,
    ThreadNotFound,
    thread_save_failed,
)
from flask_agentuity.document.operations import Set
from flask_agentuity.stores.writing import Write
from flask_agentuity.testing import ThreadTestClient
from flask_agentuity.testing.conformance.stored import snapshot_of
from flask_agentuity.web.app_threads import threads_of

from .owned_app import FromQuery, OwnedApp, User, without_owner
from .test_ownership import by_cookie

# claim


def test_a_guest_takes_the_conversation_along(owned: OwnedApp) -> None:
    client = owned.client()
    thread_id = owned.begin(client, "hello")
    (before,) = owned.threads_of_all()
    shown = client.get("/claim/ada").get_json()
    assert shown == {"id": shown["id"], "owner": "ada", "state": {"messages": ["hello"]}}
    assert shown["id"] != thread_id
    assert client.thread_id == shown["id"]
    assert client.get("/show").get_json() == shown
    assert client.get("/mine").get_json() == [shown["id"]]
    (after,) = owned.threads_of_all()
    assert without_owner(after.metadata) == before.metadata
    if owned.store.owners:
        assert (after.created, after.updated) == (before.created, before.updated)
    assert owned.store.read(thread_id) is None


def test_who_planted_the_cookie_does_not_read_on(owned: OwnedApp) -> None:
    attacker = owned.client()
    planted = owned.begin(attacker, "planted")
    victim = owned.client(thread_id=planted)
    claimed = victim.get("/claim/ada").get_json()["id"]
    victim.get("/push")
    assert attacker.get("/show").get_json()["state"] == {}
    # Neither the old id nor the new one, should it be learnt, lets the attacker in.
    for thread_id in (planted, claimed):
        shown = by_cookie(owned, owned.client(), thread_id, "show").get_json()
        assert shown["state"] == {}
        assert owned.client().get(f"/c/{thread_id}/show").status_code == 404


@pytest.mark.parametrize("stored", [True, False])
def test_also_an_id_that_nothing_is_stored_of_is_exchanged(owned: OwnedApp, stored: bool) -> None:
    client = owned.client()
    planted = client.get("/read_id").text
    if stored:
        client.get("/push")
    claimed = client.get("/claim/ada").get_json()["id"]
    assert claimed != planted
    assert client.thread_id == claimed
    client.get("/push")
    assert client.get("/show").get_json()["owner"] == "ada"
    assert owned.store.read(planted) is None


@pytest.mark.parametrize("before", ["state", "push", "metadata", "id"])
def test_what_the_request_did_as_a_guest_is_kept(owned: OwnedApp, before: str) -> None:
    @owned.app.get("/sign_up")
    def sign_up() -> dict[str, Any]:
        thread = g.thread
        match before:
            case "state":
                thread.state["messages"].append("and")
            case "push":
                thread.state.push("messages", "and")
            case "metadata":
                thread.metadata["title"] = "and"
            case _:
                _ = thread.id
        login_user(User("ada"))
        assert owned.threads.claim() is thread is g.thread
        thread.state.push("messages", "then")
        return {
            "id": thread.id,
            "metadata": without_owner(thread.metadata),
            "state": dict(thread.state),
        }

    client = owned.client()
    former = owned.begin(client, "hello")
    shown = client.get("/sign_up").get_json()
    between = ["and"] if before in ("state", "push") else []
    assert shown["state"] == {"messages": ["hello", *between, "then"]}
    assert shown["metadata"] == {"title": "and" if before == "metadata" else "hello"}
    assert shown["id"] != former
    assert client.get("/show").get_json() == {
        "id": shown["id"],
        "owner": "ada",
        "state": shown["state"],
    }


def test_what_is_written_meanwhile_under_the_former_id_is_dropped(owned: OwnedApp) -> None:
    client = owned.client()
    failures: list[type[BaseException]] = []

    @owned.app.get("/slow")
    def slow() -> str:
        g.thread.state["messages"].append("late")
        client.get("/claim/ada")
        return ""

    def note(sender: Flask, error: BaseException, **extra: Any) -> None:
        failures.append(type(error))

    former = owned.begin(client, "hello")
    other = owned.client(thread_id=former)
    other.set_cookie("atid_at", str(client.get_cookie("atid_at").value))  # type: ignore[union-attr]
    with thread_save_failed.connected_to(note, owned.app):
        response = other.get("/slow")
    assert response.status_code == 200
    # The browser has the cookie of the new id by now: this response must not touch it.
    assert "Set-Cookie" not in response.headers
    assert failures == [ThreadGone]
    assert client.get("/show").get_json()["state"] == {"messages": ["hello"]}
    assert owned.store.read(former) is None


def test_a_conversation_of_ones_own_stays_as_it_is(owned: OwnedApp) -> None:
    client = owned.client("ada")
    thread_id = owned.begin(client, "hello")
    assert client.get("/claim/ada").get_json()["id"] == thread_id
    shown = client.get("/claim/bob").get_json()
    assert shown == {"id": shown["id"], "owner": "bob", "state": {}}
    assert client.get("/show").get_json() == shown


def test_a_claim_at_a_url_takes_only_what_the_visitor_has(owned: OwnedApp) -> None:
    @owned.app.get("/c/<thread:conversation>/claim")
    def claim_at_url(conversation: str) -> str:
        login_user(User("bob"))
        return owned.threads.claim().id

    guest = owned.client()
    thread_id = owned.begin(guest, "hello")
    assert owned.client().get(f"/c/{thread_id}/claim").status_code == 404
    claimed = guest.get(f"/c/{thread_id}/claim").text
    assert guest.get("/show").get_json()["id"] == guest.thread_id == claimed


def test_claim_needs_a_person_and_an_owner_loader(owned: OwnedApp) -> None:
    with owned.app.test_request_context(), pytest.raises(RuntimeError, match="after the login"):
        owned.threads.claim()
    app = Flask("without")
    threads = ThreadManager(app, store="memory://")
    with app.test_request_context(), pytest.raises(ConfigurationError, match="owner_loader"):
        threads.claim()
    with app.test_request_context(), pytest.raises(ConfigurationError, match="owner_loader"):
        threads.mine()
    with pytest.raises(RuntimeError):
        threads.claim()


def test_an_id_of_a_provider_is_not_exchanged(owned: OwnedApp) -> None:
    owned.threads.set_thread_id_provider(FromQuery())
    client = owned.client("ada")
    thread_id = owned.begin(client, "hello")
    for path in ("/claim/ada", "/rotate"):
        with pytest.raises(RuntimeError, match="thread ID provider"):
            client.get(f"{path}?id={thread_id}")


# rotate


def test_rotate_gives_a_new_id_without_an_owner(tmp_path: Path) -> None:
    app = Flask("tested")
    app.config.update(SECRET_KEY="tested", TESTING=True)
    app.test_client_class = ThreadTestClient
    threads = ThreadManager(app, store="memory://")

    @app.get("/rotate")
    def rotate() -> dict[str, Any]:
        g.thread.state.push("messages", "then")
        threads.rotate()
        return {"id": g.thread.id, "state": dict(g.thread.state)}

    client = app.test_client(state={"messages": ["hello"]})
    assert isinstance(client, ThreadTestClient)
    former = str(client.thread_id)
    shown = client.get("/rotate").get_json()
    assert shown == {"id": client.thread_id, "state": {"messages": ["hello", "then"]}}
    assert shown["id"] != former
    assert threads_of(app).store.read(former) is None
    # A new thread, of which nothing is stored.
    fresh = app.test_client()
    assert fresh.get("/rotate").get_json()["state"] == {"messages": ["then"]}


def test_rotate_keeps_the_owner_and_refuses_what_is_foreign(owned: OwnedApp) -> None:
    client = owned.client("ada")
    thread_id = owned.begin(client, "hello")
    shown = client.get("/rotate").get_json()
    assert shown == {"id": client.thread_id, "owner": "ada", "state": {"messages": ["hello"]}}
    assert shown["id"] != thread_id
    other = owned.client("bob")
    assert by_cookie(owned, other, shown["id"], "rotate").get_json()["state"] == {}
    assert client.get("/show").get_json() == shown


# fork


def test_a_copy_belongs_to_the_person(owned: OwnedApp) -> None:
    client = owned.client("ada")
    thread_id = owned.begin(client, "hello")
    copied = client.get("/fork").get_json()
    assert copied == {"id": copied["id"], "owner": "ada", "state": {"messages": ["hello"]}}
    assert client.thread_id == thread_id
    assert set(client.get("/mine").get_json()) == {thread_id, copied["id"]}
    client.get(f"/c/{copied['id']}/push")
    assert client.get(f"/c/{thread_id}/show").get_json()["state"] == {"messages": ["hello"]}


def test_a_copy_of_the_first_messages_that_is_changed_and_selected(owned: OwnedApp) -> None:
    @owned.app.get("/try_again")
    def try_again() -> dict[str, Any]:
        g.thread.state["messages"].append("third")
        copied = owned.threads.fork(keep={"messages": 1}, metadata={"title": "another"})
        copied.state.push("messages", "other second")
        owned.threads.select(copied)
        assert g.thread is copied
        return {"id": copied.id}

    client = owned.client("ada")
    thread_id = owned.begin(client, "first")
    copied = client.get("/try_again").get_json()["id"]
    assert client.thread_id == copied
    assert client.get("/show").get_json()["state"] == {"messages": ["first", "other second"]}
    assert client.get("/read_metadata").get_json() == {"title": "another"}
    original = client.get(f"/c/{thread_id}/show").get_json()
    assert original["state"] == {"messages": ["first", "third"]}


def test_what_cannot_be_copied(owned: OwnedApp) -> None:
    with owned.app.test_request_context():
        with pytest.raises(ThreadNotFound):
            owned.threads.fork()
        g.thread.state["messages"] = ["a"]
        for keep in ({"messages": -1}, {"messages": True}, {"messages": "1"}):
            with pytest.raises(ValueError, match="keep"):
                owned.threads.fork(keep=keep)  # type: ignore[arg-type]


# delete


@pytest.mark.parametrize("path", ["/delete?id={}", "/c/{}/destroy"])
def test_the_cookie_ends_with_its_conversation(owned: OwnedApp, path: str) -> None:
    client = owned.client("ada")
    other, thread_id = owned.begin(client, "other"), owned.begin(client, "hello")
    client.get(path.format(other))
    assert client.thread_id == thread_id
    client.get(path.format(thread_id))
    assert client.thread_id is None
    assert client.get("/mine").get_json() == []


# erase


def test_everything_of_a_person_is_removed(owned: OwnedApp) -> None:
    clients = {name: owned.client(name) for name in ("ada", "bob")}
    for client in clients.values():
        for message in ("one", "two"):
            owned.begin(client, message)
    guest = owned.client()
    owned.begin(guest, "guest")
    steps: list[int] = []
    assert owned.threads.erase("ada", steps.append) == sum(steps) == 2
    assert owned.threads.erase("ada") == 0
    assert clients["ada"].get("/mine").get_json() == []
    assert len(clients["bob"].get("/mine").get_json()) == 2
    assert guest.get("/show").get_json()["state"] == {"messages": ["guest"]}
    for wrong in ("", None, True, 1.5):
        with pytest.raises(ValueError, match="owner"):
            owned.threads.erase(wrong)  # type: ignore[arg-type]


def test_a_person_whose_id_is_a_number(tmp_path: Path) -> None:
    app = Flask("tested")
    app.config.update(SECRET_KEY="tested", TESTING=True)
    threads = ThreadManager(app, store="memory://")
    threads.owner_loader(lambda: 5)

    @app.get("/")
    def begin() -> str:
        g.thread.state["a"] = 1
        return str(g.thread.owner)

    assert app.test_client().get("/").text == "5"
    assert len(threads.list(owner=5).threads) == len(threads.list(owner="5").threads) == 1
    assert threads.list(owner=6).threads == []
    assert threads.erase(5) == 1


def test_a_conversation_that_another_began_under_the_id_is_not_taken() -> None:
    """Between the read of a request and its new id, its conversation is deleted."""
    owned = OwnedApp("memory://")
    store = owned.store

    @owned.app.get("/slow")
    def slow() -> str:
        thread_id = g.thread.id
        len(g.thread.state)
        store.delete(thread_id)
        store.write(thread_id, Write([Set("secret", b'"of bob"')], owner="bob"))
        assert owned.threads.rotate().id != thread_id
        assert snapshot_of(store, thread_id).owner == "bob"
        g.thread.refresh()
        return str(dict(g.thread.state))

    client = owned.client("ada")
    owned.begin(client, "hello")
    assert client.get("/slow").text == "{}"


def test_a_guest_gets_no_copy_of_what_a_user_began_under_the_id() -> None:
    owned = OwnedApp("memory://")
    store = owned.store

    @owned.app.get("/slow")
    def slow() -> str:
        thread_id: str = g.thread.id
        len(g.thread.state)
        store.delete(thread_id)
        store.write(thread_id, Write([Set("secret", b'"of bob"')], owner="bob"))
        with pytest.raises(ThreadNotFound):
            owned.threads.fork()
        return thread_id

    client = owned.client()
    owned.begin(client, "hello")
    thread_id = client.get("/slow").text
    assert [listed.id for listed in owned.threads_of_all()] == [thread_id]
