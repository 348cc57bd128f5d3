"""Promises 5 and 6, shown over real servers: what is saved, and when."""

from __future__ import annotations

import http.client
from typing import Any
from uuid import uuid4

import pytest
from support.servers import Server, Visitor
from support.waiting import eventually

from . import app as served

PARTS = b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


@pytest.fixture
def mark() -> str:
    return uuid4().hex


@pytest.fixture
def settled(visitor: Visitor) -> Visitor:
    """A visitor who has a thread already."""
    visitor.post("/state", {"old": True})
    return visitor


def test_a_redirect_reads_what_was_written(settled: Visitor) -> None:
    for turn in range(5):
        answer = settled.post("/redirect", f"turn {turn}")
        assert answer.status == 303
        assert settled.get(answer.headers["Location"]).json()["messages"][-1] == f"turn {turn}"


def test_a_new_visitor_reads_what_he_posted(visitor: Visitor) -> None:
    visitor.post("/push", "hello")
    assert visitor.state() == {"messages": ["hello"]}


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("context", ["", "&context"], ids=["no context", "context"])
@pytest.mark.parametrize("length", ["", "&length"], ids=["no length", "length"])
@pytest.mark.parametrize("kind", ["", "&sse", "&direct"], ids=["bytes", "sse", "direct"])
def test_the_end_of_a_stream_comes_after_its_save(
    server: Server, mark: str, version: str, context: str, length: str, kind: str
) -> None:
    visitor = Visitor(server, version)
    # The save has to wait for the file, so that who does not wait for the save is too early.
    busy = "" if "gevent" in str(server.folder) else "&busy"
    answer = visitor.get(f"/stream?mark={mark}{context}{length}{kind}{busy}")
    state = visitor.state()
    assert answer.body == PARTS
    assert answer.headers["Content-Length"] == (str(len(PARTS)) if length else None)
    expected: dict[str, Any] = {"before": mark, "during": f"{mark} 2", "after": mark}
    if context:
        expected |= {"by_g": mark, "messages": [mark]}
    assert state == expected


@pytest.mark.parametrize("context", ["", "&context"], ids=["no context", "context"])
def test_a_client_that_leaves_in_the_middle_keeps_what_was_done(
    server: Server, settled: Visitor, mark: str, context: str
) -> None:
    settled.leave(f"/endless?mark={mark}{context}", X_Name=mark)
    eventually(lambda: settled.state().get("finally") == mark, "the stream is closed and saved")
    assert settled.state() == {"old": True, "before": mark, "during": mark, "finally": mark}
    eventually(lambda: server.events("session.completed", mark), "the session is completed")
    assert server.events("session.completed", mark) == [["session.completed", mark, None]]


@pytest.mark.parametrize("path", ["/stream?mark={}", "/stream?context&mark={}", "/file?mark={}"])
def test_head(settled: Visitor, mark: str, path: str) -> None:
    answer = settled.ask("HEAD", path.format(mark))
    assert (answer.status, answer.body) == (200, b"")
    # The generator never began.
    key = "mark" if "file" in path else "before"
    assert settled.state() == {"old": True, key: mark}


def test_204(settled: Visitor, mark: str) -> None:
    assert settled.get(f"/empty?mark={mark}").status == 204
    assert settled.state() == {"old": True, "mark": mark}


@pytest.mark.parametrize("context", ["", "&context"], ids=["no context", "context"])
def test_204_with_a_body_that_is_never_asked_for(settled: Visitor, mark: str, context: str) -> None:
    assert settled.get(f"/stream?mark={mark}&status=204{context}").status == 204
    assert settled.state() == {"old": True, "before": mark}


def test_304(settled: Visitor, mark: str) -> None:
    answer = settled.get(f"/not-modified?mark={mark}", If_None_Match='"same"')
    assert (answer.status, answer.body) == (304, b"")
    assert settled.state() == {"old": True, "mark": mark}


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_send_file(server: Server, mark: str, version: str) -> None:
    visitor = Visitor(server, version)
    answer = visitor.get(f"/file?mark={mark}")
    content = (served.HERE / "app.py").read_bytes()
    assert answer.body == content
    assert visitor.cookies
    assert visitor.state() == {"mark": mark}
    again = visitor.get(f"/file?mark={mark}-again", If_None_Match=answer.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert visitor.state() == {"mark": f"{mark}-again"}
    part = visitor.get(f"/file?mark={mark}-part", Range="bytes=10-29")
    assert (part.status, part.body) == (206, content[10:30])
    assert visitor.state() == {"mark": f"{mark}-part"}


def test_a_view_that_raises_saves_nothing(settled: Visitor, mark: str) -> None:
    answer = settled.get(f"/fail?mark={mark}")
    assert answer.status == 500
    assert settled.state() == {"old": True}


def test_a_new_visitor_whose_first_request_fails_gets_no_cookie(
    visitor: Visitor, mark: str
) -> None:
    assert visitor.get(f"/fail?mark={mark}").status == 500
    assert not visitor.cookies


def test_an_explicit_save_outlives_the_failure_after_it(visitor: Visitor, mark: str) -> None:
    assert visitor.get(f"/fail?mark={mark}&save").status == 500
    assert visitor.state() == {"mark": mark}


@pytest.mark.parametrize(
    ("path", "status", "saved"),
    [
        ("/abort/404", 404, True),
        ("/abort/500", 500, False),
        ("/abort/503", 503, False),
        ("/handled", 409, True),
        ("/status/400", 400, True),
        ("/status/500", 500, False),
        ("/status/502", 502, False),
    ],
)
def test_what_an_error_saves(
    settled: Visitor, mark: str, path: str, status: int, saved: bool
) -> None:
    assert settled.get(f"{path}?mark={mark}").status == status
    assert settled.state() == {"old": True} | ({"mark": mark} if saved else {})


def test_a_stream_that_is_an_error_saves_nothing(settled: Visitor, mark: str) -> None:
    answer = settled.get(f"/stream?mark={mark}&status=503")
    assert (answer.status, answer.body) == (503, PARTS)
    assert settled.state() == {"old": True}


def test_another_extension_whose_after_request_raises(
    server: Server, settled: Visitor, mark: str
) -> None:
    answer = settled.get(f"/status/200?mark={mark}&after_request", X_Name=mark)
    assert answer.status == 500
    assert settled.state() == {"old": True}
    assert server.events("session.completed", mark) == [["session.completed", mark, "RuntimeError"]]


def test_another_extension_that_answers_before_the_view(settled: Visitor, mark: str) -> None:
    assert settled.get(f"/plain?early={mark}").body == b"early"
    assert settled.state() == {"old": True, "early": mark}


@pytest.mark.parametrize("context", ["", "&context"], ids=["no context", "context"])
@pytest.mark.parametrize("length", ["", "&length"], ids=["no length", "length"])
def test_an_error_in_the_middle_of_a_stream(
    server: Server, settled: Visitor, mark: str, context: str, length: str
) -> None:
    with pytest.raises(http.client.IncompleteRead) as caught:
        settled.get(f"/stream?mark={mark}&fails_at=2{context}{length}", X_Name=mark)
    assert PARTS.startswith(caught.value.partial)
    assert settled.state() == {"old": True, "before": mark}
    eventually(lambda: server.events("session.completed", mark), "the session is completed")
    assert server.events("session.completed", mark) == [["session.completed", mark, "RuntimeError"]]


def test_the_first_touch_in_a_generator(server: Server, settled: Visitor, mark: str) -> None:
    assert settled.get(f"/late?mark={mark}").body == b"begun done"
    assert settled.state() == {"old": True, "late": mark}


def test_the_first_touch_in_a_generator_is_too_late_for_a_cookie(
    server: Server, visitor: Visitor, mark: str
) -> None:
    before = len(server.log())
    assert visitor.get(f"/late?mark={mark}").body == b"begun done"
    assert not visitor.cookies
    said = server.log()[before:]
    assert "first used after its response had begun" in said
    assert "Use g.thread.id in the view" in said
