"""The metadata of a thread inside a write, and its labels, by which threads are found."""

from __future__ import annotations

from ...document.merge import rebase_metadata
from ...document.operations import EditMetadata
from .statements import Statements
from .steps import Labels, MetadataStep, prepare_metadata

_FIND = "SELECT key, value FROM labels WHERE thread = ?"
_ADD = "INSERT INTO labels (key, value, thread) VALUES (?, ?, ?)"
_REMOVE = "DELETE FROM labels WHERE key = ? AND value = ? AND thread = ?"
_ERASE = "DELETE FROM labels WHERE thread = ?"


class OpenMetadata:
    """The metadata of one thread. ``conflict``: they are not as a step expects."""

    __slots__ = ("_labels", "_statements", "_stored", "_thread", "conflict", "value")

    def __init__(self, statements: Statements, thread: int, value: bytes) -> None:
        self._statements = statements
        self._thread = thread
        self._stored = self.value = value
        self.conflict = False
        # Those that are stored, unless they have to be looked up, and those to be stored.
        self._labels: tuple[Labels | None, Labels] | None = None

    def apply(self, step: MetadataStep) -> None:
        """Apply *step*, or note a conflict."""
        if isinstance(step, EditMetadata):
            change = rebase_metadata(step, self.value)
            if change is None:
                return
            step = prepare_metadata(change.new, change.old)
        if step.old is not None and step.old != self.value:
            self.conflict = True
            return
        self._labels = (self._labels[0] if self._labels else step.old_labels), step.labels
        self.value = step.value

    def write_labels(self) -> None:
        """Write the labels that have changed."""
        if self._labels is None or self.value == self._stored:
            return
        stored, labels = self._labels
        if stored is None:
            rows = self._statements.select(_FIND, (self._thread,))
            stored = frozenset((key, value) for key, value in rows)
        for label in stored - labels:
            self._statements.run(_REMOVE, (*label, self._thread))
        for label in labels - stored:
            self._statements.run(_ADD, (*label, self._thread))

    def erase_labels(self) -> None:
        """Remove all labels."""
        self._statements.run(_ERASE, (self._thread,))
