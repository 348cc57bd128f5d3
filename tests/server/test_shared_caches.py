"""What a shared cache gives to one visitor is not what another one was told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from io import BytesIO
from pathlib import Path

import pytest
from flask import Flask, Response, g, request, send_file, stream_with_context
from support.proxies import PROXIES, caching_proxy
from support.servers import PATIENCE
from werkzeug.serving import make_server

from flask_agentuity import ThreadManager

SHARED = "public, max-age=600, s-maxage=600"


def make_app(folder: Path) -> Flask:
    app = Flask("cached", instance_path=str(folder))
    app.secret_key = "tested"
    ThreadManager(app)

    def remember() -> str:
        if name := request.args.get("name"):
            g.thread.state["name"] = name
        return str(g.thread.state.get("name", "unknown"))

    @app.get("/name")
    def name() -> str:
        return remember()

    @app.get("/plain")
    def plain() -> Response:
        return Response("plain", headers={"Cache-Control": SHARED})

    @app.get("/public")
    def public() -> Response:
        return Response(remember(), headers={"Cache-Control": SHARED})

    @app.get("/accelerated")
    def accelerated() -> Response:
        return Response(remember(), headers={"X-Accel-Expires": "600"})

    @app.get("/aged")
    def aged() -> Response:
        return Response(remember(), headers={"Cache-Control": "max-age=600"})

    @app.get("/file")
    def file() -> Response:
        return send_file(BytesIO(remember().encode()), "text/plain", max_age=600)

    @app.get("/stream")
    def stream() -> Response:
        thread = g.thread

        def generate() -> Iterator[str]:
            yield str(thread.state.get("name", "unknown"))

        return Response(generate(), mimetype="text/plain")

    @app.get("/late")
    def late() -> Response:
        def generate() -> Iterator[str]:
            yield str(g.thread.state.get("name", "unknown"))

        return Response(stream_with_context(generate()), mimetype="text/plain")

    return app


@pytest.fixture(scope="module")
def app_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    app = make_app(tmp_path_factory.mktemp("cached"))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server.server_port
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, app_port: int) -> Iterator[tuple[str, int]]:
    with caching_proxy(request.param, app_port) as address:
        yield address


class Browser:
    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self.cookies: dict[str, str] = {}

    def get(self, path: str) -> tuple[str, str]:
        """Return the text of a page and what the proxy says of its cache."""
        connection = HTTPConnection(*self._address, timeout=PATIENCE)
        try:
            cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
            answer = connection.getresponse()
            for header in answer.headers.get_all("Set-Cookie", []):
                for name, morsel in SimpleCookie(header).items():
                    self.cookies[name] = morsel.value
            assert answer.status == 200
            return answer.read().decode(), (answer.headers["X-Cache"] or "").lower()
        finally:
            connection.close()


def test_the_proxy_shares_what_may_be_shared(proxy: tuple[str, int]) -> None:
    said = [Browser(proxy).get("/plain")[1] for _ in range(2)]
    assert "hit" not in said[0]
    assert "hit" in said[1]


@pytest.mark.parametrize("path", ["/public", "/accelerated", "/aged", "/file"])
def test_a_new_visitor_gets_no_cookie_of_another(proxy: tuple[str, int], path: str) -> None:
    first, second = Browser(proxy), Browser(proxy)
    first.get(path)
    second.get(path)
    assert first.cookies["atid"] != second.cookies["atid"]


@pytest.mark.parametrize("path", ["/public", "/accelerated", "/aged", "/file", "/stream"])
def test_a_visitor_is_not_shown_what_is_anothers(proxy: tuple[str, int], path: str) -> None:
    visitors = {name: Browser(proxy) for name in ("ada", "bob")}
    for name, visitor in visitors.items():
        visitor.get(f"/name?name={name}")
    for name, visitor in visitors.items():
        for _ in range(2):
            text, cache = visitor.get(path)
            assert text == name
            assert "hit" not in cache


def test_the_first_stream_of_a_process_is_not_shown_to_another(proxy: tuple[str, int]) -> None:
    """The first visitor has no id yet, and the generator is the first to use the thread."""
    assert Browser(proxy).get("/late")[0] == "unknown"
    visitor = Browser(proxy)
    visitor.get("/name?name=ada")
    text, cache = visitor.get("/late")
    assert text == "ada"
    assert "hit" not in cache
