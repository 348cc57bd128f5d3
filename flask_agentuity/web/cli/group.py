"""The command group, what its commands share, and how they fail."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import click
from flask.cli import AppGroup

from ...document import codec
from ...errors import (
    AgentuityError,
    ConfigurationError,
)
from ...stores import ThreadStore
from ...stores.listing import require_filter
from ..app_threads import AppThreads, threads_of
from ..flask_internals import current_app_object
from .output import escape

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """An error that ends the command with exit code 1."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(escape(message))


class _ThreadsGroup(AppGroup):
    """Reports an error of a command by its message, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        _replace_closed_streams()
        try:
            return super().invoke(ctx)
        except AgentuityError as error:
            raise Failure(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # The reader has closed the pipe: click exits quietly.
            # Python would flush the unwritten output again at exit, and change the exit code.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Failure(str(error)) from error


def _replace_closed_streams() -> None:
    """Discard what is printed to a stream that is closed, as with ``>&-`` in a shell."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Its number is free, and must not become that of the store's file.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - until the end


threads = _ThreadsGroup(
    "threads", help="Inspect, export, import and remove the threads of this app."
)


def examples(*lines: str) -> str:
    """Return the end of a command's help: commands that a user can copy."""
    # The control character keeps click from joining the lines.
    return "\n".join(["\b", "Examples:", *(f"  flask threads {line}" for line in lines)])


def json_option(command: _Command) -> _Command:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def yes_option(command: _Command) -> _Command:
    """Add ``--yes``."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")(command)


def where_option(command: _Command) -> _Command:
    """Add ``--where``, which :func:`parse_filter` reads."""
    return click.option(
        "--where",
        multiple=True,
        metavar="KEY=VALUE",
        help="Only threads whose metadata has this value. VALUE is JSON, or else a string."
        " Can be repeated.",
    )(command)


def owner_option(*, required: bool = False) -> Callable[[_Command], _Command]:
    """Return a decorator that adds ``--owner``."""
    return click.option(
        "--owner",
        metavar="ID",
        required=required,
        help="Only threads of this user: the id that the app's owner loader returns.",
    )


def app_threads() -> AppThreads:
    """Return the threads of the current app."""
    try:
        return threads_of(current_app_object())
    except ConfigurationError:
        raise Failure(
            "This app has no ThreadManager. Call ThreadManager(app) where the app is created."
        ) from None


def app_store() -> ThreadStore:
    """Return the store of the current app."""
    return app_threads().store


@contextmanager
def checked_owner() -> Iterator[None]:
    """Report a ValueError about ``--owner`` as a usage error."""
    try:
        yield
    except AgentuityError:
        raise  # Some of them are a ValueError too, for example that a package is missing.
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--owner") from error


def confirm(question: str, yes: bool) -> None:
    """Ask *question* unless *yes*; end the command if the answer is no."""
    if not yes:
        # On standard error, because standard output may be JSON for another program.
        click.confirm(question, abort=True, err=True)


def parse_filter(where: tuple[str, ...]) -> dict[str, Any]:
    """Return the metadata that the values of ``--where`` ask for."""
    wanted: dict[str, Any] = {}
    for condition in where:
        key, separator, value = condition.partition("=")
        if not separator:
            raise click.BadParameter(f"{condition!r} is not KEY=VALUE", param_hint="--where")
        try:
            wanted[key] = codec.decode(value)
        except ValueError:
            wanted[key] = value
    try:
        require_filter(wanted)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--where") from error
    return wanted
