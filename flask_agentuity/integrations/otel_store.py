"""A store that traces and measures the calls of another one."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry.context import attach, detach
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from ..document.codec import Snapshot
from ..document.operations import Operation
from ..stores import Page, ThreadStore
from ..stores.expected import Expected
from ..stores.writing import Conflict, Write, Written
from . import otel_names as names

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

clock = time.perf_counter

#: The names of this package's stores; other stores have the name of their class.
_SYSTEMS = {
    "SQLiteStore": "sqlite",
    "RedisStore": "redis",
    "RemoteStore": "agentuity",
    "MemoryStore": "memory",
}


class Instruments:
    """The instruments with which the calls of a store are counted and measured."""

    def __init__(self, meter: Meter) -> None:
        self.calls = meter.create_counter(names.CALLS, "{call}", "Calls of the store")
        self.duration = meter.create_histogram(names.DURATION, "s", "Duration of the calls")
        self.bytes = meter.create_counter(names.IO, "By", "Bytes of values read and written")
        self.conflicts = meter.create_counter(
            names.CONFLICTS, "{conflict}", "Merges that met another change"
        )
        self.failures = meter.create_counter(names.FAILURES, "{call}", "Calls that failed")


class InstrumentedStore:
    """Behaves like *store*, and traces and measures its calls.

    It is not a subclass of :class:`.ThreadStore`, whose own methods would hide those of the
    store. Everything that is not measured goes to the store as it is.
    """

    def __init__(self, store: ThreadStore, tracer: Tracer, instruments: Instruments) -> None:
        self._store = store
        self._tracer = tracer
        self._instruments = instruments
        classes = (each.__name__ for each in type(store).__mro__)
        system = next((_SYSTEMS[name] for name in classes if name in _SYSTEMS), None)
        self._system = system = system or type(store).__name__
        # Made once: they are the same for every call that succeeds.
        self._calls = {
            operation: {names.OPERATION: operation, names.SYSTEM: system}
            for operation in ("restore", "merge", "delete", "list")
        }
        self._reading = {names.SYSTEM: system, names.DIRECTION: "read"}
        self._writing = {names.SYSTEM: system, names.DIRECTION: "write"}

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The class of the store, for isinstance()."""
        return type(self._store)

    @property
    def edits(self) -> bool:
        """Whether the store checks what edits replace."""
        return self._store.edits

    def __getattr__(self, name: str) -> Any:
        """Return the store's attribute."""
        return getattr(self._store, name)

    def read(self, thread_id: str, keys: Collection[str] | None = None) -> Snapshot | None:
        """Read as the store does."""
        with self._span(names.SPAN_RESTORE, "restore", thread_id) as span:
            snapshot = self._store.read(thread_id, keys)
            self._note_read(span, 0 if snapshot is None else _size(snapshot), snapshot is not None)
        return snapshot

    def read_for(
        self, person: str | None, thread_id: str, keys: Collection[str] | None = None
    ) -> Snapshot | None:
        """Read for a person as the store does."""
        with self._span(names.SPAN_RESTORE, "restore", thread_id) as span:
            snapshot = self._store.read_for(person, thread_id, keys)
            self._note_read(span, 0 if snapshot is None else _size(snapshot), snapshot is not None)
        return snapshot

    def restore(self, thread_id: str) -> bytes | None:
        """Restore as the store does."""
        with self._span(names.SPAN_RESTORE, "restore", thread_id) as span:
            document = self._store.restore(thread_id)
            self._note_read(span, len(document or b""), document is not None)
        return document

    def write(self, thread_id: str, write: Write) -> Written | Conflict:
        """Write as the store does."""
        with self._span(names.SPAN_MERGE, "merge", thread_id) as span:
            self._note_written(span, sum(map(_size_of_operation, write.operations)))
            outcome = self._store.write(thread_id, write)
            if isinstance(outcome, Conflict):
                span.add_event(names.EVENT_CONFLICT, {names.KEYS: sorted(outcome.keys)})
                self._instruments.conflicts.add(1, {names.SYSTEM: self._system})
        return outcome

    def merge(
        self,
        thread_id: str,
        operations: Sequence[Operation],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Merge as the store does."""
        with self._span(names.SPAN_MERGE, "merge", thread_id) as span:
            self._note_written(span, sum(map(_size_of_operation, operations)))
            self._store.merge(thread_id, operations, metadata)

    def save(
        self, thread_id: str, document: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Save as the store does."""
        with self._span(names.SPAN_MERGE, "merge", thread_id) as span:
            self._note_written(span, len(document))
            self._store.save(thread_id, document, metadata)

    def delete(self, thread_id: str) -> None:
        """Delete as the store does."""
        with self._measured("delete"):
            self._store.delete(thread_id)

    def delete_for(self, thread_id: str, expected: Expected) -> None:
        """Delete for a request as the store does."""
        with self._measured("delete"):
            self._store.delete_for(thread_id, expected)

    def list(self, *arguments: Any, **named: Any) -> Page:
        """List as the store does."""
        with self._measured("list"):
            return self._store.list(*arguments, **named)

    def _span(self, name: str, operation: str, thread_id: str) -> _Call:
        attributes = {names.CONVERSATION_ID: thread_id, names.SYSTEM: self._system}
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        return _Call(self._instruments, self._calls[operation], span)

    def _measured(self, operation: str) -> _Call:
        return _Call(self._instruments, self._calls[operation], INVALID_SPAN)

    def _note_read(self, span: Span, size: int, found: bool) -> None:
        if span is not INVALID_SPAN:
            span.set_attributes({names.FOUND: found, names.SIZE: size})
        self._instruments.bytes.add(size, self._reading)

    def _note_written(self, span: Span, size: int) -> None:
        if span is not INVALID_SPAN:
            span.set_attribute(names.SIZE, size)
        self._instruments.bytes.add(size, self._writing)


class _Call:
    """One call of the store, as a block: the current span, the duration, the outcome."""

    __slots__ = ("_attributes", "_began", "_instruments", "_span", "_token")

    def __init__(self, instruments: Instruments, attributes: Mapping[str, str], span: Span) -> None:
        self._instruments = instruments
        self._attributes = attributes
        self._span = span

    def __enter__(self) -> Span:
        span = self._span
        self._token = None if span is INVALID_SPAN else attach(set_span_in_context(span))
        self._began = clock()
        return span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        seconds = clock() - self._began
        span, attributes, instruments = self._span, self._attributes, self._instruments
        if self._token is not None:
            detach(self._token)
        if error is not None:
            attributes = {**attributes, names.ERROR_TYPE: type(error).__name__}
            instruments.failures.add(1, attributes)
            span.record_exception(error)
            span.set_attribute(names.ERROR_TYPE, type(error).__name__)
            span.set_status(Status(StatusCode.ERROR, str(error)))
        if span is not INVALID_SPAN:
            span.end()
        instruments.duration.record(seconds, attributes)
        instruments.calls.add(1, attributes)


def _size(snapshot: Snapshot) -> int:
    size = len(snapshot.metadata)
    for value in snapshot.encoded.values():
        if value is not None:
            size += len(value)
    return size


def _size_of_operation(operation: Operation) -> int:
    size = 0
    for name in ("value", "new"):
        value = getattr(operation, name, None)
        size += len(value) if isinstance(value, bytes) else 0
    for change in getattr(operation, "changes", None) or ():
        size += sum(map(len, change.new))
    return size
