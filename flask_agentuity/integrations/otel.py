"""OpenTelemetry: spans and metrics of the threads of an app.

::

    from flask_agentuity.integrations.otel import instrument

    threads = ThreadManager(app)
    instrument(app)

It needs ``flask-agentuity[otel]``, which is OpenTelemetry's API; the app installs and configures
an SDK. An app that does not call :func:`instrument` pays nothing. The names are in
:mod:`~flask_agentuity.integrations.otel_names`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ..errors import ConfigurationError
from ..stores import ThreadStore
from ..web import events as signals
from ..web.app_threads import AppThreads, threads_of
from . import otel_names as names

try:
    from opentelemetry import metrics, trace
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise ConfigurationError(
        "Tracing needs the package opentelemetry-api, 1.28 or newer:"
        ' python -m pip install "flask-agentuity[otel]"'
    ) from None

from .otel_store import InstrumentedStore, Instruments

if TYPE_CHECKING:
    from flask import Flask
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import TracerProvider

    from ..thread.thread import Thread


def instrument(
    app: Flask,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Trace and measure what *app* asks of its store, and count what happens to its threads.

    Call it after the app's ThreadManager was created. A second call does nothing.

    :param tracer_provider: None uses the global one.
    :param meter_provider: None uses the global one.
    :raises ConfigurationError: if the app has no ThreadManager.
    """
    threads = threads_of(app)
    if InstrumentedStore in type(threads.store).__mro__:
        return
    tracer = trace.get_tracer(names.SCOPE, tracer_provider=tracer_provider)
    meter = metrics.get_meter(names.SCOPE, meter_provider=meter_provider)
    store = InstrumentedStore(threads.store, tracer, Instruments(meter))
    threads.store = cast("ThreadStore", store)
    _Receivers(meter).connect(app, threads)


class _Receivers:
    """Counts the signals of an app."""

    def __init__(self, meter: Meter) -> None:
        self._degraded = meter.create_counter(
            names.DEGRADED, "{thread}", "Threads that could not be read"
        )
        self._save_failures = meter.create_counter(
            names.SAVE_FAILURES, "{thread}", "Saves that were lost"
        )
        self._connections = meter.create_up_down_counter(
            names.CONNECTIONS, "{connection}", "Open connections to the thread service"
        )
        self._runs = meter.create_counter(names.RUNS, "{run}", "Runs that have ended")

    def connect(self, app: Flask, threads: AppThreads) -> None:
        """Receive the signals of *app* for as long as it lives."""
        receivers: dict[str, Callable[..., None]] = {
            "thread_restore_failed": self._restore_failed,
            "thread_save_failed": self._save_failed,
            "service_connected": self._connected,
            "service_disconnected": self._disconnected,
            "thread_run_finished": self._run_finished,
        }
        for name, receiver in receivers.items():
            signal = getattr(signals, name, None)
            if signal is not None:
                # Signals hold receivers weakly.
                threads.receivers.append(receiver)
                signal.connect(receiver, app)

    def _restore_failed(self, sender: Flask, thread: Thread, error: Any, **extra: Any) -> None:
        kind = {names.ERROR_TYPE: type(error).__name__}
        self._degraded.add(1, kind)
        about = {names.CONVERSATION_ID: thread.id, **kind}
        trace.get_current_span().add_event(names.EVENT_DEGRADED, about)

    def _save_failed(self, sender: Flask, error: Any, **extra: Any) -> None:
        self._save_failures.add(1, {names.ERROR_TYPE: type(error).__name__})

    def _connected(self, sender: Flask, **extra: Any) -> None:
        self._connections.add(1)

    def _disconnected(self, sender: Flask, **extra: Any) -> None:
        self._connections.add(-1)

    def _run_finished(self, sender: Flask, status: Any = None, **extra: Any) -> None:
        self._runs.add(1, {names.STATUS: str(getattr(status, "value", status))})
