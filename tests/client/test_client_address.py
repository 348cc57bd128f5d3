from __future__ import annotations

import pytest

from flask_agentuity.client import ThreadClient
from flask_agentuity.client.address import (
    connection_warnings,
    parse_address,
    proxy_hint,
    proxy_warnings,
)
from flask_agentuity.document.foreign_text import printable
from flask_agentuity.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("ws://h", "ws://h/thread/ws"),
        ("https://h/", "wss://h/thread/ws"),
        ("http://h:80", "ws://h:80/thread/ws"),
        ("WSS://h:1/own?token=t", "wss://h:1/own?token=t"),
        ("ws://user:word@h/x", "ws://h/x"),
        ("ws://[::1]:5", "ws://[::1]:5/thread/ws"),
        (" ws://h\n", "ws://h/thread/ws"),
    ],
)
def test_a_url_is_made_whole(url: str, dialled: str) -> None:
    address = parse_address(url)
    assert address.url == dialled
    assert "word" not in repr(address)
    assert "token" not in repr(address)


@pytest.mark.parametrize(
    "url", ["", "h:80", "localhost:8787/thread/ws", "ftp://h", "ws://", "ws://h:x", "ws://[", "h"]
)
def test_a_url_without_a_scheme_or_a_host_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="URL of the thread service"):
        parse_address(url)


def test_a_refused_url_shows_no_credentials() -> None:
    for url in ("ftp://user:word@h?token=word", "user:word@h", "user:word@h/x?word"):
        with pytest.raises(ConfigurationError) as raised:
            parse_address(url)
        assert "word" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "ws://u:12#word@h",
        "redis://u:wo#rd@h",
        "ftp://u:wo?rd@h",
        "ftp://u:wo/rd@h",
        "ws://u:wo#rd@h",
    ],
)
def test_a_password_that_is_not_escaped_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_address(url)
    for part in ("wo", "rd", "12"):
        said = str(raised.value).replace("must start with", "").replace("user name or password", "")
        assert part not in said


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, None),
        ({"http_proxy": "http://user:word@p:3128"}, None),
        ({"https_proxy": "socks5://p"}, None),
        ({"http_proxy": "p:3128"}, "no scheme"),
        ({"HTTP_PROXY": "https://user:word@p"}, "scheme https://"),
        ({"http_proxy": "socks5://p"}, "socks5"),
        ({"all_proxy": "http://user:word@p"}, "all_proxy is ignored"),
        ({"http_proxy": "http://p", "no_proxy": "h:80, other"}, "with a port"),
    ],
)
def test_proxy_settings_that_do_nothing_are_named(
    environ: dict[str, str], words: str | None
) -> None:
    warnings = proxy_warnings(environ, parse_address("ws://h"))
    assert len(warnings) == (words is not None)
    if words is not None:
        assert words in warnings[0]
        assert "word@" not in warnings[0]


def test_options_are_checked() -> None:
    for wrong in (
        {"request_timeout": 0},
        {"connect_timeout": "10"},
        {"max_pending": -1},
        {"grace": -1},
        {"ping_interval": float("nan")},
        {"reconnect_max": True},
        {"ca_file": "/does/not/exist.pem"},
        {"key": ""},
        {"key": "\ud800"},
        {"key": "secret\n"},
        {"key": " secret"},
        {"key": "sec\x1bret"},
        {"key": 5},
    ):
        name = next(iter(wrong))
        with pytest.raises(ConfigurationError, match=name) as raised:
            ThreadClient(**{"url": "ws://h", "key": "k", **wrong})  # type: ignore[arg-type]

        assert "secret" not in str(raised.value)


def test_a_key_that_was_read_with_its_newline_is_explained() -> None:
    for key in ("secret\n", "secret\r\n"):
        with pytest.raises(ConfigurationError, match=r"newline\. Strip it"):
            ThreadClient("ws://h", key)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("ws://threads.example", True),
        ("http://10.0.0.1:80", True),
        ("ws://[2001:db8::1]", True),
        ("wss://threads.example", False),
        ("ws://localhost:8787", False),
        ("ws://app.localhost", False),
        ("ws://127.0.0.2:1", False),
        ("ws://[::1]:1", False),
    ],
)
def test_an_unencrypted_connection_to_another_machine_is_a_warning(url: str, warned: bool) -> None:
    warnings = connection_warnings({}, parse_address(url + "?token=word"))
    assert [("not encrypted" in each, "word" in each) for each in warnings] == [
        (True, False)
    ] * warned


@pytest.mark.parametrize(
    ("environ", "hint"),
    [
        ({}, ""),
        ({"http_proxy": "http://user:word@p:3128"}, "http_proxy is set to http://p:3128,"),
        ({"HTTP_PROXY": "http://p:3128"}, "HTTP_PROXY is set to http://p:3128,"),
        ({"https_proxy": "http://p:3128"}, ""),
        ({"http_proxy": "http://p", "no_proxy": "other, h"}, ""),
        ({"http_proxy": "http://p", "no_proxy": "*"}, ""),
        ({"http_proxy": "p:3128"}, ""),
    ],
)
def test_errors_name_the_proxy(environ: dict[str, str], hint: str) -> None:
    found = proxy_hint(environ, parse_address("ws://h"))
    assert found.startswith(" " + hint if hint else hint)
    assert bool(found) == bool(hint)
    assert "word" not in found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It is full.", "It is full."),
        ("Größe 数 😀 \xa0|", "Größe 数 😀 \xa0|"),
        ("a\nb\r\n\tc", r"a\nb\r\n\tc"),
        ("\x1b[31mred\x00\x9b", r"\x1b[31mred\x00\x9b"),
        ("\u202eleft\u2028", r"\u202eleft\u2028"),
        ("half \ud83d", r"half \ud83d"),
        ("the key secret", "the key <key>"),
    ],
)
def test_foreign_text_is_printable(text: str, shown: str) -> None:
    assert printable(text, "secret") == shown
    assert len(printable(text * 1000)) < 10_000


def test_the_key_is_in_no_repr() -> None:
    client = ThreadClient("ws://user:word@h?token=word", "secret")
    shown = repr(client) + repr(client.settings) + repr(client.stats())
    assert "secret" not in shown
    assert "word" not in shown
    client.close()
