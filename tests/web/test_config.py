from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, g

from flask_agentuity import ThreadManager
from flask_agentuity.errors import ConfigurationError
from flask_agentuity.web.config import DEFAULT_STORE, read_settings


def read(environment: dict[str, str] | None = None, **config: Any) -> Any:
    prefixed = {f"AGENTUITY_{name}": value for name, value in config.items()}
    return read_settings(
        prefixed, {f"AGENTUITY_{name}": value for name, value in (environment or {}).items()}
    )


def test_the_defaults() -> None:
    settings = read()
    assert settings.store == DEFAULT_STORE
    assert settings.sdk_key is None
    assert settings.secret is None
    assert settings.ttl == 604_800
    assert settings.max_bytes == 1_048_576
    assert settings.on_restore_error == "empty"
    assert settings.on_save_error == "log"
    # The client states its own defaults.
    assert settings.client_options == {}
    cookie = settings.cookie
    assert (cookie.name, cookie.domain, cookie.path) == ("atid", None, "/")
    assert (cookie.secure, cookie.samesite, cookie.max_age) == ("auto", "Lax", 604_800)


#: setting -> (attribute, what is written, what is read from it)
GOOD: list[tuple[str, str, Any, Any]] = [
    ("THREAD_STORE", "store", "memory://", "memory://"),
    ("THREAD_SECRET", "secret", "é", "é".encode()),
    ("THREAD_TTL", "ttl", "60.5", 60.5),
    ("THREAD_TTL", "ttl", "none", None),
    ("THREAD_TTL", "ttl", "never", None),
    ("THREAD_MAX_BYTES", "max_bytes", "2048", 2048),
    ("THREAD_ON_RESTORE_ERROR", "on_restore_error", "RAISE", "raise"),
    ("THREAD_ON_SAVE_ERROR", "on_save_error", "raise", "raise"),
    ("CONNECT_TIMEOUT", "client_options", "2.5", {"connect_timeout": 2.5}),
    ("REQUEST_TIMEOUT", "client_options", "3", {"request_timeout": 3.0}),
    ("RECONNECT_BASE", "client_options", "0.1", {"reconnect_base": 0.1}),
    ("RECONNECT_MAX", "client_options", "5", {"reconnect_max": 5.0}),
]


@pytest.mark.parametrize(("name", "attribute", "written", "expected"), GOOD)
def test_a_value_from_the_environment_and_from_the_app(
    name: str, attribute: str, written: str, expected: Any
) -> None:
    assert getattr(read({name: written}), attribute) == expected
    assert getattr(read(None, **{name: written}), attribute) == expected
    # An empty variable is as if unset.
    assert getattr(read({name: ""}), attribute) == getattr(read(), attribute)


def test_no_secret_is_shown() -> None:
    settings = read(SDK_KEY="key-7f3a", THREAD_SECRET="secret-9b21", THREAD_STORE="redis://u:pw@h")
    assert not any(secret in repr(settings) for secret in ("7f3a", "9b21", "pw"))


def test_values_as_python_has_them() -> None:
    settings = read(
        THREAD_TTL=timedelta(days=1),
        THREAD_MAX_BYTES=5_000,
        THREAD_COOKIE_MAX_AGE=timedelta(hours=1),
        THREAD_COOKIE_SECURE=False,
        THREAD_SECRET=b"\x00\xff",
    )
    assert settings.ttl == 86_400
    assert settings.max_bytes == 5_000
    assert settings.cookie.max_age == 3_600
    assert settings.cookie.secure is False
    assert settings.secret == b"\x00\xff"
    assert read(THREAD_TTL=None).ttl is None


def test_the_app_comes_before_the_environment() -> None:
    environment = {"THREAD_MAX_BYTES": "1000", "THREAD_TTL": "1000"}
    settings = read(environment, THREAD_MAX_BYTES=2000)
    assert settings.max_bytes == 2000
    assert settings.ttl == 1000
    # None in the app's configuration is unset, but a TTL of None is never.
    settings = read(environment, THREAD_MAX_BYTES=None, THREAD_TTL=None)
    assert settings.max_bytes == 1000
    assert settings.ttl is None


NUMBER = "a positive number of seconds"
BAD: list[tuple[str, list[Any], str]] = [
    ("THREAD_STORE", ["threads.db", 5, "/tmp/x"], "sqlite:///PATH"),
    ("THREAD_COOKIE_NAME", ["a b", "a;b", "é", 5, "a=b"], "a cookie's name"),
    ("THREAD_COOKIE_DOMAIN", ["a\r\nSet-Cookie: x", "a..b", " ", 5, "x;y"], "a host name"),
    ("THREAD_COOKIE_PATH", ["chat", "/a;b", "/\n", 5], "a path that begins with /"),
    ("THREAD_COOKIE_SECURE", ["yes please", 2, []], "auto, True, False"),
    ("THREAD_COOKIE_SAMESITE", ["strictly", True, 0], "Lax, Strict, None"),
    (
        "THREAD_COOKIE_MAX_AGE",
        ["a week", 0, -1, 1.5, True, float("inf"), float("nan"), 10**13],
        "a positive integer",
    ),
    ("THREAD_TTL", ["a week", 0, -1, True, float("inf"), float("nan"), [], 1e10, 10**400], NUMBER),
    ("THREAD_MAX_BYTES", ["1 MB", 0, -1, 1.5, True, {}], "a positive integer"),
    ("THREAD_ON_RESTORE_ERROR", ["log", "ignore", True, 5], "empty, raise"),
    ("THREAD_ON_SAVE_ERROR", ["empty", "ignore", False], "log, raise"),
    ("CONNECT_TIMEOUT", ["soon", 0, -1, True, float("nan"), 10**400], NUMBER),
    ("REQUEST_TIMEOUT", ["soon", 0, -1, True, float("inf"), 1e12], NUMBER),
    ("RECONNECT_BASE", ["soon", 0, -1], NUMBER),
    ("RECONNECT_MAX", ["soon", 0, -1], NUMBER),
]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [(name, value, allowed) for name, values, allowed in BAD for value in values],
    ids=lambda value: ascii(value)[:30],
)
def test_a_wrong_value_is_refused_with_its_key_and_what_is_allowed(
    name: str, value: Any, allowed: str
) -> None:
    app = Flask(__name__)
    app.config[f"AGENTUITY_{name}"] = value
    with pytest.raises(ConfigurationError) as caught:
        ThreadManager(app)
    assert f"AGENTUITY_{name}={value!r}" in str(caught.value)
    assert allowed in str(caught.value)
    if isinstance(value, str) and value:
        with pytest.raises(ConfigurationError):
            read({name: value})


@pytest.mark.parametrize("domain", ["example.com", ".example.com", "localhost", "xn--bcher-kva.ch"])
def test_a_domain_that_is_allowed_makes_a_cookie(domain: str) -> None:
    app = Flask(__name__)
    app.config.update(
        AGENTUITY_THREAD_COOKIE_DOMAIN=domain,
        AGENTUITY_THREAD_COOKIE_MAX_AGE=400 * 86_400,
        AGENTUITY_THREAD_STORE="memory://",
        SECRET_KEY="secret",
    )
    ThreadManager(app)
    app.add_url_rule("/", view_func=lambda: g.thread.id)
    assert f"Domain={domain.lstrip('.')}" in app.test_client().get("/").headers["Set-Cookie"]


@pytest.mark.parametrize("name", ["SDK_KEY", "THREAD_SECRET"])
@pytest.mark.parametrize("value", [["hush"], {"hush": 1}, "hush\udcff"])
def test_a_wrong_secret_is_not_shown(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: value})
    assert f"AGENTUITY_{name}=(hidden)" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "dcff" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "value", [b"redis://me:hush@h", ["redis://me:hush@h"], {"url": "redis://h/0?password=hush"}]
)
@pytest.mark.parametrize("name", ["THREAD_STORE", "RUN_STORE", "CATALYST_URL"])
def test_what_is_no_text_is_not_shown(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: value, "SDK_KEY": "0123456789abcdef"})
    assert f"AGENTUITY_{name}=(a {type(value).__name__}) is wrong." in str(caught.value)


def test_the_password_of_a_stores_url_is_not_shown() -> None:
    for store in ("ws://me:hush@localhost/thread/ws", "nothing://me:hush@localhost"):
        app = Flask(__name__)
        app.config["AGENTUITY_THREAD_STORE"] = store
        with pytest.raises(ConfigurationError) as caught:
            ThreadManager(app)
        assert "hush" not in str(caught.value)
        assert store.partition(":")[0] in str(caught.value)


def test_the_key_signs_where_no_secret_is_said() -> None:
    assert read(SDK_KEY="key").secret == b"key"
    assert read(SDK_KEY="key", THREAD_SECRET="secret").secret == b"secret"
    assert read({"SDK_KEY": "key"}).secret == b"key"


# ------------------------------------------------------------------- where the service is


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ({}, "wss://catalyst-usc.agentuity.cloud"),
        ({"REGION": "use"}, "wss://catalyst-use.agentuity.cloud"),
        ({"REGION": "local"}, "wss://catalyst.agentuity.io"),
        ({"REGION": ""}, "wss://catalyst-usc.agentuity.cloud"),
        ({"CATALYST_URL": "https://a.example"}, "wss://a.example"),
        ({"CATALYST_URL": "http://a.example:8080/x?y#z"}, "ws://a.example:8080"),
        ({"CATALYST_URL": "ws://a.example/"}, "ws://a.example"),
        ({"CATALYST_URL": "wss://[::1]:1"}, "wss://[::1]:1"),
        ({"TRANSPORT_URL": "https://b.example"}, "wss://b.example"),
        (
            {"CATALYST_URL": "https://a.example", "TRANSPORT_URL": "https://b.example"},
            "wss://a.example",
        ),
        ({"CATALYST_URL": "", "TRANSPORT_URL": "https://b.example"}, "wss://b.example"),
        ({"TRANSPORT_URL": "https://b.example", "REGION": "use"}, "wss://b.example"),
    ],
)
def test_where_the_service_is(said: dict[str, str], url: str) -> None:
    assert read({"SDK_KEY": "key"} | said).store == url


def test_a_store_that_is_named_comes_before_the_service() -> None:
    assert read(SDK_KEY="key", THREAD_STORE="memory://").store == "memory://"
    assert read({"SDK_KEY": ""}).store == DEFAULT_STORE


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("CATALYST_URL", "catalyst.example.com", "with its scheme"),
        ("CATALYST_URL", "localhost:8080", "with its scheme"),
        ("CATALYST_URL", "https://", "with its scheme"),
        ("CATALYST_URL", "https://a:port", "with its scheme"),
        ("CATALYST_URL", "https://[::1", "with its scheme"),
        ("TRANSPORT_URL", "ftp://b.example", "with its scheme"),
        ("REGION", "us/../x", "letters, digits and dashes"),
        ("REGION", "us.evil.example/", "letters, digits and dashes"),
    ],
)
def test_a_place_that_is_no_place_is_refused(name: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read({"SDK_KEY": "key", name: value})
    assert f"AGENTUITY_{name}={value!r}" in str(caught.value)
    assert allowed in str(caught.value)


def test_a_service_without_a_key_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="AGENTUITY_SDK_KEY"):
        read(THREAD_STORE="wss://a.example/thread/ws")
