"""The page about commands, docs/reference/commands.rst, and the real output that it shows.

Its console blocks run one after the other on one app. After a command has changed, write the page
again in the folder ``tests``::

    python -m web.cli.page
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest.mock import patch

from freezegun import freeze_time

from flask_agentuity.document.operations import Operation, Push, Set
from flask_agentuity.stores.sqlite.background_removal import BackgroundRemoval
from flask_agentuity.stores.sqlite.store import SQLiteStore
from flask_agentuity.stores.writing import Write

from .running import Runner, runner_of

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "commands.rst"

_FOLDER = "/srv/app/instance"
_INDENT = "    "
_COMMAND = re.compile(r"\$ flask threads (.*)")
_BLOCK = re.compile(r"(\.\. code-block:: console\n\n)((?:    .*\n|\n(?=    ))+)")
_WIDTH = 94
#: What differs from one run to another.
_VARIES = (
    (re.compile(r"Round trip:  [\d.]+ ms"), "Round trip:  0.1 ms"),
    (re.compile(r"Size:        .*"), "Size:        94.2 KB"),
    (re.compile(r"\(\d[\d.]* KB\)\. The copy"), "(94.2 KB). The copy"),
)

ADA = "thrd_1f7c20d94e4b4f0c8d2a6b1e7f3c5a90"
BOB = "thrd_8a05b3e6c1d24a7f9e0b2c4d6f8a1b3c"
DAN = "thrd_c3d9e1f5a7b24c6d8e0f1a2b3c4d5e6f"


def run_page(page: str) -> str:
    """Return the text of a page with the output that its commands have."""
    with _prepared() as runner:

        def run_block(block: re.Match[str]) -> str:
            commands = [line for line in block[2].splitlines() if line.startswith("    $ ")]
            outputs = [_run(runner, command.strip()) for command in commands]
            return block[1] + "\n\n".join(outputs) + "\n"

        return _BLOCK.sub(run_block, page)


def _run(runner: Runner, command: str) -> str:
    """Return a command and its output, as they are in a block."""
    found = _COMMAND.fullmatch(command)
    assert found, f"This is no command of flask threads: {command}"
    result = runner(*found[1].split(), prog_name="flask threads", terminal_width=_WIDTH)
    output = result.output
    for pattern, shown in _VARIES:
        output = pattern.sub(shown, output)
    lines = [command, *output.rstrip().splitlines()]
    return "\n".join(f"{_INDENT}{line}".rstrip() for line in lines)


@contextmanager
def _prepared() -> Iterator[Runner]:
    """Yield a runner for an app with three threads, and some that have expired."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, freeze_time("2026-03-01 12:00:00") as clock:
        os.chdir(folder)
        try:
            with (
                # It would remove the expired threads at a time that varies.
                patch.object(BackgroundRemoval, "look", return_value=True),
                closing(SQLiteStore(Path(folder) / "agentuity_threads.db")) as store,
            ):
                _fill(store, clock)
                runner = runner_of(None, Path(folder))

                def run(*arguments: str | Path, **options: object) -> object:
                    result = runner(*arguments, **options)
                    result.stdout_bytes = _shown(result.stdout_bytes, folder)
                    result.output_bytes = _shown(result.output_bytes, folder)
                    return result

                yield run  # type: ignore[misc]
        finally:
            os.chdir(before)


def _shown(output: bytes, folder: str) -> bytes:
    return output.replace(folder.encode(), _FOLDER.encode())


def _fill(store: SQLiteStore, clock: object) -> None:
    for number in range(2):
        store.write(f"thrd_{number:032x}", Write([Set("title", b'"Taxes"')], owner="41"))
    clock.tick(9 * 86_400)  # type: ignore[attr-defined]
    store.write(DAN, Write([Set("topic", b'"Music"')], owner="41"))
    store.write(BOB, Write([Push("messages", b'{"role":"user","content":"Hello"}')], owner="41"))
    clock.tick(3_600)  # type: ignore[attr-defined]
    question = b'{"role":"user","content":"Where shall we go?"}'
    answer = b'{"role":"assistant","content":"To the sea."}'
    operations: list[Operation] = [
        Set("topic", b'"Holidays"'),
        Push("messages", question),
        Push("messages", answer),
    ]
    store.write(ADA, Write(operations, owner="42"))
    store.merge(ADA, [], {"title": "Holidays", "archived": False})
    clock.tick(300)  # type: ignore[attr-defined]


if __name__ == "__main__":
    PAGE.write_text(run_page(PAGE.read_text("utf-8")), "utf-8")
