"""The headers that keep responses of one visitor out of shared caches."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from flask import Flask, Request, Response, abort, g, send_file

from flask_agentuity import ThreadIDProvider, ThreadManager
from flask_agentuity.testing.client import ThreadTestClient

ID = "thrd_0123456789abcdef0123456789abcdef"


class Caches:
    """An app whose view sets *headers*, and its first visitor."""

    def __init__(self) -> None:
        self.app = Flask("caches")
        self.app.config.update(SECRET_KEY="tested", AGENTUITY_THREAD_STORE="memory://")
        self.app.test_client_class = ThreadTestClient
        self.threads = ThreadManager(self.app)
        self.headers: list[tuple[str, str]] = []
        self.client = self.app.test_client()

        @self.app.get("/touched")
        def touched() -> Response:
            g.thread.id  # noqa: B018
            return self.respond("touched")

        @self.app.get("/stream")
        def stream() -> Response:
            return self.respond(iter(["streamed"]))

        @self.app.get("/exempt")
        @self.threads.exempt
        def exempt() -> Response:
            return self.respond(iter(["streamed"]))

        @self.app.get("/file")
        def file() -> Response:
            return send_file(BytesIO(b"file"), "text/plain", max_age=600)

        @self.app.get("/redirecting/")
        def redirecting() -> str:
            raise AssertionError("the path without a slash is asked for")

        @self.app.get("/refused")
        def refused() -> Response:
            abort(403)

    def respond(self, body: Any) -> Response:
        response = Response(body)
        for name, value in self.headers:
            response.headers.add(name, value)
        return response

    def get(self, path: str, *headers: tuple[str, str], **options: Any) -> Any:
        self.headers = list(headers)
        return self.client.get(path, **options)


@pytest.fixture
def caches() -> Caches:
    return Caches()


def directives(response: Any) -> set[str]:
    values = response.headers.getlist("Cache-Control")
    assert len(values) <= 1
    return {each.strip() for value in values for each in value.split(",")}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (["public, max-age=60"], {"private", "max-age=60"}),
        (["max-age=60, s-maxage=600"], {"private", "max-age=60"}),
        (["PUBLIC", "Max-Age=60"], {"private", "max-age=60"}),
        (["max-age=60", "s-maxage=9"], {"private", "max-age=60"}),
        (["max-age=60"], {"private", "max-age=60"}),
        (["no-cache"], {"private", "no-cache"}),
        (["no-store"], {"no-store"}),
        (["private"], {"private"}),
        (['private="Set-Cookie", max-age=60'], {"private", "max-age=60"}),
        (["public, no-store"], {"no-store"}),
    ],
)
def test_a_response_that_used_its_thread_is_private(
    caches: Caches, told: list[str], expected: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    response = caches.get("/touched", *(("Cache-Control", each) for each in told))
    assert directives(response) == expected
    assert "Cookie" in response.headers["Vary"]
    shared = any(word in " ".join(told).lower() for word in ("public", "s-maxage"))
    assert bool(caplog.records) is shared


@pytest.mark.parametrize(
    "name",
    [
        "CDN-Cache-Control",
        "Surrogate-Control",
        "X-Accel-Expires",
        "Edge-Control",
        "X-LiteSpeed-Cache-Control",
    ],
)
def test_headers_for_some_shared_caches_only_go_as_well(caches: Caches, name: str) -> None:
    assert name not in caches.get("/touched", (name, "600")).headers
    for harmless in ("no-store", "private, max-age=60", "0"):
        assert caches.get("/touched", (name, harmless)).headers[name] == harmless


def test_each_endpoint_is_warned_of_once(caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    caches.client.get("/touched")
    for path in ("/touched", "/stream", "/touched", "/stream"):
        assert "private" in directives(caches.get(path, ("Cache-Control", "public")))
    messages = [record.getMessage() for record in caplog.records]
    assert [("touched" in each, "stream" in each) for each in messages] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("carried", ["nothing", "header", "cookie"])
def test_streams_are_marked(caches: Caches, carried: str) -> None:
    """Before it runs, nothing tells whether a generator will use the thread."""
    if carried == "cookie":
        caches.client.set_cookie("atid", "anything")
    headers = {"x-thread-id": "anything"} if carried == "header" else {}
    response = caches.get("/stream", ("Cache-Control", "public"), headers=headers)
    assert directives(response) == {"private"}
    assert response.headers["Vary"] == "Cookie, x-thread-id"
    assert "Set-Cookie" not in response.headers


def test_what_uses_no_thread_is_left_alone(caches: Caches) -> None:
    caches.client.get("/touched")
    public = ("Cache-Control", "public")
    assert directives(caches.get("/exempt", public)) == {"public"}
    assert "Vary" not in caches.get("/exempt", public).headers
    assert "public" in directives(caches.get("/file"))
    for path in ("/refused", "/nothing", "/redirecting", "/static/nothing"):
        assert not {"Vary", "Cache-Control"} & set(caches.get(path).headers.keys())


@pytest.mark.parametrize("vary", [(), ("Authorization",)])
def test_streams_of_an_app_with_its_own_provider(caches: Caches, vary: tuple[str, ...]) -> None:
    class FromElsewhere(ThreadIDProvider):
        def get_thread_id(self, app: Flask, request: Request) -> str:
            raise AssertionError("a stream that does not use its thread asks for no id")

        def set_thread_id(self, app: Flask, response: Response, thread_id: str) -> None:
            raise AssertionError

    provider = FromElsewhere()
    provider.vary = vary
    caches.threads.set_thread_id_provider(provider)
    response = caches.get("/stream", headers=dict.fromkeys(vary, "Bearer anything"))
    assert directives(response) == {"private"}
    assert set(vary) <= set(response.headers["Vary"].split(", "))


def test_a_stream_that_uses_its_thread_is_marked_before(caches: Caches) -> None:
    @caches.app.get("/late")
    def late() -> Response:
        thread = g.thread

        def generate() -> Iterator[str]:
            yield str(thread.id)

        return Response(generate())

    thread_id = caches.client.get("/touched") and caches.client.thread_id  # type: ignore[attr-defined]
    response = caches.client.get("/late")
    assert response.text == thread_id
    assert directives(response) == {"private"}
