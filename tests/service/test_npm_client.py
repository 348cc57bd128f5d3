"""Agentuity's own JavaScript client of threads, from npm, at our service."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.node import PATIENCE, install, node
from websockets.http11 import Request

from flask_agentuity.service import ThreadService

from .peers import KEY, Peer
from .test_http_routes import fill

PACKAGE = "@agentuity/core@2.0.21"

SCRIPT = """
import { APIClient } from "@agentuity/core/api";
import { threadDelete, threadGet, threadList } from "@agentuity/core/thread";

const quiet = Object.fromEntries(
  ["trace", "debug", "info", "warn", "error", "fatal"].map((level) => [level, () => {}]));
const [url, key, id] = process.argv.slice(2);
const client = new APIClient(url, quiet, key);
const outcome = async (action) => {
  try { return await action(); } catch (error) { return String(error.message ?? error); }
};
console.log(JSON.stringify({
  all: await threadList(client),
  some: await threadList(client, { limit: 2, offset: 1 }),
  oldest: await threadList(client, { limit: 1, sort: "created", direction: "asc" }),
  found: await threadList(client, { metadata: { user: "Zoë", number: 1 }, orgId: "o" }),
  one: await threadGet(client, { id }),
  missing: await outcome(() => threadGet(client, { id: "thrd_missing" })),
  wrong: await outcome(() => threadList(client, { limit: 1000 })),
  denied: await outcome(() => threadList(new APIClient(url, quiet, "a key that is unknown"))),
  deleted: (await threadDelete(client, { id })) ?? null,
  left: await threadList(client),
}));
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the package is installed."""
    folder = tmp_path_factory.mktemp("npm")
    install(folder, PACKAGE)
    (folder / "client.mjs").write_text(SCRIPT, encoding="utf-8")
    return folder


@pytest.mark.skipif(
    not hasattr(Request, "method"), reason="before version 17, websockets takes no DELETE"
)
def test_the_client_lists_finds_and_deletes(
    package: Path, serve: Callable[..., ThreadService], connect: Callable[..., Peer]
) -> None:
    service = serve()
    ids = fill(connect(service), 3, user="Zoë")
    url = service.url.replace("ws://", "http://").removesuffix("/thread/ws")
    done = subprocess.run(
        [node(), "client.mjs", url, KEY, ids[2]],
        cwd=package,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)

    def shown(name: str) -> list[str]:
        return [thread["id"] for thread in answers[name]]

    assert shown("all") == ids[::-1]
    assert shown("some") == [ids[1], ids[0]]
    assert shown("oldest") == [ids[0]]
    assert shown("found") == [ids[1]]
    assert answers["one"]["metadata"] == {"user": "Zoë", "number": 2}
    assert json.loads(answers["one"]["user_data"])["state"] == {"number": 2}
    assert answers["missing"] == "Thread not found."
    assert "limit must be" in answers["wrong"]
    assert answers["denied"] == "The key is not known here."
    assert answers["deleted"] is None
    assert shown("left") == [ids[1], ids[0]]
