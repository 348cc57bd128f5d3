"""A run, as an app sees it."""

from __future__ import annotations

from ...stores.runs import RunStatus, RunStore, StoredRun
from .formats import FORMATS


class Run:
    """One streamed answer, started by :meth:`ThreadManager.stream`.

    It does not change after :meth:`ThreadManager.run` has returned it; call that again for an
    update.
    """

    __slots__ = ("_store", "_stored")

    def __init__(self, stored: StoredRun, store: RunStore) -> None:
        self._stored = stored
        self._store = store

    @property
    def id(self) -> str:
        """The run's id, unique within its thread."""
        return self._stored.key.run_id

    @property
    def status(self) -> RunStatus:
        """``running``, ``done``, ``stopped``, ``failed`` or ``interrupted``.

        It is interrupted if its worker ended, or its thread was deleted or got another id.
        """
        return self._stored.status

    @property
    def started(self) -> float:
        """When it began, in seconds since 1970."""
        return self._stored.started

    @property
    def truncated(self) -> bool:
        """Whether its output was longer than ``AGENTUITY_RUN_MAX_BYTES``."""
        return self._stored.truncated

    def text(self) -> str:
        """Return the text that the generator has yielded, without dicts.

        :raises StoreError: if it cannot be read.
        """
        log = self._store.read(self._stored.key, 0, self._stored.length)
        return FORMATS[self._stored.format].text(log)

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.status}>"
