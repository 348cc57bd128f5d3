"""The names of spans, events, attributes and metrics for OpenTelemetry, all in one place."""

from __future__ import annotations

#: The name of the tracer and the meter.
SCOPE = "flask_agentuity"

# Spans

SPAN_RESTORE = "thread.restore"
SPAN_MERGE = "thread.merge"

# Events

#: On the span of a merge: a value that it replaces has changed, so it is merged and written again.
EVENT_CONFLICT = "thread.conflict"
#: On the current span, usually the request's: the thread could not be read.
EVENT_DEGRADED = "thread.degraded"

# Attributes. The first three are of OpenTelemetry's semantic conventions.

CONVERSATION_ID = "gen_ai.conversation.id"
SYSTEM = "db.system.name"
ERROR_TYPE = "error.type"
#: The operation of the store: restore, merge, delete or list.
OPERATION = "flask_agentuity.operation"
#: The direction of the bytes: write (to the store) or read.
DIRECTION = "flask_agentuity.direction"
#: Whether a restore has found something.
FOUND = "flask_agentuity.found"
#: The bytes of values that a call has read or written.
SIZE = "flask_agentuity.size"
#: The keys of the state over which a merge has a conflict.
KEYS = "flask_agentuity.keys"
#: How a run has ended.
STATUS = "flask_agentuity.run.status"

# Metrics

CALLS = "flask_agentuity.store.calls"
DURATION = "flask_agentuity.store.duration"
IO = "flask_agentuity.store.io"
CONFLICTS = "flask_agentuity.store.conflicts"
FAILURES = "flask_agentuity.store.failures"
DEGRADED = "flask_agentuity.threads.degraded"
SAVE_FAILURES = "flask_agentuity.threads.save_failures"
CONNECTIONS = "flask_agentuity.service.connections"
RUNS = "flask_agentuity.runs"
