"""``flask threads show`` and ``serve``."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from ...document import codec
from .conversation import Conversation
from .group import Failure, app_store, app_threads, examples, json_option, threads
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


@threads.command(epilog=examples("serve --key-file keys.txt", "serve --host 0.0.0.0 --port 9000"))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8787, show_default=True, help="0 chooses a free port.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    help="A key of other clients, of at least 16 characters. Can be repeated. Other users of the"
    " machine can see it.",
)
@click.option(
    "--key-file",
    "key_files",
    multiple=True,
    type=click.Path(),
    help="A file with one key per line. Can be repeated.",
)
def serve(host: str, port: int, keys: tuple[str, ...], key_files: tuple[str, ...]) -> None:
    """Serve this app's store as a thread service, until SIGTERM or Ctrl-C.

    Clients that use the app's own key, AGENTUITY_SDK_KEY, share the app's threads. Each other
    key has separate threads, which the app does not see. Other keys come from --key, from
    --key-file, and from the environment variable AGENTUITY_SERVICE_KEYS, separated by spaces.

    \b
    To make a key:
      python -c "import secrets; print(secrets.token_urlsafe())"
    """  # noqa: D301 - for click, \b is a control character
    from ...service.command import run
    from ...service.keys import gather_keys
    from ...service.thread_service import ThreadService

    own = app_threads().settings.sdk_key
    others = gather_keys(keys, key_files, own)
    service = ThreadService(app_store(), others, own_key=own, host=host, port=port)
    sys.exit(run(service))


def _find(thread_id: str) -> dict[str, Any] | None:
    document = app_store().restore_without_renewing(thread_id)
    snapshot = codec.split_document(document, thread_id)
    if snapshot is None:
        return None
    return {"metadata": codec.decode(snapshot.metadata), "state": snapshot.decoded}


def _find_owner(thread_id: str) -> str | None:
    """Return the owner of a thread, unless it is in the metadata, which are shown anyway."""
    store = app_store()
    described = store.describe(thread_id) if store.owners else None
    return None if described is None else described.owner
