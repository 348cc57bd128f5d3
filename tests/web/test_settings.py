"""Settings that do not fit together, unknown ones, and those that come too late."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g

from flask_agentuity import ConfigurationError, ThreadManager
from flask_agentuity.web.config import read_settings
from flask_agentuity.web.settings_reader import SettingsReader

from .cli.running import runner_of

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "configuration.rst"


def read(**config: Any) -> Any:
    return read_settings({f"AGENTUITY_{name}": value for name, value in config.items()}, {})


def make_app(**config: Any) -> Flask:
    app = Flask("tested")
    app.config.update(AGENTUITY_THREAD_STORE="memory://", SECRET_KEY="secret", TESTING=True)
    app.config.update({f"AGENTUITY_{name}": value for name, value in config.items()})
    ThreadManager(app)
    app.get("/")(lambda: g.thread.id)
    return app


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# Cookies that browsers reject


@pytest.mark.parametrize(
    ("config", "reason", "key"),
    [
        ({"SAMESITE": "None", "SECURE": False}, "SameSite=None requires Secure", "SECURE"),
        ({"PARTITIONED": True, "SECURE": False}, "Partitioned requires Secure", "SECURE"),
        ({"NAME": "__Host-atid", "SECURE": False}, "__Host- requires Secure", "SECURE"),
        ({"NAME": "__secure-atid", "SECURE": "0"}, "__Secure- requires Secure", "SECURE"),
        ({"NAME": "__Host-atid", "DOMAIN": "a.example"}, "__Host- forbids a domain", "DOMAIN"),
        ({"NAME": "__Host-atid", "PATH": "/chat"}, "__Host- requires the path /", "PATH"),
    ],
)
def test_a_cookie_that_browsers_reject_is_refused(
    config: dict[str, Any], reason: str, key: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**{f"THREAD_COOKIE_{name}": value for name, value in config.items()})
    assert reason in str(caught.value)
    assert f"AGENTUITY_THREAD_COOKIE_{key}" in str(caught.value)


@pytest.mark.parametrize(
    ("config", "attributes"),
    [
        ({"SAMESITE": "None"}, {"Secure", "SameSite=None"}),
        ({"PARTITIONED": True}, {"Secure", "Partitioned"}),
        ({"PARTITIONED": "on", "SECURE": True}, {"Secure", "Partitioned"}),
        ({"NAME": "__Host-atid"}, {"Secure"}),
        ({"NAME": "__Secure-atid", "DOMAIN": "localhost"}, {"Secure", "Domain=localhost"}),
        ({}, set()),
    ],
)
def test_where_browsers_require_secure_auto_means_secure(
    config: dict[str, Any], attributes: set[str]
) -> None:
    app = make_app(**{f"THREAD_COOKIE_{name}": value for name, value in config.items()})
    cookies = app.test_client().get("/").headers.getlist("Set-Cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        found = set(cookie.split("; ")[1:])
        assert attributes <= found
        assert ("Secure" in found) is bool(attributes)


# Ages


@pytest.mark.parametrize(
    ("age", "ttl", "consequence"),
    [
        (604_800, 604_800, None),
        (3_600, 3_600, None),
        (604_800, 3_600, "the conversation has expired"),
        (3_600, 604_800, "has no cookie"),
        (604_800, None, "has no cookie"),
        (400 * 86_400, None, None),
        (400 * 86_400, 800 * 86_400, None),
    ],
)
def test_a_cookie_age_that_does_not_fit_is_named(
    age: int, ttl: float | None, consequence: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    runner = runner_of("memory://", AGENTUITY_THREAD_COOKIE_MAX_AGE=age, AGENTUITY_THREAD_TTL=ttl)
    found = warnings(caplog)
    checked = runner("check").output
    if consequence is None:
        assert found == []
        assert "AGENTUITY_THREAD_TTL" not in checked
        return
    (warning,) = found
    for part in (consequence, f"{age:,} seconds", "AGENTUITY_THREAD_COOKIE_MAX_AGE"):
        assert part in warning
        assert part in checked


def test_a_service_has_its_own_ttl(caplog: pytest.LogCaptureFixture) -> None:
    settings = read(THREAD_STORE="wss://a.example", SDK_KEY="x" * 40, THREAD_COOKIE_MAX_AGE=60)
    assert settings.warnings == []


# Unknown settings


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("THREAD_STOR", "THREAD_STORE"),
        ("THREADS_TTL", "THREAD_TTL"),
        ("THREAD_COOKIE_MAXAGE", "THREAD_COOKIE_MAX_AGE"),
        ("THREAD_SECRETS", "THREAD_SECRET"),
    ],
)
def test_an_unknown_setting_of_the_app_names_the_nearest(
    written: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_app(**{written: "60"})
    (warning,) = warnings(caplog)
    assert warning.endswith(
        f"AGENTUITY_{written} in app.config is not a setting. Did you mean AGENTUITY_{meant}?"
    )


@pytest.mark.parametrize("written", ["AGENTUITY_thread_ttl", "AGENTUTY_THREAD_TTL"])
def test_another_case_and_a_typing_error_in_the_prefix_are_noticed(
    written: str,
) -> None:
    words = "is not a setting. Did you mean AGENTUITY_THREAD_TTL?"
    assert read_settings({written: 60}, {}).warnings == [f"{written} in app.config {words}"]
    assert read_settings({}, {written: "60"}).warnings == [
        f"The environment variable {written} {words}"
    ]


def test_names_of_other_programs_are_not_noticed() -> None:
    names = ("AGENT_NAME", "AGENTUITYX", "AGENTUITY_LOG_LEVEL", "AGENTS_THREAD_TTL", "THREAD_TTL")
    assert read_settings({}, dict.fromkeys(names, "1")).warnings == []
    assert read_settings({"AGENT_NAME": 1, "THREAD_TTL": 1}, {}).warnings == []


def test_what_is_like_no_setting_names_some_setting(caplog: pytest.LogCaptureFixture) -> None:
    make_app(QQQ=1)
    (warning,) = warnings(caplog)
    assert "AGENTUITY_QQQ in app.config is not a setting" in warning


def test_an_environment_variable_that_is_nearly_a_setting_is_named() -> None:
    environment = {
        "AGENTUITY_THREAD_STROE": "memory://",
        "AGENTUITY_SDKKEY": "key",
        # Variables of other programs.
        "AGENTUITY_PROJECT": "x",
        "AGENTUITY_SERVICE_KEYS": "x",
        "AGENTUITY_LOG_LEVEL": "debug",
        "THREAD_STORE": "x",
        # A setting that is not read here.
        "AGENTUITY_REGION": "use",
    }
    assert read_settings({}, environment).warnings == [
        "The environment variable AGENTUITY_THREAD_STROE is not a setting. Did you mean"
        " AGENTUITY_THREAD_STORE?",
        "The environment variable AGENTUITY_SDKKEY is not a setting. Did you mean"
        " AGENTUITY_SDK_KEY?",
    ]


def test_the_documented_settings_are_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    if not DOCS.exists():
        pytest.skip("the tests run without the rest of the repository")
    readers: list[SettingsReader] = []
    find_unknown = SettingsReader.find_unknown

    def note(reader: SettingsReader) -> list[str]:
        readers.append(reader)
        return find_unknown(reader)

    monkeypatch.setattr(SettingsReader, "find_unknown", note)
    read()
    known = {f"AGENTUITY_{name}" for name in readers[0]._names}
    documented: set[str] = set()
    for row in re.findall(r"^    \* - (.*)$", DOCS.read_text(encoding="utf-8"), re.MULTILINE):
        base = ""
        for name in re.findall(r"``(\w+)``", row):
            if name.startswith("AGENTUITY_"):
                base = name
                documented.add(name)
            elif name.startswith("_"):
                # A further setting that differs in the last part: _DOMAIN after ..._NAME.
                documented.add(base.rpartition("_")[0] + name)
    assert documented == known


# Settings that come too late


def test_a_setting_that_is_changed_after_init_app_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app(THREAD_TTL=604_800)
    app.config["AGENTUITY_THREAD_TTL"] = 60
    app.config["AGENTUITY_THREAD_MAX_BYTES"] = 1000
    app.config["OTHER"] = 1
    client = app.test_client()
    for _ in range(3):
        client.get("/")
    assert [warning.partition(" in ")[0] for warning in warnings(caplog)] == [
        "AGENTUITY_THREAD_MAX_BYTES",
        "AGENTUITY_THREAD_TTL",
    ]


def test_late_settings_are_named_in_the_next_request(caplog: pytest.LogCaptureFixture) -> None:
    """Also if no request uses its thread."""
    app = make_app(THREAD_TTL=604_800)
    app.config["AGENTUITY_THREAD_TTL"] = 60
    client = app.test_client()
    assert client.get("/nothing").status_code == 404
    app.config["AGENTUITY_THREAD_MAX_BYTES"] = 1000
    for _ in range(2):
        assert client.get("/nothing").status_code == 404
    assert [warning.partition(" in ")[0] for warning in warnings(caplog)] == [
        "AGENTUITY_THREAD_TTL",
        "AGENTUITY_THREAD_MAX_BYTES",
    ]


@pytest.mark.parametrize(
    ("settings", "named", "offline"),
    [
        ({"THREAD_SECRET": "x" * 15}, ["AGENTUITY_THREAD_SECRET"], True),
        ({"THREAD_SECRET": b"x" * 15}, ["AGENTUITY_THREAD_SECRET"], True),
        ({"SDK_KEY": "x" * 15}, ["AGENTUITY_SDK_KEY"], True),
        ({"SDK_KEY": "x" * 15, "THREAD_SECRET": "y" * 16}, ["AGENTUITY_SDK_KEY"], False),
        ({"SDK_KEY": "x" * 16, "THREAD_SECRET": "y"}, ["AGENTUITY_THREAD_SECRET"], True),
        ({"SDK_KEY": "x" * 16, "THREAD_SECRET": "y" * 16}, [], False),
        ({}, [], False),
    ],
)
def test_a_secret_that_can_be_guessed_is_a_warning(
    settings: dict[str, Any], named: list[str], offline: bool
) -> None:
    warnings = [each for each in read(**settings).warnings if "fewer than 16" in each]
    assert [each.partition(" ")[0] for each in warnings] == named
    assert all("token_urlsafe" in each for each in warnings)
    assert all(("one cookie" in each) == offline for each in warnings)
    assert not any("xxx" in each or "yyy" in each for each in warnings)
