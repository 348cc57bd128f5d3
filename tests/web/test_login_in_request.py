"""A person who logs in or out within a request: what becomes of the thread it has used before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_user, logout_user

from flask_agentuity import ThreadNotFound

from .owned_app import FromQuery, OwnedApp, User
from .test_ownership import by_cookie, by_header

SECRET = "a secret of ada"


@pytest.fixture
def in_memory() -> OwnedApp:
    return OwnedApp("memory://")


def use_early(owned: OwnedApp) -> None:
    """Have each request read its thread before the view is called."""

    @owned.app.before_request
    def read_early() -> None:
        g.language = g.thread.state.get("language")


# URLs of conversations in which nothing was said yet


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("visited", [False, True])
def test_after_a_login_the_redirect_leads_to_the_conversation(
    owned: OwnedApp, early: bool, visited: bool
) -> None:
    if early:
        use_early(owned)

    @owned.app.get("/enter/<name>")
    def enter(name: str) -> ResponseReturnValue:
        login_user(User(name))
        owned.threads.claim()
        return redirect(url_for("c_show", conversation=g.thread))

    client = owned.client()
    if visited:
        client.get("/read_id")
    for name in ("ada", "ada", "bob"):
        response = client.get(f"/enter/{name}", follow_redirects=True)
        assert response.status_code == 200
        thread_id = client.thread_id
        assert response.get_json() == {"id": thread_id, "owner": name, "state": {}}
        # It is stored: another device of the person finds it, and other people do not.
        assert owned.client(name).get(f"/c/{thread_id}/show").status_code == 200
        assert owned.client("eve").get(f"/c/{thread_id}/show").status_code == 404
    # It is not listed before something is said in it, unless its owner is in its metadata.
    assert owned.threads_of_all() == [] or not owned.store.owners


@pytest.mark.parametrize("person", ["ada", None])
@pytest.mark.parametrize("by", [by_cookie, by_header])
def test_the_url_of_ones_signed_thread_works_before_anything_is_stored(
    owned: OwnedApp, person: str | None, by: Callable[..., Any]
) -> None:
    client = owned.client(person)
    thread_id = client.get("/read_id").text
    path = f"/c/{thread_id}"
    if by is by_header:
        provider = owned.threads_of_app.signed_provider
        client.delete_cookie("atid")
        client.environ_base["HTTP_X_THREAD_ID"] = provider.header_value(thread_id)
    assert client.get(f"{path}/show").get_json()["id"] == thread_id
    assert client.get(f"{path}/runs/status").status_code == 204
    for other in (owned.client(person), owned.client("eve"), owned.client()):
        assert other.get(f"{path}/show").status_code == 404
    client.get(f"{path}/push")
    shown = client.get(f"{path}/show").get_json()
    assert shown == {"id": thread_id, "owner": person, "state": {"messages": ["pushed"]}}
    # A signed cookie of what belongs to another person does not open the URL.
    if person is not None:
        other = owned.client("eve")
        by_cookie(owned, other, thread_id, "take_turn")
        assert other.get(f"{path}/show").status_code == 404


# A request that has read before the person changed


def test_claim_leaves_the_conversation_of_another_person(owned: OwnedApp) -> None:
    use_early(owned)

    @owned.app.get("/enter/<name>")
    def enter(name: str) -> dict[str, Any]:
        g.thread.state.push("messages", "before")
        former = g.thread
        login_user(User(name))
        thread = owned.threads.claim()
        assert thread is g.thread is not former
        with pytest.raises(ThreadNotFound):
            _ = former.id
        with pytest.raises(ThreadNotFound):
            _ = former.state["messages"]
        thread.state.push("messages", f"welcome {name}")
        return {"id": thread.id, "owner": thread.owner, "state": dict(thread.state)}

    ada = owned.client("ada")
    thread_id = owned.begin(ada, SECRET)
    browser, ada = ada, owned.client("ada")
    shown = browser.get("/enter/carl").get_json()
    expected = {"id": shown["id"], "owner": "carl", "state": {"messages": ["welcome carl"]}}
    assert shown == browser.get("/show").get_json() == expected
    assert browser.thread_id == shown["id"] != thread_id
    # What was changed before the login is kept, nothing else.
    shown = by_cookie(owned, ada, thread_id, "show").get_json()
    assert shown["state"] == {"messages": [SECRET, "before"]}


def test_claim_continues_ones_own_after_a_session_had_expired(owned: OwnedApp) -> None:
    @owned.app.get("/enter/<name>")
    def enter(name: str) -> dict[str, Any]:
        _ = g.thread.state
        login_user(User(name))
        owned.threads.claim()
        return {"owner": g.thread.owner, "state": dict(g.thread.state)}

    thread_id = owned.begin(owned.client("ada"), "hello")
    guest = owned.client(thread_id=thread_id)
    assert guest.get("/enter/ada").get_json() == {"owner": "ada", "state": {"messages": ["hello"]}}
    guest = owned.client(thread_id=thread_id)
    assert guest.get("/enter/bob").get_json() == {"owner": "bob", "state": {}}


CALLS: dict[str, Callable[[OwnedApp], Any]] = {
    "new": lambda owned: owned.threads.new(),
    "mine": lambda owned: owned.threads.mine(),
    "rotate": lambda owned: owned.threads.rotate(),
    "select": lambda owned: owned.threads.select(request.args["own"]),
    "fork": lambda owned: owned.threads.fork(request.args["own"]),
    "delete": lambda owned: owned.threads.delete(request.args["own"]),
    "run": lambda owned: owned.threads.run(request.args["own"]),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("used", ["state", "push"])
def test_nothing_is_saved_in_the_conversation_of_the_former_person(
    in_memory: OwnedApp, call: str, used: str
) -> None:
    owned = in_memory

    @owned.app.get("/switch")
    def switch() -> str:
        if used == "state":
            g.thread.state["messages"].append("before")
        else:
            g.thread.state.push("messages", "before")
        login_user(User("bob"))
        CALLS[call](owned)
        g.thread.state.push("messages", "after")
        return str(g.thread.owner)

    thread_id, own = owned.begin(owned.client("ada"), SECRET), owned.begin(owned.client("bob"), "")
    browser = owned.client("ada", thread_id=thread_id)
    response = browser.get(f"/switch?own={own}")
    assert (response.status_code, response.text) == (200, "bob")
    assert SECRET not in browser.get("/show").text
    shown = owned.client("ada", thread_id=thread_id).get("/show").get_json()
    assert shown["state"] == {"messages": [SECRET, "before"]}


@pytest.mark.parametrize("call", ["select", "fork", "delete", "run"])
def test_the_former_persons_conversation_cannot_be_named(in_memory: OwnedApp, call: str) -> None:
    owned = in_memory

    @owned.app.get("/switch")
    def switch() -> str:
        _ = g.thread.state["messages"]
        logout_user()
        found = CALLS[call](owned)
        return repr(found)

    thread_id = owned.begin(owned.client("ada"), SECRET)
    browser = owned.client("ada", thread_id=thread_id)
    response = browser.get(f"/switch?own={thread_id}")
    assert (response.status_code, response.text) in ((404, response.text), (200, "None"))
    assert owned.store.read(thread_id) is not None


def test_a_change_by_a_kept_reference_is_dropped_and_reported(
    in_memory: OwnedApp, caplog: pytest.LogCaptureFixture
) -> None:
    owned = in_memory

    @owned.app.get("/switch")
    def switch() -> str:
        state = g.thread.state
        logout_user()
        owned.threads.new()
        state.push("messages", "late")
        return ""

    thread_id = owned.begin(owned.client("ada"), SECRET)
    browser = owned.client("ada", thread_id=thread_id)
    with caplog.at_level(logging.WARNING, "flask_agentuity"):
        assert browser.get("/switch").status_code == 200
    assert any(thread_id in record.getMessage() for record in caplog.records)
    assert b"late" not in (owned.store.restore(thread_id) or b"")


def test_what_the_guest_has_said_stays_after_a_login_without_claim(in_memory: OwnedApp) -> None:
    owned = in_memory

    @owned.app.get("/enter")
    def enter() -> str:
        g.thread.state.push("messages", "as a guest")
        login_user(User("ada"))
        page = owned.threads.mine()
        owned.threads.claim()
        return f"{len(page.threads)} {g.thread.owner} {g.thread.state['messages']}"

    assert owned.client().get("/enter").text == "0 ada ['as a guest']"


def test_a_provider_is_asked_again_for_another_person(in_memory: OwnedApp) -> None:
    owned = in_memory
    asked: list[str] = []

    class OfPerson(FromQuery):
        def get_thread_id(self, app: Any, request: Any) -> str | None:
            from flask_login import current_user

            asked.append(current_user.get_id())
            return ids.get(current_user.get_id())

    ids: dict[str, str] = {}
    owned.threads.set_thread_id_provider(OfPerson())

    @owned.app.get("/switch")
    def switch() -> dict[str, Any]:
        before = dict(g.thread.state)
        login_user(User("bob"))
        owned.threads.mine()
        return {"before": before, "after": dict(g.thread.state)}

    ids = {name: owned.begin(owned.client(name), name) for name in ("ada", "bob")}
    asked.clear()
    assert owned.client("ada").get("/switch").get_json() == {
        "before": {"messages": ["ada"]},
        "after": {"messages": ["bob"]},
    }
    assert asked == ["ada", "bob"]


def test_claim_begins_another_conversation_after_destroy(in_memory: OwnedApp) -> None:
    owned = in_memory

    @owned.app.get("/enter")
    def enter() -> ResponseReturnValue:
        g.thread.destroy()
        login_user(User("ada"))
        return redirect(url_for("c_show", conversation=owned.threads.claim()))

    client = owned.client()
    former = owned.begin(client, "hello")
    shown = client.get("/enter", follow_redirects=True).get_json()
    assert shown == {"id": client.thread_id, "owner": "ada", "state": {}}
    assert shown["id"] != former


def test_what_was_changed_before_a_logout_is_saved_with_the_response(in_memory: OwnedApp) -> None:
    owned = in_memory

    @owned.app.get("/leave")
    def leave() -> str:
        g.thread.state.push("messages", "goodbye")
        logout_user()
        return ""

    browser = owned.client("ada")
    thread_id = owned.begin(browser, SECRET)
    assert browser.get("/leave").status_code == 200
    assert browser.get("/show").get_json()["state"] == {}
    shown = by_cookie(owned, owned.client("ada"), thread_id, "show").get_json()
    assert shown["state"] == {"messages": [SECRET, "goodbye"]}
