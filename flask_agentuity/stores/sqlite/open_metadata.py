"""The metadata of a thread inside a write, and its index terms, by which threads are found."""

from __future__ import annotations

from ...document.merge import rebase_metadata
from ...document.operations import EditMetadata
from .statements import Statements
from .steps import IndexTerms, MetadataStep, prepare_metadata

_FIND = "SELECT key, value FROM index_terms WHERE thread = ?"
_ADD = (
    "INSERT INTO index_terms (key, value, listed, thread)"
    " SELECT ?, ?, listed, number FROM threads WHERE number = ?"
)
_REMOVE = (
    "DELETE FROM index_terms WHERE key = ? AND value = ?"
    " AND (listed, thread) = (SELECT listed, number FROM threads WHERE number = ?)"
)
_ERASE = "DELETE FROM index_terms WHERE thread = ?"


class OpenMetadata:
    """The metadata of one thread. ``conflict``: they are not as a step expects."""

    __slots__ = ("_statements", "_stored", "_terms", "_thread", "conflict", "value")

    def __init__(self, statements: Statements, thread: int, value: bytes) -> None:
        self._statements = statements
        self._thread = thread
        self._stored = self.value = value
        self.conflict = False
        # Those that are stored, unless they have to be looked up, and those to be stored.
        self._terms: tuple[IndexTerms | None, IndexTerms] | None = None

    def apply(self, step: MetadataStep) -> None:
        """Apply *step*, or record a conflict."""
        if isinstance(step, EditMetadata):
            change = rebase_metadata(step, self.value)
            if change is None:
                return
            step = prepare_metadata(change.new, change.old)
        if step.old is not None and step.old != self.value:
            self.conflict = True
            return
        self._terms = (self._terms[0] if self._terms else step.old_terms), step.terms
        self.value = step.value

    def write_terms(self) -> None:
        """Write the index terms that have changed."""
        if self._terms is None or self.value == self._stored:
            return
        stored, terms = self._terms
        if stored is None:
            rows = self._statements.select(_FIND, (self._thread,))
            stored = frozenset((key, value) for key, value in rows)
        for term in stored - terms:
            self._statements.run(_REMOVE, (*term, self._thread))
        for term in terms - stored:
            self._statements.run(_ADD, (*term, self._thread))

    def erase_terms(self) -> None:
        """Remove all index terms."""
        self._statements.run(_ERASE, (self._thread,))
