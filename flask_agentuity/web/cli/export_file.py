"""The file that an export is written to."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from .group import Failure


@contextmanager
def export_file(name: str) -> Iterator[BinaryIO]:
    """Open the file *name* for writing; ``-`` is standard output.

    An existing file is replaced only when everything has been written. After an error or
    SIGTERM, it is unchanged and no partial file is left. Only its owner can read the file.
    A device or a pipe is written to directly. ``click.File(atomic=True)`` does none of this:
    it replaces the file after an error too, and replaces devices.

    :raises Failure: if the file cannot be written.
    """
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name).resolve()
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as device:
                yield device
        else:
            with _replacing(path) as file:
                yield file
    except OSError as error:
        raise Failure(f"{name} cannot be written: {error}") from error


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    # The permissions of such a file are 0600.
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as written:
        temporary = Path(written.name)
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            yield cast(BinaryIO, written)
            written.close()
            temporary.replace(path)
        except BaseException:
            written.close()
            temporary.unlink()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
