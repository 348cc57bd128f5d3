"""Printing to terminals, files and pipes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from ...document.unusual import write

# Characters that control a terminal or reorder its text, except line feed and tab.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Characters of several lines or columns.
_BREAK = re.compile("[\n\t]")
_ERASE_LINE = "\r\033[K"
# Steps between two updates of the counter.
_STEPS = 10


def escape(text: str) -> str:
    r"""Return *text* with control characters in JSON's notation, ``\u001b``."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def escape_line(text: str) -> str:
    r"""Return *text* as :func:`escape`, with line feeds and tabs as ``\n`` and ``\t``."""
    return _BREAK.sub(lambda found: repr(found[0])[1:-1], escape(text))


def to_json(value: Any) -> str:
    """Return *value* as JSON on one line."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return write(value).decode()


def to_time(seconds: float) -> str:
    """Return a time in seconds since 1970 in ISO 8601 format; ``unknown`` if it is damaged."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError, TypeError):
        return "unknown"


def count_threads(count: int, kind: str = "") -> str:
    """Return for example ``1 thread`` or ``1,200 expired threads``."""
    return f"{count:,} {kind}{'thread' if count == 1 else 'threads'}"


def print_text(text: str, *, bold: bool = False) -> None:
    """Print *text*, escaped for terminals and for the encoding of standard output."""
    encoding = sys.stdout.encoding
    shown = escape(text).encode(encoding, "backslashreplace").decode(encoding)
    click.secho(shown, bold=bold or None)


def print_json(value: Any, *, err: bool = False) -> None:
    """Print *value* as indented JSON, or on one line if it nests very deep."""
    encoding = sys.stdout.encoding
    ascii_only = not encoding.lower().startswith("utf")
    try:
        text = json.dumps(value, ensure_ascii=ascii_only, indent=2)
    except RecursionError:
        text = write(value).decode().encode(encoding, "backslashreplace").decode(encoding)
    click.echo(escape(text), err=err)


@contextmanager
def counter(label: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that adds to a number on the last line of a terminal.

    If standard error is not a terminal, nothing is printed.
    """
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    # A generator has no length: click then shows the position without a percentage.
    unknown: Iterator[None] = (None for _ in ())
    with click.progressbar(
        unknown,
        label=label,
        show_pos=True,
        bar_template="%(label)s %(info)s",
        file=sys.stderr,
        update_min_steps=_STEPS,
    ) as bar:
        yield bar.update


def print_above_counter(line: str) -> None:
    """Print *line* to standard error; the counter continues below it."""
    if sys.stderr.isatty():
        click.echo(_ERASE_LINE, nl=False, err=True)
    click.echo(escape(line), err=True)
