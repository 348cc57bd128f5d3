"""The attributes of every log record: ``thread_id`` and ``session_id``.

A formatter or a handler can use them, for example to find all records about one conversation::

    %(levelname)s %(name)s [%(thread_id)s] %(message)s

A record about one thread is given that thread's id where it is logged. Otherwise the ids are
those of the current request, if it has used its thread; else they are None.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

#: Every logger of the package.
LOGGERS = (
    "flask_agentuity",
    "flask_agentuity.client",
    "flask_agentuity.reports",
    "flask_agentuity.runs",
    "flask_agentuity.service",
    "flask_agentuity.session",
    "flask_agentuity.signals",
    "flask_agentuity.state",
    "flask_agentuity.stores",
    "flask_agentuity.stores.redis",
    "flask_agentuity.stores.sqlite",
    "flask_agentuity.turns",
)

#: The id of the current request's thread, and that of its session.
RequestIds = tuple[str | None, str | None]

_NO_REQUEST: RequestIds = (None, None)


def _outside_requests() -> RequestIds:
    return _NO_REQUEST


_find_ids: Callable[[], RequestIds] = _outside_requests


def find_request_ids_with(find: Callable[[], RequestIds]) -> None:
    """Use *find* to find the ids of the current request. It must not raise or log."""
    global _find_ids
    _find_ids = find


def _add_ids(record: logging.LogRecord) -> bool:
    attributes = vars(record)
    if "thread_id" not in attributes or "session_id" not in attributes:
        thread_id, session_id = _find_ids()
        attributes.setdefault("thread_id", thread_id)
        attributes.setdefault("session_id", session_id)
    return True


# A filter of a logger does not apply to the loggers below it, so each has its own.
for _name in LOGGERS:
    logging.getLogger(_name).addFilter(_add_ids)
