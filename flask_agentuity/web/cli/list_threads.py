"""``flask threads list``."""

from __future__ import annotations

import time
from typing import Any

import click

from ...errors import InvalidCursor
from ...stores import ListedThread
from .group import (
    app_store,
    checked_owner,
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
@click.option("--cursor", help="Show the page after the one that printed this cursor.")
@json_option
def list_threads(
    where: tuple[str, ...], owner: str | None, limit: int, cursor: str | None, as_json: bool
) -> None:
    """List threads, the most recently updated first.

    AGE is the time since a thread was created, UPDATED the time since its last change, and
    EXPIRES when it expires unless something uses it before. A thread service does not tell when
    its threads expire.
    """
    wanted = parse_filter(where)
    with checked_owner():
        try:
            page = app_store().list(wanted, owner=owner, limit=limit, cursor=cursor)
        except InvalidCursor as error:
            raise click.BadParameter(str(error), param_hint="--cursor") from error
    if as_json:
        described = [_described(thread) for thread in page.threads]
        print_json({"threads": described, "cursor": page.cursor})
        return
    if page.threads:
        print_table(_table(page.threads))
    else:
        print_text("No threads.")
    if page.cursor:
        print_text(f"More threads: --cursor {page.cursor}")


def _table(listed: list[ListedThread]) -> list[tuple[str, ...]]:
    """Return the rows of a table, without the columns that would be empty or wrong."""
    # Imported only here, because it imports the service's client.
    from ...stores.remote import RemoteStore

    now = time.time()
    table = [_HEADER, *(_row(thread, now) for thread in listed)]
    left_out = set()
    if all(thread.owner is None for thread in listed):
        left_out.add("OWNER")
    if isinstance(app_store(), RemoteStore):
        # The service does not tell when its threads expire.
        left_out.add("EXPIRES")
    shown = [place for place, name in enumerate(_HEADER) if name not in left_out]
    return [tuple(row[place] for place in shown) for row in table]


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
