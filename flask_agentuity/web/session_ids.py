"""The ids of sessions, and what a session says about its request."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from ..thread.session import SessionRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def make_session_id() -> str:
    """Return ``sess_`` and the id of the active trace of OpenTelemetry, or 32 random hex digits."""
    # A trace can only be active if something else has imported the package.
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            return f"sess_{context.trace_id:032x}"
    return f"sess_{os.urandom(16).hex()}"


def describe_request(environ: WSGIEnvironment, began: float | None) -> SessionRequest:
    """Return what a session tells of the request with this *environ*.

    :param began: when it began, by :func:`time.monotonic`; None for now.
    """
    age = 0.0 if began is None else time.monotonic() - began
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    if not path.isascii():
        # WSGI decodes bytes with this encoding.
        path = path.encode("latin-1", "replace").decode(errors="replace")
    is_upgrade = "HTTP_UPGRADE" in environ and environ["HTTP_UPGRADE"].lower() == "websocket"
    return SessionRequest(
        environ.get("REQUEST_METHOD", "GET"),
        path or "/",
        "websocket" if is_upgrade else "api",
        time.time() - age,
    )
