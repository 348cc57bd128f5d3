"""``flask threads``: see, find, export and remove threads.

Exit codes: 0 done, 1 something is wrong or was not found, 2 the command was misspelled.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import click
from flask.cli import AppGroup

from ..document import codec
from ..document.operations import Set
from ..errors import (
    AgentuityError,
    AuthenticationFailed,
    ConfigurationError,
    RequestTimeout,
    ServiceUnavailable,
    StateNotSerializable,
    StoreError,
)
from ..stores import ListedThread, ThreadStore
from ..stores.base import complete
from ..stores.listing import matches, require_filter
from ..stores.sqlite.store import SQLiteStore
from .app_threads import AppThreads, threads_of
from .flask_internals import current_app_object
from .thread_ids import make_thread_id, require_thread_id

# Seconds; the first moment that datetime cannot hold: the year 10000.
_END_OF_TIME = 253_402_300_800
_MOST_METADATA = 200
# These say nothing of a thread, and the next one will meet them too.
_OUT_OF_REACH = (AuthenticationFailed, RequestTimeout, ServiceUnavailable)

# What a terminal would obey or reorder text by: all but the line feed and the tab.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Failure(click.ClickException):
    """An error that ends the command with exit code 1."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(_harmless(message))


class _Threads(AppGroup):
    """Ends a command that fails with the error's words instead of its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AgentuityError as error:
            raise _Failure(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # Who reads has had enough: click ends quietly.
            # What could not be written would be tried once more at the end, with another code.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise _Failure(str(error)) from error


threads = _Threads("threads", help="See, find, export and remove the threads of this app.")


def _json_option(command: _Command) -> _Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def _yes_option(command: _Command) -> _Command:
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(command)


def _where_option(command: _Command) -> _Command:
    return click.option(
        "--where",
        multiple=True,
        metavar="KEY=VALUE",
        help="Only threads with this metadata, VALUE as JSON or else as a text; repeatable.",
    )(command)


@threads.command()
@_json_option
def check(as_json: bool) -> None:
    """Say which store is used, why, and whether it works."""
    store, settings = _store(), _threads().settings
    report: dict[str, Any] = {
        "store": type(store).__name__,
        "url": _without_credentials(settings.store),
        "source": settings.store_source,
        "ok": True,
    }
    begun = isinstance(store, SQLiteStore) and not store.path.exists()
    if isinstance(store, SQLiteStore):
        report["file"] = str(store.path)
    probe = make_thread_id()
    try:
        store.read(probe)  # The first call also connects.
        began = time.perf_counter()
        store.read(probe)
        report["round_trip_ms"] = round((time.perf_counter() - began) * 1000, 2)
        store.merge(probe, [Set("probe", b"true")])
        if store.restore(probe) is None:
            raise StoreError("What was written a moment ago is not there any more.")
        store.delete(probe)
        report["warnings"] = [*store.warnings()]
        if begun:
            report["warnings"].append("The file was not there before: it was made just now.")
    except AgentuityError as error:
        report["ok"] = False
        report["error"] = f"{type(error).__name__}: {error}"
        report["remedy"] = _remedy(error, store)
    if as_json:
        _print_json(report)
    else:
        _print(f"Store:       {report['store']}, {report.get('file', report['url'])}")
        _print(f"Set by:      {report['source']}")
        if "round_trip_ms" in report:
            _print(f"Round trip:  {report['round_trip_ms']} ms")
        if report["ok"]:
            _print("It can be read and written.")
            for warning in report["warnings"]:
                _print(f"Beware:      {warning}")
        else:
            _print(f"Wrong:       {report['error']}")
            _print(f"What to do:  {report['remedy']}")
    sys.exit(0 if report["ok"] else 1)


@threads.command("list")
@_where_option
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--cursor", help="Go on where a page ended.")
@_json_option
def list_threads(where: tuple[str, ...], limit: int, cursor: str | None, as_json: bool) -> None:
    """List threads, the latest updated first."""
    wanted = _parse_filter(where)
    try:
        page = _store().list(wanted, limit=limit, cursor=cursor)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--cursor") from error
    if as_json:
        described = [_described(thread) for thread in page.threads]
        _print_json({"threads": described, "cursor": page.cursor})
        return
    if not page.threads:
        _print("No threads.")
    for thread in page.threads:
        line = f"{thread.id}  {_time(thread.updated)}  {thread.size:>9,} bytes"
        if thread.metadata:
            metadata = _to_json(thread.metadata)
            cut = metadata[: _MOST_METADATA - 3] + "..."
            line += f"  {metadata if len(metadata) <= _MOST_METADATA else cut}"
        _print(line)
    if page.cursor:
        _print(f"There are more: --cursor {page.cursor}")


@threads.command()
@click.argument("thread_id")
@click.option("--follow", is_flag=True, help="Stay, and show what is added. Ctrl-C ends it.")
@click.option("--interval", default=1.0, hidden=True, help="Seconds between two looks.")
@_json_option
def show(thread_id: str, follow: bool, interval: float, as_json: bool) -> None:
    """Show one thread: its metadata, its conversation, and the rest of its state."""
    if follow and as_json:
        raise click.UsageError("--follow and --json do not go together.")
    document = _find(thread_id)
    if document is None:
        raise _nothing_stored(thread_id)
    if as_json:
        _print_json({"id": thread_id, **document})
        return
    _print(thread_id, bold=True)
    shown = _Shown()
    shown.update(document)
    try:
        while follow:
            time.sleep(interval)
            document = _find(thread_id)
            if document is None:
                click.echo("The thread is not there any more.", err=True)
                return
            shown.update(document)
    except KeyboardInterrupt:
        click.echo(err=True)


@threads.command()
@click.argument("thread_id")
@_yes_option
@_json_option
def delete(thread_id: str, yes: bool, as_json: bool) -> None:
    """Delete one thread for good."""
    store = _store()
    if not _is_stored(store, require_thread_id(thread_id)):
        raise _nothing_stored(thread_id)
    _confirm(f"Delete thread {thread_id} for good?", yes)
    store.delete(thread_id)
    if as_json:
        _print_json({"deleted": thread_id})
    else:
        _print(f"Deleted {thread_id}.")


@threads.command()
@_yes_option
@_json_option
def purge(yes: bool, as_json: bool) -> None:
    """Remove every expired thread."""
    store = _store()
    _confirm("Remove every thread that has expired?", yes)
    with _Progress("Removed") as progress:
        removed = store.purge(progress.add)
    if as_json:
        _print_json({"removed": removed})
    else:
        _print(f"Removed {removed:,} expired threads.")


@threads.command("export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@_where_option
@_json_option
def export_threads(file: str, where: tuple[str, ...], as_json: bool) -> None:
    """Write all threads to FILE (- is standard output), one JSON object a line.

    FILE can be read by its owner only, and appears when it is complete. What is there from
    the beginning to the end is exported, each thread as it is when its turn comes. A thread
    that is damaged is named, and left out. An export is no use of threads: they expire when
    they would have.
    """
    store, wanted = _store(), _parse_filter(where)
    exported = 0
    damaged: list[str] = []
    with _output(file) as output, _Progress("Exported") as progress:
        for thread in _all(store, wanted):
            try:
                line = _to_line(thread, store.peek(thread.id))
            except _OUT_OF_REACH:
                raise
            except StoreError as error:
                damaged.append(thread.id)
                progress.say(f"Not exported: {error}")
                continue
            if line is not None:
                output.write(line)
                exported += 1
                progress.add(1)
    if as_json:
        _print_json({"exported": exported, "damaged": damaged}, err=file == "-")
    else:
        click.echo(f"Exported {exported:,} threads.", err=file == "-")
    sys.exit(1 if damaged else 0)


@threads.command("import")
@click.argument("file", type=click.File("rb"))
@_json_option
def import_threads(file: BinaryIO, as_json: bool) -> None:
    """Read threads from FILE (- is standard input), as export wrote it.

    Threads that are here already and as new are left alone, so it can be run again.
    """
    store = _store()
    imported = skipped = 0
    damaged: list[int] = []

    def so_far() -> str:
        return f"{imported:,} threads were imported until then; run it again to go on."

    with _Progress("Read", "lines") as progress:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                if store.adopt(*_from_line(line)):
                    imported += 1
                else:
                    skipped += 1
            except (ValueError, StateNotSerializable) as error:
                damaged.append(number)
                progress.say(f"Line {number} was left out: {error}")
            except StoreError as error:
                raise _Failure(f"The import ended at line {number}: {error}\n{so_far()}") from error
            except KeyboardInterrupt:
                progress.say(f"The import was interrupted at line {number}. {so_far()}")
                raise
            progress.add(1)
    if as_json:
        _print_json({"imported": imported, "skipped": skipped, "damaged_lines": damaged})
    else:
        _print(f"Imported {imported:,} threads, {skipped:,} were here already.")
    sys.exit(1 if damaged else 0)


@threads.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8787, show_default=True, help="0 takes a free one.")
@click.option("--key", "keys", multiple=True, help="A client's key; repeatable.")
@click.option("--key-file", "key_files", multiple=True, type=click.Path(), help="One key a line.")
def serve(host: str, port: int, keys: tuple[str, ...], key_files: tuple[str, ...]) -> None:
    """Serve this app's store to other apps as a thread service, until SIGTERM or Ctrl-C.

    Without a key it takes the app's own, AGENTUITY_SDK_KEY. Each key has threads of its own,
    beside those of the app.
    """
    from ..service.command import run
    from ..service.keys import read_keys
    from ..service.thread_service import ThreadService

    all_keys = [*keys, *(key for path in key_files for key in read_keys(path))]
    own = _threads().settings.sdk_key
    if not all_keys and own:
        all_keys.append(own)
    if not all_keys:
        raise _Failure("A thread service needs a key: --key KEY, --key-file FILE.")
    store = _store()
    sys.exit(run(ThreadService(store, all_keys, host=host, port=port), store))


def _threads() -> AppThreads:
    try:
        return threads_of(current_app_object())
    except ConfigurationError:
        raise _Failure(
            "This app has no ThreadManager. Call ThreadManager(app) where it is made."
        ) from None


def _store() -> ThreadStore:
    return _threads().store


def _confirm(question: str, yes: bool) -> None:
    if not yes:
        # Not on standard output, which may be JSON for another program.
        click.confirm(question, abort=True, err=True)


def _find(thread_id: str) -> dict[str, Any] | None:
    document = _store().peek(require_thread_id(thread_id))
    snapshot = codec.split_document(document, thread_id)
    if snapshot is None:
        return None
    return {"metadata": codec.decode(snapshot.metadata), "state": snapshot.decoded}


def _is_stored(store: ThreadStore, thread_id: str) -> bool:
    try:
        return store.read(thread_id, ()) is not None
    except _OUT_OF_REACH:
        raise
    except StoreError:
        # It is damaged, which is a reason to delete it, or else delete() will fail as well.
        return True


def _nothing_stored(thread_id: str) -> _Failure:
    return _Failure(f"Nothing is stored of thread {thread_id}.")


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
    try:
        require_filter(wanted)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--where") from error
    return wanted


def _all(store: ThreadStore, wanted: Mapping[str, Any]) -> Iterator[ListedThread]:
    """Yield every thread with some metadata that is there from now on to the end, once."""
    seen: set[str] = set()
    for thread in store.scan():
        if thread.id not in seen and matches(thread.metadata, wanted):
            seen.add(thread.id)
            yield thread


def _to_line(thread: ListedThread, document: bytes | None) -> bytes | None:
    """Return the line of a thread; None when it is gone, or has expired, in the meantime."""
    snapshot = codec.split_document(document, thread.id)
    if snapshot is None:
        return None
    head = codec.encode({"id": thread.id, "created": thread.created, "updated": thread.updated})
    # Joined as text: state and metadata may nest as deep as the encoder goes.
    body = codec.join_document(complete(snapshot, thread.id), snapshot.metadata)
    return b"%b,%b\n" % (head[:-1], body[1:])


def _from_line(line: bytes) -> tuple[ListedThread, bytes]:
    """Read a line of an export.

    :raises ValueError: when it is none.
    :raises StateNotSerializable: when a value nests too deep.
    """
    record = codec.decode(line)
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    thread_id = require_thread_id(record.get("id"))
    created, updated = (_seconds(record, name) for name in ("created", "updated"))
    state, metadata = record.get("state", {}), record.get("metadata", {})
    if not isinstance(state, dict) or not isinstance(metadata, dict):
        raise ValueError("state and metadata must be objects")
    if not state and not metadata:
        raise ValueError("it has neither state nor metadata")
    document = codec.join_document(
        {key: codec.encode(value, codec.child_path("state", key)) for key, value in state.items()}
    )
    return ListedThread(thread_id, metadata, created, updated, len(document)), document


def _seconds(record: dict[str, Any], name: str) -> float:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number of seconds since 1970")
    if not 0 <= value < _END_OF_TIME:
        raise ValueError(f"{name} is no time: {value}")
    return float(value)


class _Shown:
    """What of a thread was printed already; the rest is printed as it comes."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._lists: dict[str, list[Any]] = {}
        self._keys: list[str] = []
        self._heading: str | None = None

    def update(self, document: dict[str, Any]) -> None:
        """Print what is new in *document*."""
        if document["metadata"] or "metadata" in self._lines:
            self._print_line("metadata", f"metadata: {_to_json(document['metadata'])}")
        for key, value in document["state"].items():
            if isinstance(value, list) and (value or self._lists.get(key)):
                self._print_list(key, value)
            else:
                self._print_line(f"state {key}", f"{key}: {_to_json(value)}")
        for key in [key for key in self._keys if key not in document["state"]]:
            self._lists.pop(key, None)
            self._lines.pop(f"state {key}", None)
            self._heading = None
            _print(f"{key} is not there any more.")
        self._keys = [*document["state"]]

    def _print_line(self, name: str, line: str) -> None:
        if self._lines.get(name) != line:
            self._lines[name] = line
            self._heading = None
            _print(line)

    def _print_list(self, key: str, value: list[Any]) -> None:
        added = _added(self._lists.get(key, []), value)
        self._lists[key] = value
        if added and self._heading != key:
            self._heading = key
            _print(f"\n{key}", bold=True)
        for item in added:
            # Lines that follow are indented further: no content looks like another message.
            _print("  " + _describe_item(item).replace("\n", "\n    "))


def _added(before: list[Any], now: list[Any]) -> list[Any]:
    """Return the items of *now* that were not in *before*, whose first may be gone since."""
    for gone in range(len(before)):
        kept = len(before) - gone
        if now[:kept] == before[gone:]:
            return now[kept:]
    return now


def _describe_item(item: Any) -> str:
    if isinstance(item, dict) and isinstance(item.get("content"), str) and "role" in item:
        rest = {key: value for key, value in item.items() if key not in ("role", "content")}
        more = f"\n{_to_json(rest)}" if rest else ""
        return f"{item['role']}: {item['content']}{more}"
    return _to_json(item)


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


def _remedy(error: AgentuityError, store: ThreadStore) -> str:
    remedies: dict[type[AgentuityError], str] = {
        AuthenticationFailed: "Check the key or the password: it is refused.",
        ServiceUnavailable: "Check the address, and that the server runs, can be reached, and is"
        " ready (a Redis may be loading its data, or be a replica).",
        RequestTimeout: "The server is reached and does not answer: look at its log.",
    }
    if remedy := remedies.get(type(error)):
        return remedy
    if isinstance(store, SQLiteStore):
        return (
            f"See that this user may write to {store.path} and to its folder, and that the disk"
            " has room; or name another file in AGENTUITY_THREAD_STORE."
        )
    return "See what the error says; the store is at fault, not the app."


def _without_credentials(url: str) -> str:
    if not url.startswith("sqlite:"):
        # Up to the last @: a password may hold any character, quoted or not.
        url = re.sub(r"//.*@", "//", url, flags=re.DOTALL)
    return url.partition("?")[0]


def _harmless(text: str) -> str:
    """Return *text* with what a terminal would obey written as JSON writes it."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _print(text: str, *, bold: bool = False) -> None:
    encoding = sys.stdout.encoding
    shown = _harmless(text).encode(encoding, "backslashreplace").decode(encoding)
    click.secho(shown, bold=bold or None)


def _print_json(value: Any, *, err: bool = False) -> None:
    plain = not sys.stdout.encoding.lower().startswith("utf")
    click.echo(_harmless(json.dumps(value, ensure_ascii=plain, indent=2)), err=err)


@contextmanager
def _output(file: str) -> Iterator[BinaryIO]:
    """Open FILE for writing; one that is there already stays as it is until all is written."""
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file).resolve()
    try:
        if path.exists() and not path.is_file():
            # A device or a pipe takes what comes.
            with path.open("wb") as device:
                yield device
            return
        written = tempfile.NamedTemporaryFile(  # noqa: SIM115 - it takes FILE's place, or goes
            dir=path.parent, prefix=f".{path.name}.", delete=False
        )
        # Ended by this signal, an export leaves no conversations behind either.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            with written:
                yield cast(BinaryIO, written)
            os.replace(written.name, path)  # noqa: PTH105 - a name, not a Path
        except BaseException:
            Path(written.name).unlink()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
    except OSError as error:
        raise _Failure(f"{file} could not be written: {error}") from error


class _Progress:
    """A count on a terminal's last line, and nothing anywhere else."""

    _INTERVAL = 0.1

    def __init__(self, verb: str, noun: str = "threads") -> None:
        self._verb = verb
        self._noun = noun
        self._count = 0
        self._visible = sys.stderr.isatty()
        self._next = 0.0

    def __enter__(self) -> _Progress:
        return self

    def add(self, count: int) -> None:
        self._count += count
        if self._visible and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._INTERVAL
            self._print()

    def say(self, line: str) -> None:
        """Print a line above the count."""
        if self._visible:
            click.echo("\r\033[K", nl=False, err=True)
        click.echo(_harmless(line), err=True)

    def _print(self) -> None:
        click.echo(f"\r\033[K{self._verb} {self._count:,} {self._noun}", nl=False, err=True)

    def __exit__(self, *exception: object) -> None:
        if self._visible and self._count:
            self._print()
            click.echo(err=True)
