"""The base class of session reporters, which are told when sessions begin and end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session import Session


class SessionReporter(ABC):
    """The base class of reporters, which send an app's sessions to a log or another service::

        class LogReporter(SessionReporter):
            def started(self, session):
                log.info("started", id=session.id, path=session.request.path)

            def completed(self, session):
                log.info("completed", id=session.id, status=session.status_code)

        threads = ThreadManager(app, session_reporter=LogReporter())

    Only sessions that used their thread are reported. Both methods are called while the request
    is being handled, so they must be quick; they may be coroutine functions. Exceptions that they
    raise are logged, and do not affect the response.
    """

    @abstractmethod
    def started(self, session: Session) -> None:
        """Report that *session* has used its thread for the first time."""

    @abstractmethod
    def completed(self, session: Session) -> None:
        """Report that *session* has ended. Its thread is saved, its listeners were called."""
