"""``flask threads``: see, find, export and remove threads.

Exit codes: 0 done, 1 something is wrong or was not found, 2 the command was misspelled.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any, TypeVar, cast

import click
from flask import current_app
from flask.cli import AppGroup

from . import codec
from .errors import AgentuityError, AuthenticationFailed, RequestTimeout, ServiceUnavailable
from .identity import make_thread_id, require_thread_id
from .manager import ThreadManager
from .operations import Set
from .stores import ListedThread, ThreadStore

_PAGE = 200

_Command = TypeVar("_Command", bound=Callable[..., Any])

threads = AppGroup("threads", help="See, find, export and remove the threads of this app.")


def _json_option(command: _Command) -> _Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def _yes_option(command: _Command) -> _Command:
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(command)


class _Failure(click.ClickException):
    """An error that ends the command with exit code 1."""

    exit_code = 1


@threads.command()
@_json_option
def check(as_json: bool) -> None:
    """Say which store is used, why, and whether it works."""
    store, settings = _store(), _manager().settings()
    report: dict[str, Any] = {
        "store": type(store).__name__,
        "url": _without_credentials(settings.store),
        "source": settings.store_source,
        "ok": True,
    }
    probe = make_thread_id()
    try:
        began = time.perf_counter()
        store.read(probe)
        report["round_trip_ms"] = round((time.perf_counter() - began) * 1000, 2)
        store.merge(probe, [Set("probe", b"true")])
        store.delete(probe)
    except AgentuityError as error:
        report["ok"] = False
        report["error"] = f"{type(error).__name__}: {error}"
        report["remedy"] = _remedy(error)
    if as_json:
        _print_json(report)
    else:
        click.echo(f"Store:       {report['store']}, {report['url']}")
        click.echo(f"Set by:      {report['source']}")
        if "round_trip_ms" in report:
            click.echo(f"Round trip:  {report['round_trip_ms']} ms")
        if report["ok"]:
            click.echo("It can be read and written.")
        else:
            click.echo(f"Wrong:       {report['error']}")
            click.echo(f"What to do:  {report['remedy']}")
    sys.exit(0 if report["ok"] else 1)


@threads.command("list")
@click.option("--where", multiple=True, metavar="KEY=VALUE", help="Only this metadata; repeatable.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--cursor", help="Go on where a page ended.")
@_json_option
def list_threads(where: tuple[str, ...], limit: int, cursor: str | None, as_json: bool) -> None:
    """List threads, the latest updated first."""
    with _failures():
        page = _store().list(_parse_filter(where), limit=limit, cursor=cursor)
    if as_json:
        described = [_described(thread) for thread in page.threads]
        _print_json({"threads": described, "cursor": page.cursor})
        return
    if not page.threads:
        click.echo("No threads.")
    for thread in page.threads:
        line = f"{thread.id}  {_time(thread.updated)}  {thread.size:>9,} bytes"
        if thread.metadata:
            line += f"  {json.dumps(thread.metadata, ensure_ascii=False)}"
        click.echo(line)
    if page.cursor:
        click.echo(f"There are more: --cursor {page.cursor}")


@threads.command()
@click.argument("thread_id")
@click.option("--follow", is_flag=True, help="Stay, and show what is added.")
@click.option("--interval", default=1.0, hidden=True, help="Seconds between two looks.")
@_json_option
def show(thread_id: str, follow: bool, interval: float, as_json: bool) -> None:
    """Show one thread: its metadata, its conversation, and the rest of its state."""
    document = _restore(thread_id)
    if as_json:
        _print_json({"id": thread_id, **document})
        return
    click.secho(thread_id, bold=True)
    if document["metadata"]:
        click.echo(f"metadata: {json.dumps(document['metadata'], ensure_ascii=False)}")
    shown: dict[str, int] = {}
    _show_state(document["state"], shown)
    while follow:
        time.sleep(interval)
        _show_state(_restore(thread_id)["state"], shown, only_lists=True)


@threads.command()
@click.argument("thread_id")
@_yes_option
def delete(thread_id: str, yes: bool) -> None:
    """Delete one thread for good."""
    _restore(thread_id)
    _confirm(f"Delete thread {thread_id} for good?", yes)
    with _failures():
        _store().delete(thread_id)
    click.echo(f"Deleted {thread_id}.")


@threads.command()
@_yes_option
@_json_option
def purge(yes: bool, as_json: bool) -> None:
    """Remove every expired thread."""
    _confirm("Remove every thread that has expired?", yes)
    with _failures(), _Progress("Removed") as progress:
        removed = _store().purge(progress.add)
    if as_json:
        _print_json({"removed": removed})
    else:
        click.echo(f"Removed {removed:,} expired threads.")


@threads.command("export")
@click.argument("file", type=click.File("w", encoding="utf-8", atomic=True))
@click.option("--where", multiple=True, metavar="KEY=VALUE", help="Only this metadata; repeatable.")
@_json_option
def export_threads(file: IO[str], where: tuple[str, ...], as_json: bool) -> None:
    """Write all threads to FILE (- is standard output), one JSON object a line."""
    store = _store()
    exported = 0
    damaged: list[str] = []
    with _failures(), _Progress("Exported") as progress:
        for thread in _all(store, _parse_filter(where)):
            try:
                document = store.restore(thread.id)
            except AgentuityError as error:
                damaged.append(f"{thread.id}: {error}")
                continue
            if document is None:
                continue  # it was deleted, or has expired, in the meantime
            file.write(_to_line(thread, document) + "\n")
            exported += 1
            progress.add(1)
    for line in damaged:
        click.echo(f"Not exported: {line}", err=True)
    if as_json:
        click.echo(json.dumps({"exported": exported, "damaged": len(damaged)}), err=True)
    else:
        click.echo(f"Exported {exported:,} threads.", err=True)
    sys.exit(1 if damaged else 0)


@threads.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8", errors="surrogateescape"))
@_json_option
def import_threads(file: IO[str], as_json: bool) -> None:
    """Read threads from FILE, as export wrote it.

    Threads that are here already and as new are left alone, so it can be run again.
    """
    store = _store()
    imported = skipped = 0
    damaged: list[int] = []
    with _failures(), _Progress("Imported") as progress:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                thread, document = _from_line(line)
            except (ValueError, KeyError, TypeError, AgentuityError) as error:
                damaged.append(number)
                click.echo(f"Line {number} is damaged and was left out: {error}", err=True)
                continue
            if store.adopt(thread, document):
                imported += 1
            else:
                skipped += 1
            progress.add(1)
    if as_json:
        _print_json({"imported": imported, "skipped": skipped, "damaged_lines": damaged})
    else:
        click.echo(f"Imported {imported:,} threads, {skipped:,} were here already.")
    sys.exit(1 if damaged else 0)


def _manager() -> ThreadManager:
    manager = current_app.extensions.get("agentuity")
    if manager is None:
        raise _Failure("This app has no ThreadManager. Call ThreadManager(app) where it is made.")
    return cast(ThreadManager, manager)


def _store() -> ThreadStore:
    return _manager().store()


@contextmanager
def _failures() -> Iterator[None]:
    """Turn the errors of a store, and of what was asked of it, into an exit code."""
    try:
        yield
    except (AgentuityError, ValueError, OSError) as error:
        raise _Failure(str(error)) from error


def _confirm(question: str, yes: bool) -> None:
    if not yes:
        click.confirm(question, abort=True)


def _restore(thread_id: str) -> dict[str, Any]:
    with _failures():
        document = _store().restore(require_thread_id(thread_id))
        snapshot = codec.split_document(document, thread_id)
    if snapshot is None:
        raise _Failure(f"Nothing is stored of thread {thread_id}.")
    return {"metadata": codec.decode(snapshot.metadata), "state": snapshot.decoded}


def _parse_filter(where: tuple[str, ...]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for condition in where:
        key, separator, value = condition.partition("=")
        if not separator:
            raise click.BadParameter(f"{condition!r} is not KEY=VALUE", param_hint="--where")
        try:
            wanted[key] = codec.decode(value)
        except ValueError:
            wanted[key] = value  # a text needs quotes only where it looks like a number
    return wanted


def _all(store: ThreadStore, wanted: dict[str, Any]) -> Iterator[ListedThread]:
    """Yield all threads; one that is changed meanwhile comes again, as it is then."""
    seen: dict[str, float] = {}
    since, more = 0.0, True
    while more:
        began, more, cursor = time.time(), False, None
        while True:
            page = store.list(wanted, limit=_PAGE, cursor=cursor)
            for thread in page.threads:
                # Whatever is updated moves to the front, which an earlier pass has left behind.
                if thread.updated >= since and seen.get(thread.id) != thread.updated:
                    seen[thread.id] = thread.updated
                    more = True
                    yield thread
            cursor = page.cursor
            if cursor is None or page.threads[-1].updated < since:
                break
        since = began


def _to_line(thread: ListedThread, document: bytes) -> str:
    snapshot = codec.split_document(document, thread.id)
    record = {
        "id": thread.id,
        "created": thread.created,
        "updated": thread.updated,
        "metadata": thread.metadata,
        "state": snapshot.decoded if snapshot else {},
    }
    return codec.encode_unchecked(record).decode()


def _from_line(line: str) -> tuple[ListedThread, bytes]:
    record = codec.decode(line)
    state, metadata = record["state"], record["metadata"]
    if not isinstance(state, dict) or not isinstance(metadata, dict):
        raise ValueError("state and metadata must be objects")
    document = codec.join_document({key: codec.encode(value) for key, value in state.items()})
    created, updated = float(record["created"]), float(record["updated"])
    return (
        ListedThread(require_thread_id(record["id"]), metadata, created, updated, len(document)),
        document,
    )


def _show_state(state: dict[str, Any], shown: dict[str, int], *, only_lists: bool = False) -> None:
    """Print what was not shown yet: of a list its new items, of the rest its value at first."""
    for key, value in state.items():
        if isinstance(value, list):
            first = min(shown.get(key, 0), len(value))
            if first == 0 and value:
                click.secho(f"\n{key}", bold=True)
            for item in value[first:]:
                click.echo("  " + _describe_item(item))
            shown[key] = len(value)
        elif not only_lists:
            click.echo(f"{key}: {json.dumps(value, ensure_ascii=False)}")


def _describe_item(item: Any) -> str:
    if isinstance(item, dict) and isinstance(item.get("content"), str) and "role" in item:
        return f"{item['role']}: {item['content']}"
    return json.dumps(item, ensure_ascii=False)


def _described(thread: ListedThread) -> dict[str, Any]:
    return {
        "id": thread.id,
        "metadata": thread.metadata,
        "created": _time(thread.created),
        "updated": _time(thread.updated),
        "size": thread.size,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _remedy(error: AgentuityError) -> str:
    remedies: dict[type[AgentuityError], str] = {
        AuthenticationFailed: "Check AGENTUITY_SDK_KEY: the service refuses it.",
        ServiceUnavailable: "Check the address, and that the service runs and can be reached.",
        RequestTimeout: "The service is reached and does not answer: look at its log.",
    }
    return remedies.get(
        type(error), "See what the error says; the store's file or server is at fault, not the app."
    )


def _without_credentials(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url).partition("?")[0]


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


class _Progress:
    """A count on a terminal's last line, and nothing anywhere else."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._count = 0
        self._visible = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def add(self, count: int) -> None:
        self._count += count
        if self._visible:
            click.echo(f"\r{self._verb} {self._count:,} threads", nl=False, err=True)

    def __exit__(self, *exception: object) -> None:
        if self._visible and self._count:
            click.echo(err=True)
