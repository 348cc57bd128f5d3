"""The methods of a manager that are about several conversations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..stores import Page
from ..thread.thread import Thread
from .exchanging import fork
from .owners import Owners, owner_name
from .switching import delete, select, start_another


class Conversations(Owners):
    """Begins, selects, copies, deletes and lists conversations."""

    def new(self) -> Thread:
        """Start another conversation, which becomes ``g.thread`` and that of the cookie.

        The earlier one is kept, and its changes are saved with the response.

        :raises RuntimeError: outside a request, and in a request without threads.
        """
        return start_another(*self._in_request())

    def select(self, thread: Thread | str) -> Thread:
        """Return to a stored conversation, which becomes ``g.thread`` and that of the cookie.

        For example, when a user selects one in a list::

            @app.post("/conversations/<conversation_id>")
            def go_back(conversation_id):
                threads.select(conversation_id)
                return redirect(url_for("show"))

        The earlier one is kept, and its changes are saved with the response.

        With an owner loader, the conversation has to belong to the current user. Without one, any
        stored conversation can be selected: check the id first.

        :param thread: a thread or its id.
        :raises ThreadNotFound: a LookupError; if the current user has no such conversation. If the
            view does not catch it, the response is 404 Not Found.
        :raises RuntimeError: outside a request, and in a request without threads.
        :raises StoreError: if the thread cannot be read.
        """
        return select(*self._in_request(), thread)

    def delete(self, thread: Thread | str) -> None:
        """Delete a conversation of the current user permanently, see :meth:`Thread.destroy`.

        If it is that of the request, its cookie is deleted too. Call :meth:`new` or :meth:`select`
        to continue with another one.

        With an owner loader, the conversation has to belong to the current user. Without one, any
        stored conversation can be deleted: check the id first.

        :param thread: a thread or its id.
        :raises ThreadNotFound: a LookupError; if the current user has no such conversation. If the
            view does not catch it, the response is 404 Not Found.
        :raises RuntimeError: outside a request, and in a request without threads.
        :raises StoreError: if the thread cannot be deleted.
        """
        delete(*self._in_request(), thread)

    def fork(
        self,
        thread: Thread | str | None = None,
        *,
        keep: Mapping[str, int] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Thread:
        """Copy a conversation inside the store, and return the copy.

        The thread of the request stays the same. Changes of the copy are saved with the response.
        For example, to try another answer to the second question::

            other = threads.fork(keep={"messages": 3})
            threads.select(other)

        If it is the conversation of the request, its changes are saved first, as by
        :meth:`Thread.save`. The copy belongs to the current user, and has a new id and a full time
        to live.

        :param thread: a thread or its id; None: the thread of the request. With an owner loader,
            it has to belong to the current user; without one, check the id first.
        :param keep: for keys with lists, how many items the copy has, from the beginning. Other
            values are copied completely.
        :param metadata: the metadata of the copy; None copies them.
        :raises ThreadNotFound: a LookupError; if the current user has no such conversation, or it
            is not stored.
        :raises InvalidArgument: a ValueError; if *keep* contains anything but integers from 0 on.
            Unless the view handles it, the response is 400 Bad Request.
        :raises RuntimeError: outside a request, and in a request without threads.
        :raises StoreError: if the thread cannot be saved or copied.
        """
        return fork(*self._in_request(), thread, keep, metadata)

    def list(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        owner: str | int | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        """Return stored threads, the most recently updated first. Owners are not checked.

        For example, a user's conversations about one topic::

            page = threads.list({"topic": "billing"}, owner=user.id)
            page.threads[0].metadata["title"]
            threads.list({"topic": "billing"}, owner=user.id, cursor=page.cursor)

        :param metadata: only threads whose metadata contains these keys and values.
        :param owner: only the threads of this user; None for those of all users.
        :param limit: the maximum number of threads.
        :param cursor: the cursor of the previous page.
        :raises InvalidArgument: a ValueError; if a value in *metadata* is not a scalar, or *limit*
            is not an integer from 1 on. Unless the view handles it, the response is 400 Bad
            Request.
        :raises InvalidCursor: an InvalidArgument; if *cursor* is not one of a listing.
        :raises StoreError: if the store cannot list threads, or cannot be read.
        """
        store, name = self._threads_at_work().store, None if owner is None else owner_name(owner)
        return store.list(metadata, owner=name, limit=limit, cursor=cursor)
