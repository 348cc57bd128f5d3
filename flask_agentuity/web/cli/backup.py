"""``flask threads backup``."""

from __future__ import annotations

from pathlib import Path

import click

from .export_file import replaced_file, require_unused
from .group import Failure, app_store, examples, json_option, threads
from .output import count_threads, print_json, print_text
from .table import to_size


@threads.command(
    epilog=examples(
        "backup /backups/threads.db",
        'backup "/backups/$(date +%F).db" --json',
    )
)
@click.argument("file", type=click.Path(dir_okay=False))
@json_option
def backup(file: str, as_json: bool) -> None:
    """Copy all threads to FILE, an SQLite file, while the app runs.

    FILE has the threads as they are at one moment. It is verified, and replaced when the copy is
    complete. Only the user who runs the command can read it. To restore it, stop the app, delete
    the app's file and the two beside it that end in -wal and -shm, and put FILE in its place.
    """
    store = app_store()
    require_unused(store, Path(file))
    if Path(file).exists() and not Path(file).is_file():
        raise Failure(f"{file} is not a regular file.")
    with replaced_file(file) as temporary:
        count = store.backup(temporary)
        size = temporary.stat().st_size
    if as_json:
        print_json({"file": str(Path(file).resolve()), "threads": count, "bytes": size})
    else:
        print_text(
            f"Copied {count_threads(count)} to {file} ({to_size(size)}). The copy is verified."
        )
