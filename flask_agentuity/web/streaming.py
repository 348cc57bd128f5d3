"""The body of a streamed response, which saves the thread before its end can be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class SavingBody:
    """Wraps a streamed body and calls *finish* before the client can see its end.

    With a ``Content-Length`` the last byte is the end, so that byte is held back until the
    wrapped body is exhausted. Otherwise the end is the end of the iteration.
    """

    def __init__(
        self,
        body: Iterable[Any],
        finish: Callable[[BaseException | None], None],
        length: int | None,
    ) -> None:
        """Wrap *body*.

        :param finish: called with the exception that ended the body, or None. It may be
            called more than once.
        :param length: the ``Content-Length`` in bytes, if there is one.
        """
        self._body = body
        self._iterator: Iterator[Any] | None = None
        self._finish = finish
        self._left = length
        self._held: list[Any] = []

    def __iter__(self) -> SavingBody:
        return self

    def __next__(self) -> Any:
        if self._held:
            return self._held.pop()
        chunk = self._next_chunk()
        if self._left is not None:
            self._left -= len(chunk.encode() if isinstance(chunk, str) else chunk)
            if self._left <= 0:
                self._hold_until_the_end()
        return chunk

    def close(self) -> None:
        """Close the body; the client may have disconnected before its end."""
        try:
            if close := getattr(self._body, "close", None):
                close()
        except BaseException as error:
            self._finish(error)
            raise
        self._finish(None)

    def _next_chunk(self) -> Any:
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            return next(self._iterator)
        except StopIteration:
            self._finish(None)
            raise
        except BaseException as error:
            self._finish(error)
            raise

    def _hold_until_the_end(self) -> None:
        try:
            while not self._held:
                if chunk := self._next_chunk():
                    self._held.append(chunk)
        except StopIteration:
            return
