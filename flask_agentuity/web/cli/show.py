"""``flask threads show``."""

from __future__ import annotations

import time
from typing import Any

import click

from ...document import codec
from .conversation import Conversation
from .group import Failure, app_store, examples, json_option, threads
from .identifiers import find_id
from .output import escape_line, print_json, print_text


@threads.command(
    epilog=examples(
        "show thrd_1f7c20",
        "show thrd_1f7c20 --follow",
        "show thrd_1f7c20 --json",
    )
)
@click.argument("thread_id")
@click.option("--follow", is_flag=True, help="Keep running and print what is added, until Ctrl-C.")
@click.option("--interval", default=1.0, hidden=True, help="Seconds between two reads.")
@json_option
def show(thread_id: str, follow: bool, interval: float, as_json: bool) -> None:
    """Show one thread: its owner, its metadata, its conversation and the rest of its state.

    THREAD_ID is the id of a thread, or the beginning of one.
    """
    if follow and as_json:
        raise click.UsageError("--follow and --json cannot be used together.")
    thread_id = find_id(app_store(), thread_id)
    document = _find(thread_id)
    if document is None:
        raise Failure(f"Thread {thread_id} does not exist.")
    owner = _find_owner(thread_id)
    if as_json:
        print_json({"id": thread_id, "owner": owner, **document})
        return
    print_text(thread_id, bold=True)
    if owner is not None:
        print_text(f"owner: {escape_line(owner)}")
    conversation = Conversation()
    conversation.update(document)
    try:
        while follow:
            time.sleep(interval)
            document = _find(thread_id)
            if document is None:
                click.echo("The thread was deleted or has expired.", err=True)
                return
            conversation.update(document)
    except KeyboardInterrupt:
        click.echo(err=True)


def _find(thread_id: str) -> dict[str, Any] | None:
    document = app_store().restore_without_renewing(thread_id)
    snapshot = codec.split_document(document, thread_id)
    if snapshot is None:
        return None
    state = {
        key: snapshot.decoded[key] if key in snapshot.decoded else codec.decode(value or b"null")
        for key, value in snapshot.encoded.items()
    }
    return {"metadata": codec.decode(snapshot.metadata), "state": state}


def _find_owner(thread_id: str) -> str | None:
    """Return the owner of a thread, unless it is in the metadata, which are shown anyway."""
    store = app_store()
    described = store.describe(thread_id) if store.owners else None
    return None if described is None else described.owner
