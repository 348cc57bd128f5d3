"""Files that are replaced only when their new content is complete."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ...stores import ThreadStore
from ...stores.sqlite.store import SQLiteStore
from .group import Failure

# What SQLite adds to the name of a file for the files that belong to it.
_ENDINGS = ("-wal", "-shm", "-journal")


def require_unused(store: ThreadStore, path: Path) -> None:
    """Refuse to replace the app's own SQLite file, or one that another app has open.

    :raises Failure: the message says why.
    """
    with _failing_as(str(path)):
        _require_unused(store.path if isinstance(store, SQLiteStore) else None, path)


def _require_unused(own: Path | None, path: Path) -> None:
    resolved = _resolve(path)
    for ending in _ENDINGS:
        main = Path(str(resolved).removesuffix(ending))
        if main != resolved and main.exists():
            what = "the file that the app uses" if _is_same(main, own) else str(main)
            raise Failure(f"{path} is a part of {what}. Name another file.")
    if _is_same(resolved, own):
        raise Failure(f"{path} is the file that the app uses. Name another file.")
    log = Path(f"{resolved}-wal")
    if log.exists():
        raise Failure(f"{path} is in use, or was not closed: there is {log}. Name another file.")


def _is_same(path: Path, own: Path | None) -> bool:
    return own is not None and path.exists() and own.exists() and path.samefile(own)


@contextmanager
def export_file(name: str, store: ThreadStore) -> Iterator[BinaryIO]:
    """Open the file *name* for writing; ``-`` is standard output.

    The files of *store* are not replaced, see :func:`require_unused`.

    An existing file is replaced as :func:`replaced_file` says. A device or a pipe is written to
    directly. ``click.File(atomic=True)`` does none of this: it replaces the file after an error
    too, and replaces devices.

    :raises Failure: if the file cannot be written.
    """
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    require_unused(store, Path(name))
    path = _resolve(Path(name))
    if path.exists() and not path.is_file():
        with _failing_as(name), path.open("wb") as device:
            yield device
    else:
        with replaced_file(name) as temporary, temporary.open("wb") as file:
            yield file


@contextmanager
def replaced_file(name: str) -> Iterator[Path]:
    """Yield the path of an empty file, which replaces the file *name* at the end of the block.

    After an error or SIGTERM, the file *name* is unchanged and no partial file is left. Only its
    owner can read the file.

    :raises Failure: if the file cannot be written.
    """
    with _failing_as(name):
        path = _resolve(Path(name))
        # The permissions of such a file are 0600.
        descriptor, temporary_name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        temporary = Path(temporary_name)
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            yield temporary
            _write_to_disk(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)


def _resolve(path: Path) -> Path:
    """Return *path* without symbolic links.

    :raises OSError: if they lead to one another.
    """
    try:
        return path.resolve()
    except RuntimeError:
        # Since Python 3.13, it is not raised.
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None


def _write_to_disk(path: Path) -> None:
    """Return when what was written to the file survives a power failure."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def _failing_as(name: str) -> Iterator[None]:
    """Report system errors with the file that the user named, not with the temporary one."""
    try:
        yield
    except OSError as error:
        raise Failure(f"{name} cannot be written: {error.strerror or error}") from error
