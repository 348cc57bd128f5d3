"""What a session reporter is: it is told when sessions begin and when they have ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session import Session


class SessionReporter(ABC):
    """Reports the sessions of an app elsewhere, for example to a log or a warehouse::

        class LogReporter(SessionReporter):
            def started(self, session):
                log.info("started", id=session.id, path=session.request.path)

            def completed(self, session):
                log.info("completed", id=session.id, status=session.status_code)

        threads = ThreadManager(app, session_reporter=LogReporter())

    Only sessions that used their thread are reported. Both methods are called while the request
    is being handled, so they must be quick; they may be coroutine functions. What they raise is
    logged and does not affect the response.
    """

    @abstractmethod
    def started(self, session: Session) -> None:
        """Note that *session* has used its thread for the first time."""

    @abstractmethod
    def completed(self, session: Session) -> None:
        """Note that *session* has ended: its thread is saved, its listeners were called."""
