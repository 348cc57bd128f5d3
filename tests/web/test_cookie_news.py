"""The cookie is sent when it has news, and the header to clients that use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Request, Response, g
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory
from support.visitor import json_of
from werkzeug.test import TestResponse

from flask_agentuity import ThreadIDProvider, ThreadManager
from flask_agentuity.web.app_threads import threads_of
from flask_agentuity.web.provider import SignedIDProvider
from flask_agentuity.web.thread_ids import make_thread_id

#: The time in these tests, in seconds since 1970.
NOW = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
ID, OTHER = (f"thrd_{letter * 32}" for letter in "ab")


class Served:
    """An app without a cookie jar: tests write the cookies that a browser sends."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.app = app = Flask("tested", instance_path=str(folder))
        app.testing = True
        app.config.update({"SECRET_KEY": "secret", "AGENTUITY_THREAD_STORE": "memory://"} | config)
        self.threads = threads = ThreadManager(app)
        #: Called in the view /slow.
        self.meanwhile: Callable[[], object] = lambda: None

        @app.get("/")
        def show() -> dict[str, Any]:
            return {"id": g.thread.id, "new": g.thread.is_new}

        @app.get("/slow")
        def slow() -> str:
            self.meanwhile()
            return str(g.thread.id)

        @app.get("/new")
        def new() -> str:
            return threads.new().id

        @app.get("/destroy")
        def destroy() -> str:
            g.thread.destroy()
            return ""

        @app.get("/fail")
        def fail() -> tuple[str, int]:
            return str(g.thread.id), 500

    @property
    def signed(self) -> SignedIDProvider:
        return threads_of(self.app).signed_provider

    def get(self, path: str = "/", *cookies: str, **headers: str) -> TestResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if cookies:
            sent["Cookie"] = "; ".join(cookies)
        return self.app.test_client(use_cookies=False).get(path, headers=sent)

    def cookie(self, thread_id: str) -> str:
        return f"atid={self.signed.cookie_value(thread_id)}"

    def header(self, thread_id: str) -> str:
        return self.signed.header_value(thread_id)


def at(seconds: float, thread_id: str) -> str:
    return f"atid_at={int(seconds)}.{thread_id[-8:]}"


def cookies_of(response: TestResponse) -> dict[str, str]:
    """Return the cookies that a response sets; those that it ends are empty."""
    found = SimpleCookie()
    for header in response.headers.getlist("Set-Cookie"):
        found.load(header)
    return {name: morsel.value for name, morsel in found.items()}


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


@pytest.fixture(autouse=True)
def clock() -> Iterator[FrozenDateTimeFactory]:
    with freeze_time(datetime.fromtimestamp(NOW, UTC)) as frozen:
        assert isinstance(frozen, FrozenDateTimeFactory)
        yield frozen


def test_a_cookie_is_not_repeated(served: Served) -> None:
    first = served.get()
    thread_id = json_of(first)["id"]
    cookies = [f"{name}={value}" for name, value in cookies_of(first).items()]
    assert cookies == [served.cookie(thread_id), at(NOW, thread_id)]
    again = served.get("/", *cookies)
    assert again.json == {"id": thread_id, "new": False}
    assert "Set-Cookie" not in again.headers
    # What the response contains depends on the cookie, even so.
    assert again.headers["Vary"] == "Cookie, x-thread-id"
    assert again.headers["Cache-Control"] == "private"


@pytest.mark.parametrize(
    ("age", "renewed"),
    [(0, False), (60_470, False), (60_490, True), (600_000, True), (-10, False), (-60_490, True)],
)
def test_a_cookie_is_renewed_after_a_tenth_of_its_age(
    served: Served, age: int, renewed: bool
) -> None:
    response = served.get("/", served.cookie(ID), at(NOW - age, ID))
    assert json_of(response)["id"] == ID
    expected = {"atid": served.signed.cookie_value(ID), "atid_at": f"{NOW}.{ID[-8:]}"}
    assert cookies_of(response) == (expected if renewed else {})


@pytest.mark.parametrize(
    "forged",
    [
        "atid_at=",
        "atid_at=x",
        f"atid_at={NOW}",
        f"atid_at=-{NOW}.{ID[-8:]}",
        f"atid_at={NOW}.{OTHER[-8:]}",
        f"atid_at={'9' * 10_000}.{ID[-8:]}",
        f"atid_at=\u0661.{ID[-8:]}",
        f"atid_at=1e9.{ID[-8:]}",
    ],
)
def test_a_forged_time_only_renews_the_cookie(served: Served, forged: str) -> None:
    response = served.get("/", served.cookie(ID), forged)
    assert response.json == {"id": ID, "new": False}
    assert cookies_of(response) == {
        "atid": served.signed.cookie_value(ID),
        "atid_at": f"{NOW}.{ID[-8:]}",
    }


def test_a_cookie_signed_with_an_old_secret_is_replaced(served: Served) -> None:
    old = served.cookie(ID)
    served.app.config.update(SECRET_KEY="another", SECRET_KEY_FALLBACKS=["secret"])
    response = served.get("/", old, at(NOW, ID))
    assert json_of(response)["id"] == ID
    assert f"atid={cookies_of(response)['atid']}" == served.cookie(ID) != old


def test_a_failed_request_sends_no_cookie(served: Served) -> None:
    assert cookies_of(served.get("/fail")) == {}
    assert cookies_of(served.get("/fail", served.cookie(ID), at(0, ID))) == {}


# Responses that come late


def test_a_slow_answer_does_not_bring_back_the_earlier_conversation(served: Served) -> None:
    begun: list[TestResponse] = []
    served.meanwhile = lambda: begun.append(served.get("/new", served.cookie(ID), at(NOW, ID)))
    assert cookies_of(served.get("/slow", served.cookie(ID), at(NOW, ID))) == {}
    assert f"atid={cookies_of(begun[0])['atid']}" == served.cookie(begun[0].text)


@pytest.mark.parametrize(("age", "renewed"), [(100_000, False), (400_000, True)])
def test_a_slow_answer_renews_the_cookie_only_when_it_is_overdue(
    served: Served, clock: FrozenDateTimeFactory, age: int, renewed: bool
) -> None:
    served.meanwhile = lambda: clock.tick(5)
    response = served.get("/slow", served.cookie(ID), at(NOW - age, ID))
    assert ("atid" in cookies_of(response)) is renewed
    served.meanwhile = lambda: None
    assert "atid" in cookies_of(served.get("/slow", served.cookie(ID), at(NOW - age, ID)))


@pytest.mark.parametrize("use", ["push", "read"])
def test_a_slow_answer_does_not_end_the_cookie_of_a_later_conversation(
    served: Served, use: str
) -> None:
    with served.threads.open(ID) as stored:
        stored.state["messages"] = ["stored"]

    @served.app.get("/answer")
    def answer() -> str:
        messages = g.thread.state["messages"] if use == "read" else None
        # The client deletes the conversation and begins another one.
        assert cookies_of(served.get("/destroy", served.cookie(ID))) == {"atid": "", "atid_at": ""}
        if messages is None:
            g.thread.state.push("messages", "lost")
        else:
            messages.append("lost")
        return ""

    assert cookies_of(served.get("/answer", served.cookie(ID), at(NOW, ID))) == {}
    assert threads_of(served.app).store.restore(ID) is None


# Several cookies of one name


@pytest.mark.parametrize("stale_first", [True, False])
@pytest.mark.parametrize("stale_at", [None, NOW - 1_000])
def test_a_new_conversation_wins_over_stale_cookies(
    served: Served, stale_first: bool, stale_at: int | None
) -> None:
    """A browser sends one for each path and domain that the app has been configured with."""
    stale, current = served.cookie(ID), served.cookie(OTHER)

    def send(path: str, current: str, current_at: str) -> TestResponse:
        times = [] if stale_at is None else [at(stale_at, ID)]
        pairs = [stale, current] if stale_first else [current, stale]
        return served.get(path, *pairs, *times, current_at)

    begun = send("/new", current, at(NOW - 500, OTHER))
    sent = [f"{name}={value}" for name, value in cookies_of(begun).items()]
    assert sent[0] == served.cookie(begun.text)
    again = send("/", *sent)
    assert again.json == {"id": begun.text, "new": False}
    assert cookies_of(again) == {}


def test_without_times_the_first_valid_cookie_counts(served: Served) -> None:
    response = served.get("/", "atid=forged", served.cookie(OTHER), served.cookie(ID))
    assert json_of(response)["id"] == OTHER


# Other news


def test_new_replaces_the_cookie(served: Served) -> None:
    response = served.get("/new", served.cookie(ID), at(NOW, ID))
    assert f"atid={cookies_of(response)['atid']}" == served.cookie(response.text)


def test_destroy_ends_the_cookie_that_there_is(served: Served) -> None:
    ended = {"atid": "", "atid_at": ""}
    assert cookies_of(served.get("/destroy", served.cookie(ID))) == ended
    assert cookies_of(served.get("/destroy")) == {}
    assert cookies_of(served.get("/destroy", "atid=forged")) == {}
    header = served.header(ID)
    assert cookies_of(served.get("/destroy", x_thread_id=header)) == {}
    assert cookies_of(served.get("/destroy", served.cookie(OTHER), x_thread_id=header)) == {}
    assert cookies_of(served.get("/destroy", served.cookie(ID), x_thread_id=header)) == ended


# The header


@pytest.mark.parametrize("mode", ["auto", "always", "never"])
def test_who_gets_the_header(tmp_path: Path, mode: str) -> None:
    served = Served(tmp_path, AGENTUITY_THREAD_HEADER=mode)
    by_cookie = served.get("/", served.cookie(ID))
    asking = served.get("/", served.cookie(ID), x_thread_id="")
    by_header = served.get("/", x_thread_id=served.header(ID))
    expected = [mode == "always", mode != "never", mode != "never"]
    responses = [by_cookie, asking, by_header]
    assert ["x-thread-id" in each.headers for each in responses] == expected
    assert [json_of(each)["new"] for each in responses] == [False, False, mode == "never"]
    for response, sent in zip(responses, expected, strict=True):
        if sent:
            assert response.headers["x-thread-id"] == served.header(ID)
        vary = "Cookie" if mode == "never" else "Cookie, x-thread-id"
        assert response.headers["Vary"] == vary


def test_a_client_without_cookies_goes_on_with_the_header(served: Served) -> None:
    first = served.get("/", x_thread_id="")
    header = first.headers["x-thread-id"]
    again = served.get("/", x_thread_id=header)
    assert again.json == {"id": json_of(first)["id"], "new": False}
    assert again.headers["x-thread-id"] == header
    assert cookies_of(again) == {}
    begun = served.get("/new", x_thread_id=header)
    assert begun.headers["x-thread-id"] == served.header(begun.text)
    assert cookies_of(begun) == {}


def test_the_header_leaves_the_cookie_of_another_conversation_alone(served: Served) -> None:
    header = served.header(ID)
    for path in ("/", "/new"):
        assert cookies_of(served.get(path, served.cookie(OTHER), x_thread_id=header)) == {}
    # A page that uses both for one conversation keeps using both.
    begun = served.get("/new", served.cookie(ID), x_thread_id=header)
    assert f"atid={cookies_of(begun)['atid']}" == served.cookie(begun.text)


# Providers


class Sometimes(ThreadIDProvider):
    """Takes the id from the query, if there is one."""

    vary = ("X-Other",)

    def __init__(self) -> None:
        self.asked = 0
        self.told: list[str] = []

    def get_thread_id(self, app: Flask, request: Request) -> str | None:
        self.asked += 1
        return request.args.get("id")

    def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        self.told.append(thread_id)


def test_where_a_provider_has_no_conversation_the_signed_id_counts(served: Served) -> None:
    provider = Sometimes()
    served.threads.set_thread_id_provider(provider)
    given = make_thread_id()
    response = served.get(f"/?id={given}", served.cookie(ID))
    assert response.json == {"id": given, "new": False}
    assert response.headers["Vary"] == "X-Other"
    assert cookies_of(response) == {}
    assert provider.told == [given]
    assert served.get("/", served.cookie(ID), at(NOW, ID)).json == {"id": ID, "new": False}
    response = served.get("/")
    assert json_of(response)["new"]
    assert f"atid={cookies_of(response)['atid']}" == served.cookie(json_of(response)["id"])
    assert set(response.headers["Vary"].split(", ")) == {"X-Other", "Cookie", "x-thread-id"}
    begun = served.get("/new", served.cookie(ID))
    assert f"atid={cookies_of(begun)['atid']}" == served.cookie(begun.text)
    assert provider.told == [given]
    begun = served.get(f"/new?id={given}")
    assert provider.told == [given, begun.text]
    assert cookies_of(begun) == {}
    assert provider.asked == 5  # once for each request
