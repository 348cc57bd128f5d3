"""No password, key or secret is shown: not in an error, its traceback, a log line or a repr."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_agentuity import ThreadManager
from flask_agentuity.client import ThreadClient
from flask_agentuity.client.address import parse_address
from flask_agentuity.errors import AgentuityError
from flask_agentuity.service import ThreadService
from flask_agentuity.stores import open_store
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.web.config import read_settings

KEY = "key-Pw77f3azQ9-of-this-test"

#: A password, and what a wrong escape makes of it.
PARTS = ("Pw7", "zQ9", "7f3a")

PASSWORDS = [
    "Pw77f3azQ9",
    "Pw7#zQ9",
    "Pw7/zQ9",
    "Pw7?zQ9",
    "Pw7@zQ9",
    "Pw7:zQ9",
    "Pw7[zQ9",
    "Pw7]zQ9",
    "Pw7%zQ9",
    "Pw7 zQ9",
    "Pw7\nzQ9",
    "Pw7?timeout=zQ9",
    "Pw7?partitions=zQ9",
    "Pw7?socket_timeout=zQ9",
    "Pw7/7?x=zQ9",
    "Pw7,zQ9",
]
SCHEMES = [
    "redis",
    "rediss",
    "valkey",
    "redis+cluster",
    "redis+sentinel",
    "unix",
    "ws",
    "wss",
    "sqlite",
    "mysql",
    "",
]


def shown(act: Callable[[], object]) -> str:
    """Return all that an error shows; nothing if there is none."""
    try:
        act()
    except AgentuityError as error:
        # Without the lines of the source, which are the test's own.
        return "\n".join(
            "\n".join(each.format_exception_only())
            for each in chain(traceback.TracebackException.from_exception(error))
        )
    return ""


def chain(error: traceback.TracebackException | None) -> list[traceback.TracebackException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def urls() -> list[str]:
    return [
        f"{scheme}{'://' if scheme else ''}{user}{password}@{host}"
        for scheme in SCHEMES
        for password in PASSWORDS
        for user in ("u:", ":", "")
        for host in ("h", "h:port", "h/db", "h:6379/0?nonsense=1", "127.0.0.1:1/thread/ws#x")
    ]


def require_hidden(text: str, url: str) -> None:
    assert not any(part in text for part in PARTS), (url, text)


@pytest.mark.parametrize(
    "use",
    [
        lambda url: open_store(url, key=KEY).close(),
        lambda url: ThreadClient(url, KEY).close(),
        lambda url: repr(ThreadClient(url, KEY)),
        lambda url: read_settings({"AGENTUITY_THREAD_STORE": url}, {}),
        lambda url: read_settings({"AGENTUITY_CATALYST_URL": url, "AGENTUITY_SDK_KEY": KEY}, {}),
        lambda url: ThreadManager(Flask(__name__), store=url),
    ],
    ids=["open_store", "client", "repr", "settings", "catalyst", "manager"],
)
def test_no_part_of_a_password_is_in_an_error(use: Callable[[str], Any]) -> None:
    for url in urls():
        require_hidden(shown(lambda url=url: use(url)), url)  # type: ignore[misc]


def test_no_part_of_a_password_is_in_a_repr() -> None:
    for url in urls():
        for make in (parse_address, lambda url: ThreadClient(url, KEY)):
            try:
                made: Any = make(url)
            except AgentuityError:
                continue
            require_hidden(repr(made), url)
            require_hidden(repr(getattr(made, "settings", "")), url)
    settings = {
        "AGENTUITY_THREAD_STORE": "redis://u:Pw77f3azQ9@h",
        "AGENTUITY_SDK_KEY": KEY,
        "AGENTUITY_THREAD_SECRET": "Pw7zQ9",
        "AGENTUITY_CATALYST_URL": "https://u:Pw7zQ9@h",
    }
    require_hidden(repr(read_settings(settings, {})), "settings")
    service = ThreadService(MemoryStore(), [KEY], own_key=f"{KEY}-2")
    require_hidden(repr(vars(service)), "service")


def test_nothing_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("redis")
    caplog.set_level(logging.DEBUG)
    for url in ("ws://u:Pw77f3azQ9@127.0.0.1:1?token=Pw7zQ9", "redis://u:Pw77f3azQ9@127.0.0.1:1"):
        store = open_store(url, key=KEY)
        error = shown(lambda store=store: store.restore("t"))  # type: ignore[misc]
        assert error
        require_hidden(error, url)
        store.close()
    require_hidden(caplog.text, "the log")
