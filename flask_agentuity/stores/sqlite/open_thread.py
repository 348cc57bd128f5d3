"""One thread during a write, to which the steps of the write are applied."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import assert_never

from ...document import codec
from ...document.apply import apply_operations, increment
from ...document.merge import Merged, rebase
from ...document.operations import (
    Clear,
    Delete,
    Edit,
    EditMetadata,
    Increment,
    KeyOperation,
    PopLast,
    Push,
    Replace,
    Splice,
    Truncate,
)
from ..joining import ListOperation, ListOperations
from ..writing import Conflict
from . import schema
from .entries import Entry, entry_size
from .open_metadata import OpenMetadata
from .seen import Head
from .statements import Statements
from .steps import (
    MetadataStep,
    PushRun,
    SetMetadataValue,
    SetValue,
    SpliceList,
    Step,
    Value,
    pack_value,
    prepare,
)

_EMPTY_LIST = Value(schema.LIST, False, None, (), 2)

_LISTS = "SELECT number FROM thread_entries WHERE thread = ? AND kind != ?"
_ERASE_SEGMENTS = "DELETE FROM segments WHERE number BETWEEN ? AND ?"
_ERASE_ENTRIES = "DELETE FROM thread_entries WHERE thread = ?"
_ERASE_THREAD = "DELETE FROM threads WHERE number = ?"


class OpenThread:
    """A thread with the entries that the steps of a write name.

    :param version: the version that the thread gets.
    :param counted: keys for which to find out how many items precede the first push.
    """

    __slots__ = (
        "_assigned_conflicts",
        "_conflicts",
        "_counted",
        "_statements",
        "entries",
        "entries_size",
        "head",
        "is_new",
        "merged",
        "metadata",
        "preceding",
        "skipped",
        "thread_id",
        "version",
    )

    def __init__(
        self,
        statements: Statements,
        thread_id: str,
        head: Head,
        entries: Iterable[Entry],
        version: int,
        counted: Collection[str] = (),
        *,
        is_new: bool = False,
    ) -> None:
        self._statements = statements
        self.thread_id = thread_id
        self.head = head
        self.is_new = is_new
        self.entries = {entry.key: entry for entry in entries}
        self.version = version
        self.entries_size = head.entries_size
        self.metadata = OpenMetadata(statements, head.number, head.metadata)
        self._counted = counted
        self._conflicts: set[str] = set()
        self._assigned_conflicts: set[str] = set()
        self.skipped: list[KeyOperation] = []
        self.preceding: dict[str, int] = {}
        self.merged: dict[str, Merged] = {}

    @property
    def size(self) -> int:
        """The size of the document, in bytes."""
        return codec.document_size(self.entries_size, len(self.metadata.value))

    @property
    def conflict(self) -> Conflict | None:
        """The keys at which the thread is not as the steps expect."""
        if not self._conflicts and not self.metadata.conflict:
            return None
        return Conflict(self._conflicts, self._assigned_conflicts, self.metadata.conflict)

    def apply(self, step: Step) -> None:
        """Apply *step*. After a conflict, nothing that concerns the same key is applied."""
        match step:
            case PushRun():
                self._push(step)
            case ListOperations():
                self._apply_all(step)
            case SetValue():
                self._set(step)
            case SpliceList():
                self._splice(step)
            case Delete(key):
                self._delete(key)
            case Clear():
                self._clear()
            case Increment():
                self._increment(step)
            case Truncate() | PopLast():
                self._shorten(step)
            case Edit():
                self._edit(step)
            case SetMetadataValue() | EditMetadata():
                self._change_metadata(step)
            case _:
                assert_never(step)

    def next_epoch(self) -> int:
        """Return the epoch that the thread gets, after all steps."""
        return self.head.epoch + any(
            entry.items is not None and entry.items.miscounted for entry in self.entries.values()
        )

    def erase(self) -> None:
        """Remove everything that is stored of the thread."""
        self._clear()
        self.metadata.erase_terms()
        self._statements.run(_ERASE_THREAD, (self.head.number,))

    def _push(self, run: PushRun, *, is_edit: bool = False) -> None:
        if run.key in self._conflicts:
            return
        entry = self.entries.get(run.key)
        if entry is None:
            entry = self._create(run.key, _EMPTY_LIST, 0)
        items = entry.items
        if items is None:
            self.skipped.extend(run.pushes)
            return
        if run.key in self._counted and run.key not in self.preceding and not is_edit:
            self.preceding[run.key] = items.total()
        if run.unique is not None and items.has(*run.unique):
            return
        if run.nulls:
            entry.note_nulls()
        items.push([push.value for push in run.pushes], run.max_records, run.keep_first)
        self.entries_size += items.take_growth()

    def _apply_all(self, step: ListOperations) -> None:
        key, operations = step.key, step.operations
        has_pushes = isinstance(operations[0], Push)
        if key in self._conflicts or not (has_pushes or key in self.entries):
            return
        entry = self.entries.get(key) or self._create(key, _EMPTY_LIST, 0)
        if entry.items is None:
            self.skipped.extend(operations)
            return
        if key in self._counted and has_pushes:
            self.preceding.setdefault(key, entry.items.total())
        self.entries_size += _write_list(self.thread_id, entry, operations)

    def _set(self, step: SetValue) -> None:
        if step.key in self._conflicts:
            return
        entry = self.entries.get(step.key)
        assigned = self.version
        if step.replaces is not None:
            if not _is_as_expected(entry, step.replaces):
                self._note_conflict(entry, step.replaces)
                return
            assigned = entry.assigned if entry else 0
        elif step.only_if_missing:
            if entry is not None:
                return
            assigned = 0
        if entry is None:
            self._create(step.key, step.value, assigned)
        else:
            self.entries_size += step.value.size - entry.measure()
            entry.assign(step.value, assigned)

    def _splice(self, step: SpliceList) -> None:
        splice = step.splice
        entry = self.entries.get(splice.key)
        if (
            entry is None
            or entry.items is None
            or entry.assigned > splice.since
            or not entry.items.splice(splice.changes)
        ):
            self._note_conflict(entry, splice)
            return
        if step.nulls:
            entry.note_nulls()
        self.entries_size += entry.items.take_growth()

    def _note_conflict(self, entry: Entry | None, operation: Replace | Splice) -> None:
        self._conflicts.add(operation.key)
        if entry is not None and entry.assigned > operation.since:
            self._assigned_conflicts.add(operation.key)

    def _delete(self, key: str) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.entries_size -= entry_size(entry)
            entry.erase()

    def _clear(self) -> None:
        number = self.head.number
        for (entry,) in list(self._statements.select(_LISTS, (number, schema.INLINE))):
            self._statements.run(_ERASE_SEGMENTS, schema.segment_range(entry))
        self._statements.run(_ERASE_ENTRIES, (number,))
        self.entries.clear()
        self.entries_size = 0

    def _increment(self, step: Increment) -> None:
        if step.key in self._conflicts:
            return
        entry = self.entries.get(step.key)
        if entry is not None and entry.kind != schema.INLINE:
            self.skipped.append(step)
            return
        try:
            value = increment(entry.value if entry else None, step.by)
        except ValueError as error:
            raise codec.damaged(self.thread_id, str(error)) from None
        if value is None:
            self.skipped.append(step)
        elif entry is None:
            self._create(step.key, Value(schema.INLINE, False, value, (), len(value)), 0)
        else:
            self.entries_size += len(value) - entry.measure()
            entry.assign_inline(value)

    def _shorten(self, step: Truncate | PopLast) -> None:
        entry = self.entries.get(step.key)
        if entry is None or step.key in self._conflicts:
            return
        items = entry.items
        if items is None:
            self.skipped.append(step)
            return
        if isinstance(step, Truncate):
            items.truncate(step.keep)
        else:
            items.pop_last()
        self.entries_size += items.take_growth()

    def _edit(self, edit: Edit) -> None:
        entry = self.entries.get(edit.key)
        stored = entry.encode() if entry else None
        is_assigned = entry is not None and entry.assigned > edit.since
        try:
            rebased = rebase(edit, stored, self.version, assigned=is_assigned)
        except ValueError as error:
            raise codec.damaged(self.thread_id, str(error)) from None
        self.merged[edit.key] = rebased.merged
        if rebased.merged.value is None:
            self._delete(edit.key)
            return
        for step in prepare(rebased.operations):
            if isinstance(step, PushRun):
                self._push(step, is_edit=True)
            else:
                self.apply(step)

    def _change_metadata(self, step: MetadataStep) -> None:
        try:
            self.metadata.apply(step)
        except ValueError as error:
            raise codec.damaged(self.thread_id, str(error)) from None

    def _create(self, key: str, value: Value, assigned: int) -> Entry:
        thread = self.thread_id, self.head.number, self.head.epoch
        entry = Entry.create(self._statements, thread, key, value, assigned)
        self.entries[key] = entry
        self.entries_size += entry_size(entry)
        return entry


def _is_as_expected(entry: Entry | None, replace: Replace) -> bool:
    if entry is None or replace.old is None:
        return entry is None and replace.old is None
    return entry.assigned <= replace.since and entry.equals(replace.old)


def _write_list(thread_id: str, entry: Entry, operations: Sequence[ListOperation]) -> int:
    """Apply *operations* to the list of *entry*, and return by how many bytes it has grown."""
    encoded = entry.encode()
    state = {entry.key: encoded}
    try:
        apply_operations(state, operations)
        value = pack_value(state[entry.key])
    except ValueError as error:
        raise codec.damaged(thread_id, str(error)) from None
    entry.assign(value, entry.assigned)
    return value.size - len(encoded)
