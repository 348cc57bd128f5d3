"""The client for fetch that the documentation shows, under node."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import pytest
from support.node import PATIENCE, node
from werkzeug.serving import make_server

from .answers import Answer, Chat

SCRIPT = Path(__file__).with_name("documented_client.mjs")
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "resumable.rst"


@pytest.mark.parametrize(
    ("way", "text", "reloaded"),
    [
        ("whole", "first second", False),
        ("cut", "first second", False),
        # The client was away for longer than the run is kept.
        ("gone", "fir", True),
        # It asks for what the run has not sent.
        ("refused", "fir", True),
    ],
)
def test_the_client_for_fetch(chat: Chat, way: str, text: str, reloaded: bool) -> None:
    @chat.app.post("/forget")
    def forget() -> str:
        (listed,) = chat.threads.list().threads
        chat.runs.store.delete(listed.id)
        return ""

    chat.answers["said"] = Answer().say("first ", "second").finish()
    server = make_server("127.0.0.1", 0, chat.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        command = [node(), str(SCRIPT), f"http://127.0.0.1:{server.port}", str(PAGE), way]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"text": text, "reloaded": reloaded}
