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
        """Start another conversation: it replaces ``g.thread`` and the client's cookie.

        The earlier thread is kept, and its changes are saved with the response.

        :raises RuntimeError: outside a request, and in a request without threads.
        """
        return start_another(*self._in_request())

    def select(self, thread: Thread | str) -> Thread:
        """Return to a stored conversation: it replaces ``g.thread`` and the client's cookie.

        For example, when a person selects one in a list::

            @app.post("/conversations/<conversation_id>")
            def go_back(conversation_id):
                threads.select(conversation_id)
                return redirect(url_for("show"))

        The earlier thread is kept, and its changes are saved with the response.

        With an owner loader, the conversation has to belong to the current person. Without one,
        any stored conversation is selected: check the id before.

        :param thread: a thread or its id.
        :raises ThreadNotFound: a LookupError; if there is no such conversation for this person.
            Unless the view handles it, the response is 404 Not Found.
        :raises RuntimeError: outside a request, and in a request without threads.
        :raises StoreError: if the thread cannot be read.
        """
        return select(*self._in_request(), thread)

    def delete(self, thread: Thread | str) -> None:
        """Delete a conversation of the current person for good, see :meth:`Thread.destroy`.

        If it is the request's own, its cookie ends; call :meth:`new` or :meth:`select` to go on
        with another one.

        With an owner loader, the conversation has to belong to the current person. Without one,
        any stored conversation is deleted: check the id before.

        :param thread: a thread or its id.
        :raises ThreadNotFound: a LookupError; if there is no such conversation for this person.
            Unless the view handles it, the response is 404 Not Found.
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
        """Return a copy of a conversation, which is made inside the store.

        The request stays with its thread; what it changes in the copy is saved with the
        response. For example, to try another answer to the second question::

            other = threads.fork(keep={"messages": 3})
            threads.select(other)

        If the conversation is the request's own, its changes are saved first, as by
        :meth:`Thread.save`. The copy belongs to the current person. It gets a new id, and begins
        its time to live again.

        :param thread: a thread or its id; None: the thread of the request. With an owner loader,
            it has to belong to the current person; without one, check the id before.
        :param keep: for keys with lists, how many of the first items the copy has. Other values
            are copied whole.
        :param metadata: the metadata of the copy; None copies them.
        :raises ThreadNotFound: a LookupError; if there is no such conversation for this person,
            or nothing is stored of it.
        :raises InvalidArgument: a ValueError; if *keep* contains something else than integers from
            0 on. Unless the view handles it, the response is 400 Bad Request.
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
        """Return stored threads of anyone, the most recently updated first.

        For example, the conversations of one person that are about one topic::

            page = threads.list({"topic": "billing"}, owner=user.id)
            page.threads[0].metadata["title"]
            threads.list({"topic": "billing"}, owner=user.id, cursor=page.cursor)

        :param metadata: only threads whose metadata contains these keys and values.
        :param owner: only the threads of this person; None for those of all.
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
