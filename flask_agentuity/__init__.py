"""Conversation threads for Flask: state that outlives requests, workers and machines."""

from .errors import (
    AgentuityError,
    AuthenticationFailed,
    ConfigurationError,
    InvalidArgument,
    InvalidCursor,
    InvalidThreadId,
    OutcomeUnknown,
    Overloaded,
    RequestTimeout,
    ServiceError,
    ServiceUnavailable,
    StateNotSerializable,
    StateTooLarge,
    StateTypeError,
    StoreError,
    ThreadGone,
    ThreadNotFound,
    TooManyChanges,
    TooManyKeys,
    TurnLost,
)
from .stores import ThreadStore
from .thread.json_value import JSONValue
from .thread.reporter import SessionReporter
from .thread.runs.run import Run
from .thread.session import Session
from .thread.state import ThreadState
from .thread.thread import Thread
from .web.events import (
    service_connected,
    service_disconnected,
    session_completed,
    session_started,
    thread_created,
    thread_destroyed,
    thread_restore_failed,
    thread_restored,
    thread_run_finished,
    thread_save_failed,
    thread_saved,
)
from .web.manager import ThreadManager, current_session, current_thread
from .web.provider import ThreadIDProvider

__version__ = "0.1.0"

__all__ = [
    "AgentuityError",
    "AuthenticationFailed",
    "ConfigurationError",
    "InvalidArgument",
    "InvalidCursor",
    "InvalidThreadId",
    "JSONValue",
    "OutcomeUnknown",
    "Overloaded",
    "RequestTimeout",
    "Run",
    "ServiceError",
    "ServiceUnavailable",
    "Session",
    "SessionReporter",
    "StateNotSerializable",
    "StateTooLarge",
    "StateTypeError",
    "StoreError",
    "Thread",
    "ThreadGone",
    "ThreadIDProvider",
    "ThreadManager",
    "ThreadNotFound",
    "ThreadState",
    "ThreadStore",
    "TooManyChanges",
    "TooManyKeys",
    "TurnLost",
    "current_session",
    "current_thread",
    "service_connected",
    "service_disconnected",
    "session_completed",
    "session_started",
    "thread_created",
    "thread_destroyed",
    "thread_restore_failed",
    "thread_restored",
    "thread_run_finished",
    "thread_save_failed",
    "thread_saved",
]
