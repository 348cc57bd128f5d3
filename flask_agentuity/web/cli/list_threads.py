"""``flask threads list``."""

from __future__ import annotations

import time
from typing import Any

import click

from ...stores import ListedThread
from .group import (
    app_store,
    examples,
    json_option,
    owner_option,
    parse_filter,
    threads,
    where_option,
)
from .output import print_json, print_text, to_json, to_time
from .table import print_table, to_duration, to_size

_LONGEST_METADATA = 200
_HEADER = ("ID", "OWNER", "AGE", "UPDATED", "EXPIRES", "SIZE", "METADATA")
_OWNER = 1


@threads.command(
    "list",
    epilog=examples(
        "list",
        "list --where topic=billing --where archived=false",
        "list --owner 42",
        "list --limit 100 --json",
    ),
)
@where_option
@owner_option()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--cursor", help="Continue after the page that printed this cursor.")
@json_option
def list_threads(
    where: tuple[str, ...], owner: str | None, limit: int, cursor: str | None, as_json: bool
) -> None:
    """List threads, the most recently updated first.

    AGE is the time since a thread was created, UPDATED the time since its last change, and
    EXPIRES the time after which it expires if nothing uses it.
    """
    wanted = parse_filter(where)
    try:
        page = app_store().list(wanted, owner=owner, limit=limit, cursor=cursor)
    except ValueError as error:
        raise click.BadParameter(
            str(error), param_hint="--owner" if "owner" in str(error) else "--cursor"
        ) from error
    if as_json:
        described = [_described(thread) for thread in page.threads]
        print_json({"threads": described, "cursor": page.cursor})
        return
    if page.threads:
        now = time.time()
        table = [_HEADER, *(_row(thread, now) for thread in page.threads)]
        if all(thread.owner is None for thread in page.threads):
            table = [(*row[:_OWNER], *row[_OWNER + 1 :]) for row in table]
        print_table(table)
    else:
        print_text("No threads.")
    if page.cursor:
        print_text(f"More threads: --cursor {page.cursor}")


def _row(thread: ListedThread, now: float) -> tuple[str, ...]:
    metadata = to_json(thread.metadata) if thread.metadata else ""
    if len(metadata) > _LONGEST_METADATA:
        metadata = metadata[: _LONGEST_METADATA - 3] + "..."
    return (
        thread.id,
        "" if thread.owner is None else thread.owner,
        to_duration(now - thread.created),
        f"{to_duration(now - thread.updated)} ago",
        _expiry(thread, now),
        to_size(thread.size),
        metadata,
    )


def _expiry(thread: ListedThread, now: float) -> str:
    return "never" if thread.expires is None else f"in {to_duration(thread.expires - now)}"


def _described(thread: ListedThread) -> dict[str, Any]:
    return {
        "id": thread.id,
        "owner": thread.owner,
        "metadata": thread.metadata,
        "created": to_time(thread.created),
        "updated": to_time(thread.updated),
        "expires": None if thread.expires is None else to_time(thread.expires),
        "size": thread.size,
    }
