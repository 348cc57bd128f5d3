"""``flask threads serve``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.minimal import MinimalStore
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flask_agentuity.client import ServiceRefusal, ThreadClient
from flask_agentuity.document.operations import Push, Set
from flask_agentuity.service.command import _parser
from flask_agentuity.service.settings import ServiceOptions
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.web import cli

from .running import ID, PATIENCE, Runner, runner_of, started

OWN = "own-key-of-this-app"


@contextmanager
def served(place: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """Run the command, and give the URL where it listens."""
    with started(
        place,
        *("serve", "--port", "0", *arguments),
        stdout=subprocess.PIPE,
        env={
            "AGENTUITY_SDK_KEY": OWN,
            "AGENTUITY_THREAD_STORE": "sqlite:///agentuity_threads.db",
            **environment,
        },
    ) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["listening"]
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_it_shares_the_threads_of_the_app_with_its_own_key_only(place: Path) -> None:
    other, third = "key-of-another-app", "key-in-environment"
    with served(place, "--key", other, AGENTUITY_SERVICE_KEYS=third) as url:
        for number, key in enumerate((OWN, other, third)):
            client = ThreadClient(url, key)
            assert client.restore(ID) is None
            client.merge(ID, [Set("a", b"%d" % number)], {"owner": "ada"})
            client.close()
    with closing(SQLiteStore(place / "instance" / "agentuity_threads.db")) as store:
        for filter in ({"owner": "ada"}, None):
            assert [thread.id for thread in store.list(filter).threads] == [ID]
        assert [thread.id for thread in store.scan()] == [ID]
        assert store.restore(ID) == b'{"state":{"a":0},"metadata":{"owner":"ada"}}'
        with closing(store.for_tenants()) as tenants:
            assert len(tenants.list().threads) == 2


def test_options_reach_the_service(place: Path) -> None:
    options = ("--max-operations", "3", "--max-connections", "1")
    with served(place, *options, "--allow-origin", "https://Example.com/") as url:
        client = ThreadClient(url, OWN)
        client.merge(ID, [Push("l", b"1")] * 3)
        with pytest.raises(ServiceRefusal, match=r"has 4 operations; the limit is 3\."):
            client.merge(ID, [Push("l", b"1")] * 4)
        statuses = []
        for origin in ("https://example.com", "https://other.example"):
            with pytest.raises(InvalidStatus) as caught:
                connect(url, additional_headers={"Origin": origin})
            statuses.append(caught.value.response.status_code)
        # The only connection that is allowed is in use.
        assert statuses == [503, 403]
        client.close()


def test_it_needs_a_key(threads: Runner) -> None:
    result = threads("serve")
    assert result.exit_code == 1
    assert "needs a key" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--max-connections", "0"], 2, "--max-connections"),
        (["--max-operations", "many"], 2, "--max-operations"),
        (["--send-timeout", "0"], 2, "--send-timeout"),
        (["--port", "65536"], 2, "--port"),
        (["--max-frame-bytes", "1000"], 1, "max_frame_bytes must be an integer from 4,194,304"),
        (["--max-memory-bytes", "9000000"], 1, "at least 4 times max_frame_bytes"),
        (["--trusted-address", "the proxy"], 1, "trusted_addresses must be addresses"),
        (["--allow-origin", "example.com"], 1, "such as https://example.com, not 'example.com'"),
        (["--allow-origin", "https://example.com/chat"], 1, "allowed_origins must be origins"),
        (["--certificate", "missing.pem"], 1, "The certificate missing.pem cannot be used"),
        (["--certificate-key", "key.pem"], 1, "--certificate-key needs --certificate"),
    ],
)
def test_wrong_options(threads: Runner, arguments: list[str], status: int, words: str) -> None:
    result = threads("serve", "--key", OWN, *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert words in " ".join(result.stderr.split())


def test_both_commands_have_every_option_of_a_service() -> None:
    settings = {*ServiceOptions.__annotations__} - {"ssl_context"} | {"certificate"}
    shown = {parameter.name for parameter in cli.threads.commands["serve"].params}
    assert settings - shown == set()
    actions = {action.dest for action in _parser()._actions}
    renamed = {"trusted_addresses": "trusted_address", "allowed_origins": "allow_origin"}
    assert {renamed.get(name, name) for name in settings} - actions == set()


@pytest.mark.parametrize("own", [OWN, None])
def test_a_store_that_keeps_no_threads_apart(tmp_path: Path, own: str | None) -> None:
    run = runner_of(MinimalStore(tmp_path), tmp_path, AGENTUITY_SDK_KEY=own)
    result = run("serve", "--port", "0", "--key", "key-of-another-app")
    assert result.exit_code == 1
    assert (
        "MinimalStore would keep the threads of other keys among those of the app" in result.stderr
    )
