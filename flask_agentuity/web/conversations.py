"""The methods of a manager that are about several conversations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..stores import Page
from ..thread.thread import Thread
from .flask_internals import current_request
from .served_apps import ServedApps


class Conversations(ServedApps):
    """Begins, finds and lists conversations."""

    def new(self) -> Thread:
        """Start another conversation: it replaces ``g.thread`` and the client's cookie.

        The earlier thread is kept, and its changes are saved with the response.

        :raises RuntimeError: outside a request, and in a request without threads.
        """
        return self._scope().start_another(current_request())

    def list(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        """Return stored threads, the most recently updated first.

        For example, the conversations of one person::

            page = threads.list({"owner": current_user.id})
            page.threads[0].metadata["title"]
            threads.list({"owner": current_user.id}, cursor=page.cursor)

        :param metadata: only threads whose metadata contains these keys and values.
        :param limit: the maximum number of threads.
        :param cursor: the cursor of the previous page.
        :raises ValueError: if a value in *metadata* is not a scalar, or the cursor is invalid.
        :raises StoreError: if the store cannot list threads; the thread service cannot.
        """
        return self._threads_at_work().store.list(metadata, limit=limit, cursor=cursor)
