"""``flask threads export`` and ``flask threads import``."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any, BinaryIO

import click

from ...errors import StateNotSerializable, StoreError
from ...stores import ListedThread, ThreadStore
from ...stores.listing import matches
from .export_file import export_file
from .export_format import from_line, to_line
from .group import (
    UNREACHABLE,
    Failure,
    app_store,
    examples,
    json_option,
    owner_option,
    parse_filter,
    threads,
    where_option,
)
from .output import counter, print_above_counter, print_json, print_text

# Threads that are listed at a time.
_PAGE = 500


@threads.command(
    "export",
    epilog=examples(
        "export threads.jsonl",
        "export ada.jsonl --owner 42",
        "export - --where owner=ada | gzip > ada.jsonl.gz",
    ),
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@where_option
@owner_option()
@json_option
def export_threads(file: str, where: tuple[str, ...], owner: str | None, as_json: bool) -> None:
    """Write all threads to FILE, one JSON object per line. - is standard output.

    FILE can be read by its owner only, and is replaced when the export is complete. Every
    thread that exists during the whole export is included, as it is when its turn comes. A
    damaged thread is reported and skipped. An export does not postpone the time at which
    threads expire.
    """
    store, wanted = app_store(), parse_filter(where)
    exported = 0
    damaged: list[str] = []
    with export_file(file) as output, counter("Threads exported:") as count:
        for thread in _find_all(store, wanted, owner):
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
        click.echo(f"Exported {exported:,} threads.", err=file == "-")
    sys.exit(1 if damaged else 0)


def _find_all(
    store: ThreadStore, wanted: Mapping[str, Any], owner: str | None
) -> Iterator[ListedThread]:
    """Yield each thread with the *wanted* metadata and *owner* once."""
    seen: set[str] = set()
    found = store.scan() if owner is None else _list_owned(store, wanted, owner, seen)
    for thread in found:
        if thread.id not in seen and matches(thread.metadata, wanted):
            seen.add(thread.id)
            yield thread


def _list_owned(
    store: ThreadStore, wanted: Mapping[str, Any], owner: str, seen: Collection[str]
) -> Iterator[ListedThread]:
    """Yield the threads of *owner*, until all pages of a listing are among those *seen*.

    A thread that is updated between two pages moves to the front, and may be missed once.
    """
    is_complete = False
    while not is_complete:
        is_complete, cursor = True, None
        while True:
            page = store.list(wanted, owner=owner, limit=_PAGE, cursor=cursor)
            is_complete = is_complete and all(thread.id in seen for thread in page.threads)
            yield from page.threads
            cursor = page.cursor
            if cursor is None:
                break


@threads.command("import", epilog=examples("import threads.jsonl", "import - < threads.jsonl"))
@click.argument("file", type=click.File("rb"))
@json_option
def import_threads(file: BinaryIO, as_json: bool) -> None:
    """Read threads from FILE, as written by export. - is standard input.

    A thread is skipped if the stored one is as new or newer, so an import can be repeated.
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
            f"Imported {transfer.imported:,} threads, skipped {transfer.skipped:,} that exist."
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
        return f"{self.imported:,} threads were imported before. Run the command again to continue."
