"""``flask threads export`` and ``flask threads import``."""

from __future__ import annotations

import sys
from typing import BinaryIO

import click

from ...errors import StateNotSerializable, StoreError
from ...stores import ThreadStore
from ..export_format import from_line, to_line
from ..exporting import UNREACHABLE, each_once
from .export_file import export_file
from .group import (
    Failure,
    app_store,
    checked_owner,
    examples,
    json_option,
    owner_option,
    parse_filter,
    threads,
    where_option,
)
from .output import count_threads, counter, print_above_counter, print_json, print_text


@threads.command(
    "export",
    epilog=examples(
        "export threads.jsonl",
        "export ada.jsonl --owner 42",
        "export - --owner ada | gzip > ada.jsonl.gz",
    ),
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@where_option
@owner_option()
@json_option
def export_threads(file: str, where: tuple[str, ...], owner: str | None, as_json: bool) -> None:
    """Write all threads to FILE, one JSON object per line. FILE - is standard output.

    Only the user who runs the command can read FILE, which is replaced when the export is
    complete. The app may run meanwhile: the export has every thread that exists from its
    beginning to its end, each as it was when it was read. A damaged thread is reported and
    skipped. An export does not count as use, so threads expire as if it had not been made.
    """
    store = app_store()
    with checked_owner():
        found = store.find_all(parse_filter(where), owner=owner)
    exported = 0
    damaged: list[str] = []
    with export_file(file, store) as output, counter("Threads exported:") as count:
        for thread in each_once(found):
            try:
                line = to_line(thread, store.restore_without_renewing(thread.id))
            except UNREACHABLE:
                raise
            except StoreError as error:
                damaged.append(thread.id)
                print_above_counter(f"Not exported: {error}")
                continue
            if line is not None:
                output.write(line)
                exported += 1
                count(1)
    if as_json:
        print_json({"exported": exported, "damaged": damaged}, err=file == "-")
    else:
        click.echo(f"Exported {count_threads(exported)}.", err=file == "-")
    sys.exit(1 if damaged else 0)


@threads.command("import", epilog=examples("import threads.jsonl", "import - < threads.jsonl"))
@click.argument("file", type=click.File("rb"))
@json_option
def import_threads(file: BinaryIO, as_json: bool) -> None:
    """Read threads from FILE, as written by export. FILE - is standard input.

    A thread is skipped if the store has it already, as new or newer, so an import can be
    repeated.
    """
    transfer = _Import(app_store())
    with counter("Lines read:") as count:
        for number, line in enumerate(file, 1):
            if line.strip():
                transfer.take(number, line)
                count(1)
    if as_json:
        print_json(
            {
                "imported": transfer.imported,
                "skipped": transfer.skipped,
                "damaged_lines": transfer.damaged,
            }
        )
    else:
        print_text(
            f"Imported {count_threads(transfer.imported)}; skipped {transfer.skipped:,} that were"
            " there already."
        )
    sys.exit(1 if transfer.damaged else 0)


class _Import:
    """Imports lines into a store, and counts what became of them."""

    def __init__(self, store: ThreadStore) -> None:
        self._store = store
        self.imported = 0
        self.skipped = 0
        #: The numbers of the lines that could not be imported.
        self.damaged: list[int] = []

    def take(self, number: int, line: bytes) -> None:
        """Import one line."""
        try:
            if self._store.import_thread(*from_line(line)):
                self.imported += 1
            else:
                self.skipped += 1
        except (ValueError, StateNotSerializable) as error:
            self.damaged.append(number)
            print_above_counter(f"Line {number} was skipped: {error}")
        except StoreError as error:
            raise Failure(
                f"The import stopped at line {number}: {error}\n{self._progress()}"
            ) from error
        except KeyboardInterrupt:
            print_above_counter(f"The import was interrupted at line {number}. {self._progress()}")
            raise

    def _progress(self) -> str:
        done = count_threads(self.imported)
        return f"Imported {done} before that line. Run the command again to continue."
