"""The methods of a manager that are about the owners of conversations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

from flask import Flask, has_request_context

from ..errors import ConfigurationError
from ..stores import Page
from ..stores.listing import Query, filter_of, require_owner
from ..thread.thread import Thread
from .app_threads import AppThreads
from .exchanging import claim, rotate
from .exporting import export_owner
from .flask_internals import current_app_object, current_request
from .ownership import OwnerLoader
from .person_changes import load_person
from .scope import RequestScope
from .served_apps import ServedApps

_Loader = TypeVar("_Loader", bound=OwnerLoader)


class Owners(ServedApps):
    """Loads the current user, and claims, lists and erases a user's conversations."""

    def __init__(self) -> None:
        super().__init__()
        self._owner_loader: OwnerLoader | None = None

    def owner_loader(self, function: _Loader) -> _Loader:
        """Register the function that returns the current user's id, or None for a guest.

        As a decorator, for example with Flask-Login::

            @threads.owner_loader
            def load_owner():
                return current_user.get_id()

        A conversation belongs to the user who starts it. For requests of other users, it does not
        exist. A guest's conversation has no owner, and is reached only with its signed cookie or
        header; :meth:`claim` gives it to the user who has logged in.

        The function is called once in each request that uses its thread, and by the methods of
        this manager that are about the current user. It may be async. It cannot use the thread.
        It returns a string or an integer, which is stored as a string. If it raises or returns
        another type, the request raises :exc:`~flask_agentuity.ConfigurationError`.
        """
        self._owner_loader = function
        for threads in self._apps.values():
            threads.owner_loader = function
        return function

    def claim(self) -> Thread:
        """Give the guest's conversation to the user who has logged in, under a new id.

        Call it in the login view, after the login::

            login_user(user)
            threads.claim()

        State, metadata and times are kept. The new id protects against session fixation: an
        attacker who planted or copied the guest's cookie cannot read what follows. Changes that
        other requests save under the former id are dropped, as for a deleted thread.

        If the conversation already belongs to the user, nothing changes. If it cannot be claimed,
        the request gets a new one.

        :returns: the thread of the request.
        :raises RuntimeError: if no user is logged in, if the id comes from the app's thread ID
            provider, and outside a request.
        :raises ConfigurationError: if there is no owner loader.
        :raises StoreError: if the thread cannot be saved or moved.
        """
        return claim(*self._in_request())

    def rotate(self) -> Thread:
        """Give the conversation of the request a new id, for example when privileges change.

        In an app without an owner loader, call it after a login, in place of :meth:`claim`, so
        that a cookie from before the login does not give access to what is said after it. The
        owner does not change.

        :returns: the thread of the request.
        :raises RuntimeError: if the id comes from the app's thread ID provider, and outside a
            request.
        :raises StoreError: if the thread cannot be saved or moved.
        """
        return rotate(*self._in_request())

    def mine(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page:
        """Return the current user's conversations, the most recently updated first.

        For a guest, the page is empty. The parameters and errors are those of :meth:`list`.

        :raises ConfigurationError: if there is no owner loader.
        """
        threads = self._threads_of(current_app_object())
        if threads.owner_loader is None:
            raise ConfigurationError(
                "mine() needs to know the current user. Register a function with"
                " @threads.owner_loader."
            )
        scope = threads.find_scope(current_request()) if has_request_context() else None
        person = threads.load_person() if scope is None else load_person(threads, scope)
        if person is None:
            # The arguments are checked for a guest as well.
            Query(filter_of(metadata), limit=limit, cursor=cursor)
            return Page([], None)
        return threads.store.list(metadata, owner=person, limit=limit, cursor=cursor)

    def erase(self, owner: str | int, progress: Callable[[int], None] | None = None) -> int:
        """Delete all conversations of a user permanently, a few at a time.

        It can be repeated after an error, works outside a request as well, and does not check the
        current user. No text is left in an SQLite file and its log.

        :param owner: the user's id, as the owner loader returns it.
        :param progress: called after each step with the number of conversations deleted in it.
        :returns: how many conversations were deleted.
        :raises ValueError: if *owner* cannot be the id of a user.
        :raises StoreError: if the store fails, or cannot list threads.
        """
        return self._threads_at_work().store.erase(owner_name(owner), progress)

    def export(self, owner: str | int) -> Iterator[bytes]:
        """Return a user's conversations, each as a line of JSON, as ``flask threads export`` does.

        For example, to let users download their data::

            @app.get("/export")
            @login_required
            def export():
                return Response(threads.export(current_user.get_id()), mimetype="application/jsonl")

        It works outside a request as well, and does not check the current user. A damaged thread is
        left out, and an error is logged.

        :param owner: the user's id, as the owner loader returns it.
        :raises ValueError: if *owner* cannot be the id of a user.
        :raises StoreError: if the store cannot be read, or cannot list threads.
        """
        return export_owner(self._threads_at_work().store, owner_name(owner))

    def _in_request(self) -> tuple[AppThreads, RequestScope]:
        threads = self._threads_of(current_app_object())
        return threads, threads.scope()

    def _add_app(self, app: Flask, threads: AppThreads) -> None:
        threads.owner_loader = self._owner_loader
        self._apps[app] = threads


def owner_name(owner: str | int) -> str:
    """Return a user's id as stores keep it.

    :raises ValueError: if it cannot be one.
    """
    name = str(owner) if isinstance(owner, int) and not isinstance(owner, bool) else owner
    require_owner(name)
    return cast(str, name)
