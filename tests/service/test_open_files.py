"""Near the limit of open files, no key keeps the others out."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .peers import AUTHORIZED, KEY, Peer

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="it counts on Linux's numbers of files"
)

OTHER = "another key of the tests"


@pytest.mark.parametrize("keys", [[KEY], [KEY, OTHER]])
def test_a_key_with_many_connections_leaves_files_to_the_others(
    tmp_path: Path, connect: Callable[..., Peer], keys: list[str]
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (110, 110))

    options = [*(f"--key={key}" for key in keys), "--port=0", "--store=memory://"]
    with subprocess.Popen(
        [sys.executable, "-m", "flask_agentuity.service", *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            url = json.loads(process.stdout.readline())["listening"]
            greedy = []
            for _ in range(60):
                try:
                    peer = connect(url, key=None)
                    if peer.authorize(KEY) == AUTHORIZED:
                        greedy.append(peer)
                except (ConnectionClosed, InvalidStatus, OSError):
                    break
            assert 20 < len(greedy) < 50
            if OTHER in keys:
                assert connect(url, OTHER).restore() == ""
            assert greedy[0].restore() == greedy[-1].restore() == ""
        finally:
            process.terminate()
        log = process.stderr.read()
    assert "Traceback" not in log
