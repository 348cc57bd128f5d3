"""A request reaches the conversations of its person only, by every way in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Any

import pytest
from flask import g
from werkzeug.test import TestResponse

from flask_agentuity import ThreadNotFound
from flask_agentuity.testing import ThreadTestClient
from flask_agentuity.web.app_threads import threads_of
from flask_agentuity.web.thread_ids import make_thread_id

from .owned_app import FromQuery, OwnedApp

SECRET = "a secret of ada"


Send = Callable[[OwnedApp, ThreadTestClient, str, str], TestResponse]


def by_cookie(owned: OwnedApp, client: ThreadTestClient, thread_id: str, use: str) -> TestResponse:
    client.set_cookie("atid", threads_of(owned.app).signed_provider.cookie_value(thread_id))
    return client.get(f"/{use}")


def by_header(owned: OwnedApp, client: ThreadTestClient, thread_id: str, use: str) -> TestResponse:
    client.delete_cookie("atid")
    header = threads_of(owned.app).signed_provider.header_value(thread_id)
    return client.get(f"/{use}", headers={"x-thread-id": header})


def by_provider(
    owned: OwnedApp, client: ThreadTestClient, thread_id: str, use: str
) -> TestResponse:
    owned.threads.set_thread_id_provider(FromQuery())
    return client.get(f"/{use}?id={thread_id}")


def by_url(owned: OwnedApp, client: ThreadTestClient, thread_id: str, use: str) -> TestResponse:
    return client.get(f"/c/{thread_id}/{use}")


@dataclass(frozen=True)
class Way:
    """A way in; *named*: the id is not signed, so a thread that does not exist is a 404."""

    send: Send
    named: bool


WAYS = [Way(by_cookie, False), Way(by_header, False), Way(by_provider, False), Way(by_url, True)]
USES = ["show", "push", "read_id", "read_metadata", "destroy", "take_turn"]
#: What names a thread in an argument or reaches it otherwise, each with a URL.
CALLS = ["/select?id={}", "/fork?id={}", "/delete?id={}", "/c/{}", "/c/{}/open"]

ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.send.__name__)


def document(owned: OwnedApp, thread_id: str) -> bytes | None:
    return owned.store.restore(thread_id)


# Every way in


@ways
@pytest.mark.parametrize("person", ["bob", None])
def test_a_foreign_conversation_is_not_reached(
    owned: OwnedApp, way: Way, person: str | None
) -> None:
    thread_id = owned.begin(owned.client("ada"), SECRET)
    stored = document(owned, thread_id)
    for use in USES:
        response = way.send(owned, owned.client(person), thread_id, use)
        assert response.status_code == (404 if way.named else 200), use
        assert SECRET not in response.text
        assert thread_id not in response.text
        assert document(owned, thread_id) == stored
        if use == "show" and not way.named:
            other = response.get_json()["id"]
            assert response.get_json() == {"id": other, "owner": person, "state": {}}


@ways
def test_the_own_conversation_is_reached(owned: OwnedApp, way: Way) -> None:
    client = owned.client("ada")
    thread_id = owned.begin(client, SECRET)
    shown = way.send(owned, client, thread_id, "show").get_json()
    assert shown == {"id": thread_id, "owner": "ada", "state": {"messages": [SECRET]}}
    assert way.send(owned, client, thread_id, "read_id").text == thread_id
    assert way.send(owned, client, thread_id, "read_metadata").get_json() == {"title": SECRET}
    assert way.send(owned, client, thread_id, "take_turn").status_code == 200
    way.send(owned, client, thread_id, "push")
    assert b"pushed" in (document(owned, thread_id) or b"")
    way.send(owned, client, thread_id, "destroy")
    assert document(owned, thread_id) is None


@pytest.mark.parametrize("person", ["bob", None])
def test_a_foreign_conversation_is_not_reached_by_its_id(
    owned: OwnedApp, person: str | None
) -> None:
    thread_id = owned.begin(owned.client("ada"), SECRET)
    stored = document(owned, thread_id)
    for path in CALLS:
        client = owned.client(person)
        foreign = client.get(path.format(thread_id))
        absent = client.get(path.format(make_thread_id()))
        assert foreign.status_code == absent.status_code == 404, path
        assert foreign.data == absent.data
        assert dict(foreign.headers) == dict(absent.headers)
        assert document(owned, thread_id) == stored
        # A signed cookie for it, as one that was planted or left behind, does not help.
        by_cookie(owned, client, thread_id, "take_turn")
        assert client.get(path.format(thread_id)).status_code == 404
        assert document(owned, thread_id) == stored


def test_the_own_conversation_is_reached_by_its_id(owned: OwnedApp) -> None:
    client = owned.client("ada")
    for path in CALLS:
        thread_id, _ = owned.begin(client, SECRET), owned.begin(client, "another")
        assert client.get(path.format(thread_id)).status_code == 200, path
        stored = document(owned, thread_id)
        assert (stored is None) is path.startswith("/delete")
        assert (b"pushed" in (stored or b"")) is path.endswith("/open")


@ways
@pytest.mark.parametrize("person", ["bob", None])
def test_a_run_of_a_foreign_conversation_is_not_found(
    owned: OwnedApp, way: Way, person: str | None
) -> None:
    ada = owned.client("ada")
    thread_id = owned.begin(ada, SECRET)
    with ada.get("/answer") as response:
        assert response.get_data(as_text=True) == SECRET
    own = way.send(owned, ada, thread_id, "runs/status")
    assert own.get_json()["status"] == "done"
    run_id = own.get_json()["run"]
    other = owned.client(person)
    for use in ("runs/status", "runs/stream", f"runs/stream?run={run_id}"):
        if way.send is by_provider:
            use += "&" if "?" in use else "?"
            foreign, absent = (
                other.get(f"/{use}id={each}") for each in (thread_id, make_thread_id())
            )
        else:
            foreign = way.send(owned, other, thread_id, use)
            absent = way.send(owned, other, make_thread_id(), use)
        assert foreign.status_code == absent.status_code == 204
        assert SECRET not in foreign.text
    path = f"/run?id={thread_id}"
    assert other.get(path).get_json() == {"stopped": False, "text": None}
    assert ada.get(path).get_json() == {"stopped": False, "text": SECRET}
    assert other.get("/run?id=none").get_json() == {"stopped": False, "text": None}


def test_what_is_no_thread_id_is_not_found(owned: OwnedApp) -> None:
    client = owned.client("ada")
    for thread_id in (
        *("thrd_short", "thrd_" + "a" * 60, "thrd_" + "a" * 5000, "x" * 32),
        *("thrd_" + "%C3%A9" * 32, "%00", "thrd_" + "a" * 31 + "%0A"),
    ):
        for path in (*CALLS, "/c/{}/show"):
            assert client.get(path.format(thread_id)).status_code == 404


def test_the_error_is_a_lookup_error_that_says_no_more_than_the_id(owned: OwnedApp) -> None:
    thread_id, absent = owned.begin(owned.client("ada"), SECRET), make_thread_id()
    texts = []
    for each in (thread_id, absent, "thrd_short", "", None, 5, b"thrd_", "thrd_" + "é" * 90):
        with owned.app.test_request_context(), pytest.raises(LookupError) as caught:
            owned.threads.select(each)  # type: ignore[arg-type]
        assert isinstance(caught.value, ThreadNotFound)
        assert caught.value.thread_id == each
        texts.append(str(caught.value))
    assert texts[0].replace(thread_id, absent) == texts[1]
    assert len(max(texts, key=len)) < 150


# Guests


@ways
def test_a_guest_reaches_a_conversation_without_owner_by_its_signed_id(
    owned: OwnedApp, way: Way
) -> None:
    guest = owned.client()
    thread_id = owned.begin(guest, SECRET)
    response = way.send(owned, guest, thread_id, "show")
    assert response.get_json() == {"id": thread_id, "owner": None, "state": {"messages": [SECRET]}}
    stranger = owned.client()
    if way.named:
        assert way.send(owned, stranger, thread_id, "show").status_code == 404


def test_a_person_does_not_go_on_with_a_planted_cookie(owned: OwnedApp) -> None:
    """Session fixation: who planted it would read what the person says."""
    attacker = owned.client()
    thread_id = owned.begin(attacker, "planted")
    for victim in (owned.client("ada"), owned.client(thread_id=thread_id)):
        victim.get("/login/ada")
        assert by_cookie(owned, victim, thread_id, "push").status_code == 200
    assert b"pushed" not in (document(owned, thread_id) or b"")
    # A cookie of a conversation that nothing is stored of becomes the victim's own.
    planted = make_thread_id()
    victim = owned.client("ada")
    assert by_cookie(owned, victim, planted, "push").status_code == 200
    assert victim.get("/show").get_json()["owner"] == "ada"
    assert by_cookie(owned, attacker, planted, "show").get_json()["state"] == {}


@pytest.mark.parametrize(("first", "second"), [("ada", None), (None, "ada"), ("ada", "bob")])
def test_two_who_begin_the_thread_of_a_planted_id_at_once(
    owned: OwnedApp, first: str | None, second: str | None
) -> None:
    """The first request has found that nothing is stored, and writes when the second has."""
    clients: dict[str, ThreadTestClient] = {}

    @owned.app.get("/slow")
    def slow() -> dict[str, Any]:
        found = dict(g.thread.state)
        # In a thread, because requests of one thread share g, and Flask-Login's user in it.
        other = Thread(target=by_cookie, args=(owned, clients["second"], planted, "push"))
        other.start()
        other.join()
        g.thread.state.setdefault("messages", []).append("slow")
        return found

    clients["first"], clients["second"] = owned.client(first), owned.client(second)
    planted = make_thread_id()
    assert by_cookie(owned, clients["first"], planted, "slow").get_json() == {}
    shown = [clients[name].get("/show").get_json() for name in ("first", "second")]
    assert [each["state"] for each in shown] == [{"messages": ["slow"]}, {"messages": ["pushed"]}]
    assert [each["owner"] for each in shown] == [first, second]
    assert shown[1]["id"] == planted != shown[0]["id"]


def test_a_browser_that_changes_hands(owned: OwnedApp) -> None:
    browser = owned.client("ada")
    thread_id = owned.begin(browser, SECRET)
    browser.get("/logout")
    assert browser.get("/show").get_json()["state"] == {}
    assert browser.thread_id != thread_id
    browser.get("/login/bob")
    assert browser.get("/show").get_json()["owner"] == "bob"
    browser.get("/login/ada")
    assert browser.get(f"/select?id={thread_id}").get_json()["state"] == {"messages": [SECRET]}
    assert browser.thread_id == thread_id


# What it costs


class Counted:
    """Notes the calls of a store."""

    def __init__(self, owned: OwnedApp, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Any] = []
        self._inside = False
        store = owned.store
        for name in ("read", "read_for", "write", "delete"):
            monkeypatch.setattr(store, name, self._counting(name, getattr(store, name)))

    def _counting(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any) -> Any:
            if self._inside:
                # A method that calls another one is one round trip at most.
                return method(*arguments)
            kind, _, _ = name.partition("_")
            self.calls.append((kind, tuple(arguments[-1]) if arguments[-1] == () else None))
            self._inside = True
            try:
                return method(*arguments)
            finally:
                self._inside = False

        return count


@ways
def test_a_request_that_reads_pays_no_round_trip_for_it(
    owned: OwnedApp, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = owned.client("ada")
    thread_id = owned.begin(client, "hello")
    counted = Counted(owned, monkeypatch)
    expected: dict[str, list[Any]] = {
        "show": [("read", None)],
        "push": [("read", ()), ("write", None)],
        "read_id": [("read", ())],
        "read_metadata": [("read", ())],
    }
    if not owned.store.owners:
        # It has no place for the owner, so that a write reads the metadata once more.
        del expected["push"]
    for use, calls in expected.items():
        counted.calls.clear()
        assert way.send(owned, client, thread_id, use).status_code == 200
        assert counted.calls == calls


def test_a_browser_may_ask_what_another_origin_may_send(owned: OwnedApp) -> None:
    """It sends no cookies with that."""
    thread_id = owned.begin(owned.client("ada"), SECRET)
    for each in (thread_id, make_thread_id()):
        response = owned.client().options(f"/c/{each}/push")
        assert response.status_code == 200
        assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
        assert "Set-Cookie" not in response.headers
        assert owned.client().head(f"/c/{each}/show").status_code == 404


def test_an_untouched_request_does_not_ask_who_it_is(owned: OwnedApp) -> None:
    asked: list[None] = []
    owned.threads.owner_loader(lambda: asked.append(None))
    client = owned.client()
    client.get("/login/ada")
    assert asked == []
    client.get("/show")
    assert asked == [None]
