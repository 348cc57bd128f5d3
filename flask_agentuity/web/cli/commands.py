"""``flask threads list``, ``show``, ``delete``, ``purge`` and ``serve``."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from ...document import codec
from ...errors import StoreError
from ...stores import ListedThread, ThreadStore
from ..thread_ids import require_thread_id
from .conversation import Conversation
from .group import (
    UNREACHABLE,
    Failure,
    app_store,
    app_threads,
    confirm,
    json_option,
    parse_filter,
    threads,
    where_option,
    yes_option,
)
from .output import counter, print_json, print_text, to_json, to_time

_LONGEST_METADATA = 200


@threads.command("list")
@where_option
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--cursor", help="Continue after the page that printed this cursor.")
@json_option
def list_threads(where: tuple[str, ...], limit: int, cursor: str | None, as_json: bool) -> None:
    """List threads, the most recently updated first."""
    wanted = parse_filter(where)
    try:
        page = app_store().list(wanted, limit=limit, cursor=cursor)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--cursor") from error
    if as_json:
        described = [_described(thread) for thread in page.threads]
        print_json({"threads": described, "cursor": page.cursor})
        return
    if not page.threads:
        print_text("No threads.")
    for thread in page.threads:
        line = f"{thread.id}  {to_time(thread.updated)}  {thread.size:>9,} bytes"
        if thread.metadata:
            metadata = to_json(thread.metadata)
            cut = metadata[: _LONGEST_METADATA - 3] + "..."
            line += f"  {metadata if len(metadata) <= _LONGEST_METADATA else cut}"
        print_text(line)
    if page.cursor:
        print_text(f"More threads: --cursor {page.cursor}")


@threads.command()
@click.argument("thread_id")
@click.option("--follow", is_flag=True, help="Keep running and print what is added, until Ctrl-C.")
@click.option("--interval", default=1.0, hidden=True, help="Seconds between two reads.")
@json_option
def show(thread_id: str, follow: bool, interval: float, as_json: bool) -> None:
    """Show one thread: its metadata, its conversation and the rest of its state."""
    if follow and as_json:
        raise click.UsageError("--follow and --json cannot be used together.")
    document = _find(thread_id)
    if document is None:
        raise _not_found(thread_id)
    if as_json:
        print_json({"id": thread_id, **document})
        return
    print_text(thread_id, bold=True)
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


@threads.command()
@click.argument("thread_id")
@yes_option
@json_option
def delete(thread_id: str, yes: bool, as_json: bool) -> None:
    """Delete one thread permanently."""
    store = app_store()
    if not _exists(store, require_thread_id(thread_id)):
        raise _not_found(thread_id)
    confirm(f"Delete thread {thread_id} permanently?", yes)
    store.delete(thread_id)
    if as_json:
        print_json({"deleted": thread_id})
    else:
        print_text(f"Deleted {thread_id}.")


@threads.command()
@yes_option
@json_option
def purge(yes: bool, as_json: bool) -> None:
    """Remove all expired threads."""
    store = app_store()
    confirm("Remove all expired threads?", yes)
    with counter("Threads removed:") as count:
        removed = store.purge(count)
    if as_json:
        print_json({"removed": removed})
    else:
        print_text(f"Removed {removed:,} expired threads.")


@threads.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8787, show_default=True, help="0 chooses a free port.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    help="Another client's key, of at least 16 characters. Can be repeated. Other users can see"
    " a command line.",
)
@click.option(
    "--key-file",
    "key_files",
    multiple=True,
    type=click.Path(),
    help="A file with one key per line. Can be repeated.",
)
def serve(host: str, port: int, keys: tuple[str, ...], key_files: tuple[str, ...]) -> None:
    r"""Serve this app's store as a thread service, until SIGTERM or Ctrl-C.

    Clients with the app's own key, AGENTUITY_SDK_KEY, share the app's threads. Each other key,
    of --key, --key-file or the environment variable AGENTUITY_SERVICE_KEYS (several are
    separated by spaces), has separate threads, which the app does not see.

    \b
    To make a key:
      python -c "import secrets; print(secrets.token_urlsafe())"
    """
    from ...service.command import run
    from ...service.keys import gather_keys
    from ...service.thread_service import ThreadService

    own = app_threads().settings.sdk_key
    others = gather_keys(keys, key_files, own)
    service = ThreadService(app_store(), others, own_key=own, host=host, port=port)
    sys.exit(run(service))


def _find(thread_id: str) -> dict[str, Any] | None:
    document = app_store().restore_without_renewing(require_thread_id(thread_id))
    snapshot = codec.split_document(document, thread_id)
    if snapshot is None:
        return None
    return {"metadata": codec.decode(snapshot.metadata), "state": snapshot.decoded}


def _exists(store: ThreadStore, thread_id: str) -> bool:
    try:
        return store.read(thread_id, ()) is not None
    except UNREACHABLE:
        raise
    except StoreError:
        # A damaged thread can be deleted. If the store is at fault, delete() will fail as well.
        return True


def _not_found(thread_id: str) -> Failure:
    return Failure(f"Thread {thread_id} does not exist.")


def _described(thread: ListedThread) -> dict[str, Any]:
    return {
        "id": thread.id,
        "metadata": thread.metadata,
        "created": to_time(thread.created),
        "updated": to_time(thread.updated),
        "size": thread.size,
    }
