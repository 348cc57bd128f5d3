"""The methods of a manager that are about several conversations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from flask import Flask

from ..errors import ConfigurationError
from ..stores import Page
from ..thread.thread import Thread
from .app_threads import AppThreads
from .flask_internals import current_app_object
from .ownership import OwnerLoader
from .scope import RequestScope
from .served_apps import ServedApps
from .switching import delete, select, start_another

_Loader = TypeVar("_Loader", bound=OwnerLoader)


class Conversations(ServedApps):
    """Begins, finds and lists conversations, and knows whom they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self._owner_loader: OwnerLoader | None = None

    def owner_loader(self, function: _Loader) -> _Loader:
        """Register the function that returns the current person's id, or None for a guest.

        It is a decorator. With Flask-Login, for example::

            @threads.owner_loader
            def load_owner():
                return current_user.get_id()

        A conversation that a person begins belongs to that person, and requests of others do
        not reach it: for them it is as if it did not exist. A guest's conversation has no owner
        and is reached with its signed cookie or header only; :meth:`claim` gives it to the
        person who has logged in.

        The function is called in requests that use their thread, once in each. It may be
        async. It cannot use the thread. The id is a string or an integer; an integer is stored
        as a string.

        :raises ConfigurationError: in a request, if the function raises, or returns something
            else.
        """
        self._owner_loader = function
        for threads in self._apps.values():
            threads.owner_loader = function
        return function

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

    def mine(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        """Return the current person's conversations, the most recently updated first.

        A guest has none. The parameters and errors are those of :meth:`list`.

        :raises ConfigurationError: if there is no owner loader.
        """
        threads = self._threads_of(current_app_object())
        if threads.owner_loader is None:
            raise ConfigurationError(
                "mine() needs to know the current person. Register a function with"
                " @threads.owner_loader."
            )
        person = threads.load_person()
        if person is None:
            return Page([], None)
        return threads.store.list(metadata, owner=person, limit=limit, cursor=cursor)

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
        :raises ValueError: if a value in *metadata* is not a scalar, or the cursor is invalid.
        :raises StoreError: if the store cannot list threads; the thread service cannot.
        """
        owner = str(owner) if isinstance(owner, int) else owner
        store = self._threads_at_work().store
        return store.list(metadata, owner=owner, limit=limit, cursor=cursor)

    def _in_request(self) -> tuple[AppThreads, RequestScope]:
        threads = self._threads_of(current_app_object())
        return threads, threads.scope()

    def _add_app(self, app: Flask, threads: AppThreads) -> None:
        threads.owner_loader = self._owner_loader
        self._apps[app] = threads
