"""What is remembered of ids that were verified, and what must not be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Request, Response, g
from support.visitor import json_of
from werkzeug.test import EnvironBuilder, TestResponse

from flask_agentuity import ThreadManager
from flask_agentuity.web.app_threads import threads_of
from flask_agentuity.web.cookie import CookieSettings
from flask_agentuity.web.provider import SignedIDProvider
from flask_agentuity.web.signing import AppSecrets, sign
from flask_agentuity.web.thread_ids import make_thread_id

ID = "thrd_0123456789abcdef0123456789abcdef"
#: The signature of ID with it has both of the characters that base64 spells in two ways.
SECRET = b"secret 5"


def provider(*secrets: bytes) -> SignedIDProvider:
    return SignedIDProvider(lambda: secrets, CookieSettings())


def with_cookie(value: str) -> Request:
    environ = EnvironBuilder().get_environ()
    environ["HTTP_COOKIE"] = f"atid={value}"
    return Request(environ)


def with_header(value: str) -> Request:
    environ = EnvironBuilder().get_environ()
    environ["HTTP_X_THREAD_ID"] = value
    return Request(environ)


def make_app(tmp_path: Path, **config: Any) -> Flask:
    app = Flask("tested", instance_path=str(tmp_path))
    app.config.update({"SECRET_KEY": "first", "AGENTUITY_THREAD_STORE": "memory://"} | config)
    ThreadManager(app)

    @app.get("/")
    def show() -> dict[str, Any]:
        return {"id": g.thread.id, "new": g.thread.is_new}

    return app


def get(app: Flask, cookie: str) -> TestResponse:
    headers = {"Cookie": f"atid={cookie}"}
    return app.test_client(use_cookies=False).get("/", headers=headers)


def remembered(ours: SignedIDProvider) -> dict[str, Any]:
    return ours._verified


def remembered_headers(ours: SignedIDProvider) -> dict[str, Any]:
    return ours._cookies


def test_a_remembered_id_is_accepted_in_each_spelling_and_no_other() -> None:
    ours = provider(SECRET)
    signature = sign(ID, SECRET)
    assert "+" in signature
    assert "/" in signature
    cookie = ours.cookie_value(ID)
    safe = signature.replace("+", "-").replace("/", "_")
    other = make_thread_id()
    for _ in range(3):
        assert ours.find_thread_id(with_cookie(cookie)) == ID
        assert ours.find_thread_id(with_cookie(f"{ID}.{safe}")) == ID
        assert ours.find_thread_id(with_cookie(cookie.replace("%2F", "%2f"))) == ID
        assert ours.find_thread_id(with_header(f"{ID};{signature}")) == ID
        assert ours.find_thread_id(with_header(f" {ID};{safe} ")) == ID
        for wrong in (
            f"{ID}.",
            ID,
            f"{ID}.{'A' * 43}=",
            f"{ID}.{signature[:-1]}",
            f"{ID}.{signature}=",
            f"{ID}.\u00e9\u00ff",
            f"{ID}.{sign(ID, b'another')}",
            f"{other}.{signature}",
        ):
            assert ours.find_thread_id(with_cookie(wrong)) is None
            assert ours.find_thread_id(with_header(wrong.replace(".", ";"))) is None
        # Each has the separator of the other.
        assert ours.find_thread_id(with_header(cookie)) is None
        assert ours.find_thread_id(with_header(f"{ID}.{signature}")) is None


def test_what_was_never_verified_is_not_remembered() -> None:
    ours = provider(SECRET)
    for number in range(3000):
        thread_id = f"thrd_{number:032x}"
        assert ours.find_thread_id(with_cookie(f"{thread_id}.{sign(thread_id, b'guess')}")) is None
        assert ours.find_thread_id(with_header(f"{thread_id};{'A' * 43}=")) is None
        # A new visitor's id, too, costs no memory before it comes back.
        ours.cookie_value(thread_id)
    assert remembered(ours) == {}
    assert remembered_headers(ours) == {}


def test_what_is_remembered_is_bounded() -> None:
    ours = provider(SECRET)
    most = most_headers = 0
    for number in range(3000):
        thread_id = f"thrd_{number:032x}"
        for _ in range(2):
            assert ours.find_thread_id(with_cookie(ours.cookie_value(thread_id))) == thread_id
        most = max(most, len(remembered(ours)))
        most_headers = max(most_headers, len(remembered_headers(ours)))
    assert most == most_headers == 1024


def test_a_header_with_many_other_cookies_is_not_remembered() -> None:
    ours = provider(SECRET)
    cookie = ours.cookie_value(ID)
    for length in (10, 1000):
        assert ours.find_thread_id(with_cookie(f"{cookie}; other={'x' * length}")) == ID
    assert [len(text) < 1000 for text in remembered_headers(ours)] == [True]


def test_a_remembered_header_has_the_time_of_its_own_cookie() -> None:
    ours = provider(SECRET)
    value, now = ours.cookie_value(ID), int(time.time())
    for age, is_renewed in ((0, False), (90_000, True), (0, False), (90_000, True)):
        request = with_cookie(f"{value}; atid_at={now - age}.{ID[-8:]}")
        response = Response()
        ours.tell(request, response, ID, None)
        assert ("Set-Cookie" in response.headers) is is_renewed


def test_a_remembered_id_does_not_outlive_its_secret() -> None:
    secrets: list[bytes] = [b"first"]
    ours = SignedIDProvider(lambda: secrets, CookieSettings())
    first = ours.cookie_value(ID)
    assert ours.find_thread_id(with_cookie(first)) == ID
    # In place: the provider must not compare the list with itself.
    secrets[0] = b"second"
    assert ours.find_thread_id(with_cookie(first)) is None
    second = ours.cookie_value(ID)
    assert second != first
    assert ours.find_thread_id(with_cookie(second)) == ID
    assert ours.find_thread_id(with_cookie(first)) is None
    secrets.append(b"first")
    assert ours.find_thread_id(with_cookie(first)) == ID
    assert ours.cookie_value(ID) == second


@pytest.mark.parametrize("fallbacks", [["first"], ("zeroth", "first"), "first", b"first"])
def test_rotation_while_the_app_runs(tmp_path: Path, fallbacks: Any) -> None:
    app = make_app(tmp_path)
    first = threads_of(app).signed_provider.cookie_value(ID)
    for _ in range(2):
        assert get(app, first).json == {"id": ID, "new": False}
    app.config.update(SECRET_KEY="second", SECRET_KEY_FALLBACKS=fallbacks)
    for _ in range(2):
        response = get(app, first)
        assert response.json == {"id": ID, "new": False}
    second = threads_of(app).signed_provider.cookie_value(ID)
    assert response.headers["Set-Cookie"].startswith(f"atid={second};")
    assert second != first
    for _ in range(2):
        assert get(app, second).json == {"id": ID, "new": False}
    if isinstance(fallbacks, list):
        fallbacks.clear()
    else:
        app.config["SECRET_KEY_FALLBACKS"] = None
    assert json_of(get(app, first))["new"]
    assert get(app, second).json == {"id": ID, "new": False}


def test_apps_share_nothing(tmp_path: Path) -> None:
    apps = [make_app(tmp_path / key, SECRET_KEY=key) for key in ("one", "two")]
    cookies = [threads_of(app).signed_provider.cookie_value(ID) for app in apps]
    for _ in range(2):
        for app, own, foreign in zip(apps, cookies, reversed(cookies), strict=True):
            assert get(app, own).json == {"id": ID, "new": False}
            assert json_of(get(app, foreign))["new"]


def test_secrets_are_the_same_object_until_they_change(tmp_path: Path) -> None:
    config: dict[str, Any] = {"SECRET_KEY": "key"}
    secrets = AppSecrets(None, config, str(tmp_path))
    first = secrets()
    assert first == (b"key",)
    assert secrets() is first
    config["SECRET_KEY_FALLBACKS"] = ["old", "", None, b"raw"]
    second = secrets()
    assert second == (b"key", b"old", b"raw")
    assert secrets() is second
    config["SECRET_KEY_FALLBACKS"].pop()
    assert secrets() == (b"key", b"old")
    config["SECRET_KEY"] = None
    generated = secrets()[0]
    assert len(generated) == 64
    assert secrets()[0] == generated
    assert AppSecrets(None, {}, str(tmp_path))() == (generated,)
    assert AppSecrets(b"own", config, str(tmp_path))() == (b"own", b"old")
