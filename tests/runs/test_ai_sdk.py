"""The UI message stream, read by the Vercel AI SDK itself under node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.node import PATIENCE, install
from support.node import node as path_of_node
from support.servers import Server, Visitor

from .clients import ask, events_in, last, serving
from .served import text_of

SCRIPT = Path(__file__).with_name("ai_sdk.mjs")
VERSIONS = ["ai@6"]


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the script and the packages that it imports."""
    folder = tmp_path_factory.mktemp("node")
    install(folder, *VERSIONS)
    shutil.copy(SCRIPT, folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("ai"), "gthread") as server:
        yield server


def command_of(visitor: Visitor, way: str) -> list[str]:
    host, port = visitor.server.address
    cookie = visitor._headers(None).get("Cookie", "")
    return [path_of_node(), SCRIPT.name, f"http://{host}:{port}", cookie, way]


def run_script(node: Path, visitor: Visitor, way: str) -> Any:
    command = command_of(visitor, way)
    done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def text_parts(message: Any) -> list[str]:
    return [part["text"] for part in message["parts"] if part["type"] == "text"]


def test_the_sdk_reads_an_answer(node: Path, server: Server) -> None:
    found = run_script(node, Visitor(server), "send")
    assert found["errors"] == []
    assert found["message"]["role"] == "assistant"
    assert text_parts(found["message"]) == [text_of(20)]
    assert [part["state"] for part in found["message"]["parts"] if "state" in part] == ["done"]


def test_the_sdk_resumes_an_answer(node: Path, server: Server) -> None:
    visitor = Visitor(server)
    reading = ask(visitor, format="ui", count=200, pause=0.01).until(500)
    run = reading.run
    reading.leave()
    found = run_script(node, visitor, "resume")
    assert found["errors"] == []
    # The id stays the same, so that a client can recognize the message.
    assert found["message"]["id"] == run
    assert text_parts(found["message"]) == [text_of(200)]
    assert last(visitor) == {"status": "done", "text": text_of(200)}


def test_the_sdk_is_told_that_nothing_runs(node: Path, server: Server) -> None:
    visitor = Visitor(server)
    data = ask(visitor, format="ui", count=3).all()
    assert events_in(data.replace(b"[DONE]", b"null"))[-1][2] is None
    assert run_script(node, visitor, "resume")["nothing"]


def test_the_sdk_sees_a_stopped_answer(node: Path, server: Server) -> None:
    visitor = Visitor(server)
    reading = ask(visitor, format="ui", count=10_000, pause=0.01).until(300)
    command = command_of(visitor, "resume")
    process = subprocess.Popen(command, cwd=node, stdout=subprocess.PIPE, text=True)
    reading.until(4_000)
    visitor.post("/chat/stop")
    output, _ = process.communicate(timeout=PATIENCE)
    found = json.loads(output)
    # It may have come after the end.
    if found["message"] is not None:
        assert found["errors"] == []
        assert text_parts(found["message"]) == [last(visitor)["text"]]
