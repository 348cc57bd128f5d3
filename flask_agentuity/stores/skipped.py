"""Warn of operations that met a stored value of the wrong type."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..document import codec
from ..document.foreign_text import printable
from ..document.operations import KeyOperation, PopLast, Push, Truncate

logger = logging.getLogger("flask_agentuity.stores")


def warn_of_skipped(thread_id: str, skipped: Sequence[KeyOperation]) -> None:
    """Log a warning for each key and kind of operation."""
    if not skipped:
        return
    # The clients of a service can use any text as an id, and repeat an operation often.
    shown = printable(thread_id)
    kinds = dict.fromkeys((_words(operation), operation.key) for operation in skipped)
    for (what, reason), key in kinds:
        logger.warning(
            "%s %s of thread %s was skipped: %s.",
            what,
            printable(codec.child_path("state", key)),
            shown,
            reason,
            extra={"thread_id": shown},
        )


def _words(operation: KeyOperation) -> tuple[str, str]:
    match operation:
        case Push():
            return "A push to", "the value stored there is not a list"
        case Truncate():
            return "The truncation of", "the value stored there is not a list"
        case PopLast():
            return "Removing the last item of", "the value stored there is not a list"
        case _:
            reason = "the value stored there is not a number, or the sum is beyond 64 bits"
            return "The increment of", reason
