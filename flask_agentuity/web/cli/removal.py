"""``flask threads delete``, ``erase`` and ``purge``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ...errors import StoreError
from ...stores import ThreadStore
from ...stores.pacing import leaving_pauses
from ..exporting import UNREACHABLE
from .group import (
    Failure,
    app_store,
    checked_owner,
    confirm,
    examples,
    json_option,
    owner_option,
    parse_filter,
    threads,
    where_option,
    yes_option,
)
from .identifiers import find_id
from .output import count_threads, counter, print_json, print_text

#: After so many threads, ``delete --where`` pauses, so that the app can write.
_STEP = 5


@threads.command(
    epilog=examples(
        "delete thrd_1f7c20",
        "delete --where title=Holidays",
        "delete --where archived=true --yes --json",
    )
)
@click.argument("thread_id", required=False)
@where_option
@yes_option
@json_option
def delete(thread_id: str | None, where: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete a thread, or all threads with some metadata, permanently.

    THREAD_ID is the id of a thread, or the beginning of one. A deleted thread cannot be restored.
    In an SQLite file, none of its text remains.
    """
    if (thread_id is None) == (not where):
        raise click.UsageError("Give either THREAD_ID or --where.")
    store = app_store()
    if thread_id is None:
        _delete_all(store, parse_filter(where), yes, as_json)
    else:
        _delete_one(store, find_id(store, thread_id), yes, as_json)


def _delete_one(store: ThreadStore, thread_id: str, yes: bool, as_json: bool) -> None:
    if not _exists(store, thread_id):
        raise Failure(f"Thread {thread_id} does not exist.")
    confirm(f"Delete thread {thread_id} permanently?", yes)
    store.delete(thread_id)
    store.wipe_deleted()
    if as_json:
        print_json({"deleted": thread_id})
    else:
        print_text(f"Deleted {thread_id}.")


def _delete_all(store: ThreadStore, wanted: Mapping[str, Any], yes: bool, as_json: bool) -> None:
    found = list(dict.fromkeys(thread.id for thread in store.find_all(wanted)))
    if found:
        confirm(f"Delete {count_threads(len(found))} permanently?", yes)
    with counter("Threads deleted:") as count:
        for first in range(0, len(found), _STEP):
            with leaving_pauses():
                for thread_id in found[first : first + _STEP]:
                    store.delete(thread_id)
                    count(1)
    store.wipe_deleted()
    if as_json:
        print_json({"deleted": found})
    else:
        print_text(f"Deleted {count_threads(len(found))}.")


@threads.command(
    epilog=examples(
        "purge --dry-run",
        "purge --yes",
    )
)
@click.option("--dry-run", is_flag=True, help="Only count the threads that would be removed.")
@yes_option
@json_option
def purge(dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove all expired threads, and return their space to the disk.

    The app removes expired threads in the background, some hundreds a second. This command is
    faster. It pauses repeatedly, so that the app can write in between.
    """
    store = app_store()
    if dry_run:
        expired = store.count_expired()
        if as_json:
            print_json({"expired": expired})
        else:
            print_text(f"{count_threads(expired)} {'has' if expired == 1 else 'have'} expired.")
        return
    confirm("Remove all expired threads?", yes)
    with counter("Threads removed:") as count:
        removed = store.purge(count)
    if as_json:
        print_json({"removed": removed})
    else:
        print_text(f"Removed {count_threads(removed, 'expired ')}.")


@threads.command(epilog=examples("erase --owner 42", "erase --owner ada --yes --json"))
@owner_option(required=True)
@yes_option
@json_option
def erase(owner: str, yes: bool, as_json: bool) -> None:
    """Delete all threads of a user permanently.

    Threads are deleted one after the other. After an error or an interruption, run the command
    again.
    """
    store = app_store()
    confirm(f"Delete all threads of {owner} permanently?", yes)
    with checked_owner(), counter("Threads deleted:") as count:
        erased = store.erase(owner, count)
    if as_json:
        print_json({"owner": owner, "erased": erased})
    else:
        print_text(f"Deleted {count_threads(erased)} of {owner}.")


def _exists(store: ThreadStore, thread_id: str) -> bool:
    try:
        return store.read(thread_id, ()) is not None
    except UNREACHABLE:
        raise
    except StoreError:
        # A damaged thread can be deleted. If the store is at fault, delete() will fail as well.
        return True
