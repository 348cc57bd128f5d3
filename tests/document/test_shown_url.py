from __future__ import annotations

import pytest

from flask_agentuity.document.shown_url import without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:secret@host:1/0", "redis://host:1/0"),
        ("redis://:sec/ret@host/0", "redis://host/0"),
        ("redis://:sec@ret@host/0", "redis://host/0"),
        ("redis://:sec#ret?s@host/0?password=secret", "redis://..."),
        ("redis://host?password=a@b", "redis://..."),
        ("https://user:word@h/login?word#word", "https://h/login"),
        ("user:secret@host", "(a URL without a scheme)"),
        ("sqlite:///a\x1b[2J", r"sqlite:///a\x1b[2J"),
        ("rediss://:secret\n@host", "rediss://host"),
        ("wss://secret@host/thread/ws", "wss://host/thread/ws"),
        ("unix:///run/redis.sock?db=0&password=secret", "unix:///run/redis.sock"),
        ("unix:///srv/a@b/redis.sock", "unix:///srv/a@b/redis.sock"),
        ("SQLite:////srv/a@b/threads.db", "SQLite:////srv/a@b/threads.db"),
        ("wss:///user:secret@host/thread/ws", "wss://host/thread/ws"),
        ("redis:////secret@host:1/0", "redis://host:1/0"),
        ("sqlite:////srv/a@b/threads.db?timeout=3", "sqlite:////srv/a@b/threads.db"),
    ],
)
def test_credentials_are_never_shown(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
