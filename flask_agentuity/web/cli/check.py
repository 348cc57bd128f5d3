"""``flask threads check``: which store an app uses, and whether it works."""

from __future__ import annotations

import sqlite3
import sys
import time
from typing import Any

from ...document.operations import Set
from ...document.shown_url import without_secrets
from ...errors import (
    AgentuityError,
    AuthenticationFailed,
    RequestTimeout,
    ServiceUnavailable,
    StoreError,
)
from ...stores import ThreadStore
from ...stores.sqlite.store import SQLiteStore
from ..thread_ids import make_thread_id
from .group import app_threads, examples, json_option, threads
from .output import print_json, print_text
from .table import to_size

_REMEDIES: dict[type[AgentuityError], str] = {
    AuthenticationFailed: "Check the key or the password: the server has rejected it.",
    ServiceUnavailable: "Check the address, and that the server is running, reachable and ready"
    " (a Redis server may be loading its data, or be a replica).",
    RequestTimeout: "The server accepts connections but does not answer. Check its log.",
}


@threads.command(epilog=examples("check", "check --json"))
@json_option
def check(as_json: bool) -> None:
    """Show which store is used, what configured it, and whether it works."""
    store, settings = app_threads().store, app_threads().settings
    report: dict[str, Any] = {
        "store": type(store).__name__,
        "url": without_secrets(settings.store),
        "source": settings.store_source,
        "ok": True,
    }
    probe = make_thread_id()
    created = isinstance(store, SQLiteStore) and not store.path.exists()
    if isinstance(store, SQLiteStore):
        report["file"] = str(store.path)
    try:
        _try_out(store, probe, report)
        report["warnings"] += [*app_threads().runs.warnings(), *settings.warnings]
        if created:
            report["warnings"].append("The file did not exist. It has just been created.")
    except AgentuityError as error:
        report["ok"] = False
        # The id means nothing to the user.
        words = str(error).replace(f"thread {probe}", "a thread")
        report["error"] = f"{type(error).__name__}: {words}"
        report["remedy"] = _remedy(error, store)
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    sys.exit(0 if report["ok"] else 1)


def _try_out(store: ThreadStore, probe: str, report: dict[str, Any]) -> None:
    """Read, write and delete the thread *probe*, and complete *report*."""
    store.read(probe)  # The first call also connects, so only the second is measured.
    began = time.perf_counter()
    store.read(probe)
    report["round_trip_ms"] = round((time.perf_counter() - began) * 1000, 2)
    store.merge(probe, [Set("probe", b"true")])
    if store.restore(probe) is None:
        raise StoreError("A thread that was just written could not be read back.")
    store.delete(probe)
    if isinstance(store, SQLiteStore):
        file = store.describe_file()
        report["journal_mode"] = file.journal_mode
        report["size"], report["unused"] = file.size, file.unused
    report["warnings"] = [*store.warnings()]


def _print_report(report: dict[str, Any]) -> None:
    print_text(f"Store:       {report['store']}, {report.get('file', report['url'])}")
    print_text(f"Set by:      {report['source']}")
    if "round_trip_ms" in report:
        print_text(f"Round trip:  {report['round_trip_ms']} ms")
    if "size" in report:
        unused = f" ({to_size(report['unused'])} unused)" if report["unused"] else ""
        print_text(f"Size:        {to_size(report['size'])}{unused}")
        print_text(f"Journal:     {report['journal_mode']}")
    if report["ok"]:
        print_text("Status:      reading and writing work")
        for warning in report["warnings"]:
            print_text(f"Warning:     {warning}")
    else:
        print_text(f"Error:       {report['error']}")
        print_text(f"What to do:  {report['remedy']}")


def _remedy(error: AgentuityError, store: ThreadStore) -> str:
    if remedy := _REMEDIES.get(type(error)):
        return remedy
    if isinstance(store, SQLiteStore):
        code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return (
                f"{store.path} is damaged, or is not an SQLite file. Restore a backup, or set"
                " AGENTUITY_THREAD_STORE to another file."
            )
        if store.path.is_dir():
            return f"{store.path} is a folder. Set AGENTUITY_THREAD_STORE to a file in it."
        return (
            f"Check that this user may write to {store.path} and to its folder, and that the"
            " disk is not full; or set AGENTUITY_THREAD_STORE to another file."
        )
    return "The problem is in the store, not in the app. The error message says what failed."
