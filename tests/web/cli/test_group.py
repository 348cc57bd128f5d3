"""How ``flask threads`` fails, and what it serves."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import ScriptInfo
from support.minimal import MinimalStore

from flask_agentuity.errors import StoreError
from flask_agentuity.stores import ListedThread, Page
from flask_agentuity.stores.memory import MemoryStore
from flask_agentuity.web import cli

from .running import ID, PATIENCE, Runner, command, run, runner_of


def test_an_app_without_a_manager() -> None:
    for arguments in (["check"], ["list"], ["show", ID], ["purge", "-y"]):
        result = CliRunner().invoke(
            cli.threads, arguments, obj=ScriptInfo(create_app=lambda: Flask("bare"))
        )
        assert result.exit_code == 1
        assert result.stderr == (
            "Error: This app has no ThreadManager."
            " Call ThreadManager(app) where the app is created.\n"
        )


def test_an_app_whose_setting_is_wrong(place: Path) -> None:
    environment = {**os.environ, "AGENTUITY_THREAD_TTL": "soon"}
    result = run(place, "check", "--json", env=environment)
    assert result.returncode == 1
    assert result.stdout == b""
    assert result.stderr.decode().startswith("Error: AGENTUITY_THREAD_TTL='soon' is wrong.")


@pytest.mark.parametrize("arguments", [["show"], ["show", "--json"], ["delete", "-y"]])
def test_threads_that_are_not_there(threads: Runner, arguments: list[str]) -> None:
    name, *options = arguments
    result = threads(name, ID, *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: Thread {ID} does not exist.\n"
    result = threads(name, "thrd_\x1b[2J", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is not a thread id" in result.stderr
    assert "\x1b" not in result.stderr


def test_standard_output_that_is_full(place: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with Path("/dev/full").open("w") as full:
        for arguments in (["list"], ["check"]):
            result = run(place, *arguments, stdout=full)
            assert result.returncode == 1
            assert b"Traceback" not in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="there is no shell that closes streams")
@pytest.mark.parametrize(
    ("closed", "arguments"),
    [(">&-", ["list"]), (">&-", ["export", "-"]), (">&- 2>&-", ["check", "--json"])],
)
def test_a_stream_that_is_closed(place: Path, closed: str, arguments: list[str]) -> None:
    result = subprocess.run(
        ["/bin/sh", "-c", f"exec {shlex.join(command(*arguments))} {closed}"],
        cwd=place,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr
    assert b"Traceback" not in result.stderr


def test_errors_of_the_store_are_reported_without_a_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Down(MemoryStore):
        def restore_without_renewing(self, thread_id: str) -> bytes | None:
            raise StoreError("it is \x1b[2Jdown")

        def scan(self) -> Iterator[ListedThread]:
            raise StoreError("it is down")

        def list(self, *arguments: Any, **options: Any) -> Page:
            raise StoreError("it is down")

        def read(self, thread_id: str, keys: Any = None) -> Any:
            raise StoreError("it is down")

        def delete(self, thread_id: str) -> None:
            raise StoreError("it is down")

    runner = runner_of(Down())
    with caplog.at_level(logging.ERROR):
        for arguments in (
            ["list"],
            ["show", ID],
            ["delete", ID, "-y"],
            ["export", tmp_path / "file"],
            ["show", ID, "--json"],
        ):
            result = runner(*arguments)
            assert (result.exit_code, result.stdout) == (1, "")
            assert "Error: it is " in result.stderr
            assert "\x1b" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_list(tmp_path: Path) -> None:
    runner = runner_of(MinimalStore(tmp_path))
    for arguments in (["list"], ["list", "--json"], ["export", "-"]):
        result = runner(*arguments)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith("Error: MinimalStore cannot list threads")
    result = runner("purge", "-y")
    assert result.exit_code == 1
    assert "MinimalStore cannot remove expired threads" in result.stderr


def test_a_thread_service_that_cannot_be_reached() -> None:
    runner = runner_of("ws://127.0.0.1:1/thread/ws", AGENTUITY_SDK_KEY="key")
    result = runner("list")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: GET http://127.0.0.1:1/thread: there is no connection: Failed to establish a new"
        " connection"
    )
