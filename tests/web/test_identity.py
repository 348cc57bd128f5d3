"""Ids, signatures, cookies and headers, also against what the JavaScript runtime does."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import multiprocessing
import stat
from base64 import b64encode
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Flask, Request, Response, g
from hypothesis import given, settings
from hypothesis import strategies as st
from support.visitor import json_of
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import EnvironBuilder, TestResponse

from flask_agentuity import ThreadIDProvider, ThreadManager
from flask_agentuity.errors import ConfigurationError, InvalidThreadId
from flask_agentuity.web.cookie import CookieSettings
from flask_agentuity.web.provider import SignedIDProvider
from flask_agentuity.web.signing import instance_secret, sign, verify

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data").joinpath("vectors.json").read_text(encoding="utf-8")
)
ID = "thrd_0123456789abcdef0123456789abcdef"
APP = Flask("vectors")


def provider(secret: str) -> SignedIDProvider:
    return SignedIDProvider(lambda: [secret.encode()], CookieSettings())


def header_value(secret: str, thread_id: str) -> str:
    """Return the header that names a thread."""
    return provider(secret).header_value(thread_id)


def request(cookie: str | None = None, header: str | None = None) -> Request:
    headers = []
    if cookie:
        headers.append(("Cookie", cookie))
    if header:
        headers.append(("x-thread-id", header))
    return Request(EnvironBuilder(headers=headers).get_environ())


# --------------------------------------------------------------------------- the vectors


@pytest.mark.parametrize("case", VECTORS["signing_pairs"], ids=range(len(VECTORS["signing_pairs"])))
def test_signing_pairs(case: dict[str, Any]) -> None:
    ours = provider(case["secret"])
    assert ours.cookie_value(case["thread_id"]) == case["cookie_value"]
    assert header_value(case["secret"], case["thread_id"]) == case["header_value"]
    assert ours.find_thread_id(request(f"atid={case['cookie_value']}")) == case["thread_id"]
    assert ours.find_thread_id(request(header=case["header_value"])) == case["thread_id"]
    other = provider(case["secret"] + "x")
    assert other.find_thread_id(request(f"atid={case['cookie_value']}")) is None
    assert other.find_thread_id(request(header=case["header_value"])) is None


@pytest.mark.parametrize("case", VECTORS["verdicts"], ids=lambda case: case["note"])
def test_verdicts(case: dict[str, Any]) -> None:
    ours = provider(case["secret"])
    asked = request(case["cookie_header"], case["x_thread_id_header"])
    found = ours.find_thread_id(asked)
    assert (found is not None) is case["accepted"]
    assert found == case.get("thread_id")
    taken = ours.get_thread_id(APP, asked)
    assert ours.is_made_now(taken, asked) is not case["accepted"]


def test_the_vectors_are_all_here() -> None:
    assert len(VECTORS["signing_pairs"]) == 11
    assert len(VECTORS["verdicts"]) == 27


# ------------------------------------------------------------------------------ the rules


@settings(max_examples=200, deadline=None)
@given(
    st.from_regex(r"thrd_[a-zA-Z0-9-]{27,59}", fullmatch=True),
    st.binary(min_size=1),
    st.binary(min_size=1),
)
def test_a_signature_verifies_with_its_secret_only(
    thread_id: str, secret: bytes, other: bytes
) -> None:
    signature = sign(thread_id, secret)
    expected = hmac.new(secret, thread_id.encode(), hashlib.sha256).digest()
    assert signature == b64encode(expected).decode()
    assert len(signature) == 44
    assert verify(thread_id, signature, [other, secret])
    padded = [key.ljust(64, b"\0") for key in (secret, other)]
    if max(len(secret), len(other)) > 64 or padded[0] != padded[1]:
        # Keys that differ in trailing zeros only are one key to HMAC.
        assert not verify(thread_id, signature, [other])
    assert not verify(thread_id[:-1] + ("a" if thread_id[-1] != "a" else "b"), signature, [secret])
    assert not verify(thread_id, signature, [])


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_rubbish_is_as_if_absent(cookie: str, header: str) -> None:
    environ = EnvironBuilder().get_environ()
    environ["HTTP_COOKIE"] = f"atid={cookie}"
    environ["HTTP_X_THREAD_ID"] = header
    assert provider("secret").find_thread_id(Request(environ)) is None


# --------------------------------------------------------------------------- over an app


def make_app(tmp_path: Path, **config: Any) -> Flask:
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config.update({"SECRET_KEY": "secret", "AGENTUITY_THREAD_STORE": "memory://"} | config)
    ThreadManager(app)

    @app.route("/")
    def show() -> dict[str, Any]:
        return {"id": g.thread.id, "new": g.thread.is_new}

    @app.route("/untouched")
    def untouched() -> str:
        return ""

    @app.route("/own")
    def own() -> Response:
        assert g.thread.id
        response = Response("")
        response.headers["Cache-Control"] = "public, max-age=60"
        response.headers["Vary"] = "Accept-Encoding"
        return response

    @app.route("/destroy")
    def destroy() -> str:
        g.thread.destroy()
        return ""

    return app


def get(app: Flask, path: str = "/", **options: Any) -> TestResponse:
    return app.test_client(use_cookies=False).get(path, **options)


def cookies_of(response: TestResponse) -> SimpleCookie:
    cookies = SimpleCookie()
    for header in response.headers.getlist("Set-Cookie"):
        cookies.load(header)
    return cookies


FORGED = provider("another secret").cookie_value(ID)
GOOD = provider("secret").cookie_value(ID)
BAD_COOKIES = [
    f"atid={FORGED}",
    f"atid={GOOD[:-4]}",
    f"atid={GOOD[:40]}",
    f"atid={ID}",
    "atid=",
    "atid",
    "atid=.",
    "atid=%",
    "atid=%zz%",
    "atid=%00%0d%0aSet-Cookie:x=1",
    "atid=%ff%fe.%ff",
    f"atid={GOOD}%00",
    f"atid={GOOD}x",
    f"atid={GOOD.replace('.', '..')}",
    f"atid={GOOD * 2}",
    "atid=" + "x" * 100_000,
    "atid=" + "%" * 50_000,
    "; ".join(["atid=x"] * 1000),
    "atid=\x00\x01",
    "atid=é\xff",
    f'atid="{FORGED}',
    '"' * 1000,
    ";" * 1000,
]


@pytest.mark.parametrize("cookie", BAD_COOKIES, ids=range(len(BAD_COOKIES)))
def test_a_bad_cookie_is_a_new_thread(
    tmp_path: Path, cookie: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    response = get(make_app(tmp_path), environ_overrides={"HTTP_COOKIE": cookie})
    assert response.status_code == 200
    assert json_of(response)["new"]
    assert json_of(response)["id"] != ID
    assert unquote(cookies_of(response)["atid"].value).startswith(json_of(response)["id"] + ".")
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


BAD_HEADERS = [
    header_value("another secret", ID),
    header_value("secret", ID)[:-3],
    "%s, %s" % ((header_value("secret", ID),) * 2),
    ";",
    ID,
    "x" * 100_000,
    "\x00",
    "é\xff;é",
    "%00",
]


@pytest.mark.parametrize("header", BAD_HEADERS, ids=range(len(BAD_HEADERS)))
def test_a_bad_header_is_as_if_absent(
    tmp_path: Path, header: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app = make_app(tmp_path)
    response = get(app, environ_overrides={"HTTP_X_THREAD_ID": header})
    assert response.status_code == 200
    assert json_of(response)["new"]
    # A good cookie beside it counts.
    response = get(
        app, environ_overrides={"HTTP_X_THREAD_ID": header, "HTTP_COOKIE": f"atid={GOOD}"}
    )
    assert response.json == {"id": ID, "new": False}
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_a_good_header_wins_over_a_good_cookie(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    other = "thrd_" + "f" * 32
    response = get(
        app,
        headers={
            "Cookie": f"atid={GOOD}",
            "X-Thread-ID": header_value("secret", other),
        },
    )
    assert json_of(response)["id"] == other
    assert response.headers["x-thread-id"] == header_value("secret", other)


def test_a_good_cookie_among_bad_ones_of_its_name_is_found(tmp_path: Path) -> None:
    cookie = f"atid={FORGED}; atid=x; atid={GOOD}"
    assert json_of(get(make_app(tmp_path), headers={"Cookie": cookie}))["id"] == ID


def test_the_cookie_and_header_of_a_touched_thread(tmp_path: Path) -> None:
    response = get(make_app(tmp_path), headers={"x-thread-id": ""})
    thread_id = json_of(response)["id"]
    assert len(response.headers.getlist("Set-Cookie")) == 2
    cookies = cookies_of(response)
    assert cookies["atid"].value == provider("secret").cookie_value(thread_id)
    assert "%" in cookies["atid"].value
    for morsel in cookies["atid"], cookies["atid_at"]:
        assert morsel["max-age"] == "604800"
        assert morsel["path"] == "/"
        assert morsel["samesite"] == "Lax"
        assert morsel["httponly"]
        assert not morsel["secure"]
        assert not morsel["domain"]
    assert response.headers["x-thread-id"] == header_value("secret", thread_id)
    assert set(response.vary) == {"Cookie", "x-thread-id"}
    assert response.headers["Cache-Control"] == "private"


def test_the_cookie_as_it_is_configured(tmp_path: Path) -> None:
    app = make_app(
        tmp_path,
        AGENTUITY_THREAD_COOKIE_NAME="talk",
        AGENTUITY_THREAD_COOKIE_DOMAIN="example.com",
        AGENTUITY_THREAD_COOKIE_PATH="/chat",
        AGENTUITY_THREAD_COOKIE_SECURE=True,
        AGENTUITY_THREAD_COOKIE_SAMESITE="None",
        AGENTUITY_THREAD_COOKIE_MAX_AGE=60,
    )
    for path, max_age in (("/", "60"), ("/destroy", "0")):
        response = get(app, path, headers={"Cookie": f"talk={GOOD}"})
        for name in ("talk", "talk_at"):
            morsel = cookies_of(response)[name]
            assert morsel["domain"] == "example.com"
            assert morsel["path"] == "/chat"
            assert morsel["secure"]
            assert morsel["samesite"] == "None"
            assert morsel["max-age"] == max_age
    again = get(app, headers={"Cookie": f"talk={GOOD}"})
    assert json_of(again)["id"] == ID


def test_an_untouched_request_has_no_mark(tmp_path: Path) -> None:
    response = get(make_app(tmp_path), "/untouched", headers={"Cookie": f"atid={GOOD}"})
    for name in ("Set-Cookie", "Vary", "Cache-Control", "x-thread-id"):
        assert name not in response.headers


def test_what_the_app_says_of_caching_is_kept_but_for_public(tmp_path: Path) -> None:
    response = get(make_app(tmp_path), "/own")
    assert response.headers["Cache-Control"] == "max-age=60, private"
    assert set(response.vary) == {"Accept-Encoding", "Cookie", "x-thread-id"}


def test_destroy_ends_the_cookie(tmp_path: Path) -> None:
    response = get(make_app(tmp_path), "/destroy", headers={"Cookie": f"atid={GOOD}"})
    morsel = cookies_of(response)["atid"]
    assert morsel.value == ""
    assert morsel["max-age"] == "0"
    assert morsel["path"] == "/"
    assert "x-thread-id" not in response.headers
    assert "Cookie" in response.vary


@pytest.mark.parametrize(
    ("setting", "http", "https"),
    [
        ("auto", False, True),
        (True, True, True),
        (False, False, False),
    ],
)
def test_secure_goes_by_the_scheme_that_a_trusted_proxy_says(
    tmp_path: Path, setting: Any, http: bool, https: bool
) -> None:
    app = make_app(tmp_path, AGENTUITY_THREAD_COOKIE_SECURE=setting)
    forwarded = {"X-Forwarded-Proto": "https"}
    assert bool(cookies_of(get(app, headers=forwarded))["atid"]["secure"]) is http
    assert bool(cookies_of(get(app, base_url="https://localhost"))["atid"]["secure"]) is https
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    assert bool(cookies_of(get(app, headers=forwarded))["atid"]["secure"]) is https
    assert bool(cookies_of(get(app))["atid"]["secure"]) is http


# ------------------------------------------------------------------------------- secrets


def test_fallbacks_verify_and_do_not_sign(tmp_path: Path) -> None:
    app = make_app(tmp_path, SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "secret", b"raw"])
    response = get(app, headers={"Cookie": f"atid={GOOD}"})
    assert json_of(response)["id"] == ID
    assert cookies_of(response)["atid"].value == provider("new").cookie_value(ID)
    raw = provider("raw").cookie_value(ID)
    assert json_of(get(app, headers={"Cookie": f"atid={raw}"}))["id"] == ID
    assert json_of(get(app, headers={"Cookie": f"atid={FORGED}"}))["new"]


@pytest.mark.parametrize("fallbacks", [["", None], [b""], "", None, "secrets"])
def test_no_fallback_is_empty_or_a_single_letter(tmp_path: Path, fallbacks: Any) -> None:
    app = make_app(tmp_path, SECRET_KEY_FALLBACKS=fallbacks)
    for secret in ("", "s", "e"):
        cookie = provider(secret).cookie_value(ID)
        assert json_of(get(app, headers={"Cookie": f"atid={cookie}"}))["new"]
    if fallbacks == "secrets":
        cookie = provider("secrets").cookie_value(ID)
        assert json_of(get(app, headers={"Cookie": f"atid={cookie}"}))["id"] == ID


def test_the_threads_own_secret_comes_before_the_apps(tmp_path: Path) -> None:
    app = make_app(tmp_path, AGENTUITY_THREAD_SECRET="another secret")
    assert json_of(get(app, headers={"Cookie": f"atid={FORGED}"}))["id"] == ID
    assert json_of(get(app, headers={"Cookie": f"atid={GOOD}"}))["new"]


def test_the_word_that_the_runtime_signs_with_by_default_is_no_secret(tmp_path: Path) -> None:
    app = make_app(tmp_path, SECRET_KEY=None)
    cookie = provider("agentuity").cookie_value(ID)
    assert json_of(get(app, headers={"Cookie": f"atid={cookie}"}))["new"]


def test_without_a_secret_one_is_kept_in_the_instance_folder(tmp_path: Path) -> None:
    first = make_app(tmp_path, SECRET_KEY=None)
    assert get(first, "/untouched").status_code == 200
    assert list(tmp_path.iterdir()) == []
    cookie = cookies_of(get(first))["atid"].value
    (kept,) = tmp_path.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert len(kept.read_bytes()) == 64
    second = make_app(tmp_path, SECRET_KEY=None)
    assert not json_of(get(second, headers={"Cookie": f"atid={cookie}"}))["new"]


def ask_for_secret(path: Path, start: Any, answers: Any) -> None:
    start.wait(60)
    answers.put(instance_secret(path))


def test_processes_that_come_at_once_get_one_secret(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for turn in range(5):
        path = tmp_path / str(turn) / "folder" / "secret"
        start, answers = context.Barrier(4), context.Queue()
        processes = [
            context.Process(target=ask_for_secret, args=(path, start, answers)) for _ in range(4)
        ]
        for process in processes:
            process.start()
        found = {answers.get(timeout=60) for _ in processes}
        for process in processes:
            process.join(60)
        assert found == {path.read_bytes()}
        # Nothing is left lying about.
        assert list(path.parent.iterdir()) == [path]
        answers.close()


@pytest.mark.parametrize("content", ["", "short", None])
def test_a_secret_that_cannot_be_had_says_what_to_do(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "secret"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        instance_secret(path)
    assert str(path) in str(caught.value)
    assert "SECRET_KEY" in str(caught.value)


# ------------------------------------------------------------------------ own providers


class UserProvider(ThreadIDProvider):
    vary = ("X-User",)

    def __init__(self, thread_id: Any) -> None:
        self.thread_id = thread_id
        self.told: list[tuple[str, str]] = []

    def get_thread_id(self, app: Flask, request: Request) -> str:
        return self.thread_id  # type: ignore[no-any-return]

    def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        self.told.append(("set", thread_id))

    def end_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
        self.told.append(("end", thread_id))


def test_a_provider_of_ones_own_says_which_thread_it_is(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    own = UserProvider(ID)
    app.extensions["agentuity"].set_thread_id_provider(own)
    response = get(app)
    assert response.json == {"id": ID, "new": False}
    assert set(response.vary) == {"X-User"}
    assert "Set-Cookie" not in response.headers
    get(app, "/untouched")
    get(app, "/destroy")
    assert own.told == [("set", ID), ("end", ID)]
    app.extensions["agentuity"].set_thread_id_provider(None)
    assert "Set-Cookie" in get(app).headers


@pytest.mark.parametrize("bad", ["user-5", "", 5, ID + "\n", "thrd_" + "é" * 32])
def test_a_bad_id_of_a_provider_is_refused_with_the_id_and_the_rule(
    tmp_path: Path, bad: Any
) -> None:
    app = make_app(tmp_path)
    app.testing = True
    app.extensions["agentuity"].set_thread_id_provider(UserProvider(bad))
    with pytest.raises(InvalidThreadId) as caught:
        get(app)
    assert repr(bad) in str(caught.value)
    assert "[a-zA-Z0-9-], 32 to 64" in str(caught.value)
    assert get(app, "/untouched").status_code == 200
    app.testing = False
    assert get(app).status_code == 500
