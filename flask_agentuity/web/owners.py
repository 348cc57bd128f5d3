"""The methods of a manager that are about the people whom conversations belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from flask import Flask, has_request_context

from ..errors import ConfigurationError
from ..stores import Page
from ..stores.listing import Query, require_owner
from ..thread.thread import Thread
from .app_threads import AppThreads
from .exchanging import claim, rotate
from .flask_internals import current_app_object, current_request
from .ownership import OwnerLoader
from .person_changes import load_person
from .scope import RequestScope
from .served_apps import ServedApps

_Loader = TypeVar("_Loader", bound=OwnerLoader)


class Owners(ServedApps):
    """Knows the current person, and does what concerns all of a person's conversations."""

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

        The function is called in requests that use their thread, once in each, and by the methods
        of this manager that are about the current person. It may be async. It cannot use the
        thread. The id is a string or an integer; an integer is stored as a string.

        :raises ConfigurationError: in a request, if the function raises, or returns something
            else.
        """
        self._owner_loader = function
        for threads in self._apps.values():
            threads.owner_loader = function
        return function

    def claim(self) -> Thread:
        """Give the guest's conversation to the person who has logged in, under a new id.

        Call it in the view that logs a person in, after the login::

            login_user(user)
            threads.claim()

        State, metadata and times are kept. The new id protects against session fixation: a person
        who planted or copied the guest's cookie does not read on. What other requests are writing
        under the former id is dropped, as for a deleted thread. What was read before is read
        again.

        If the conversation belongs to the person already, nothing happens. If the request has
        none that the person may take, it goes on with a new one.

        :returns: the thread of the request.
        :raises RuntimeError: if no person is logged in, if the id comes from the app's thread ID
            provider, and outside a request.
        :raises ConfigurationError: if there is no owner loader.
        :raises StoreError: if the thread cannot be saved or moved.
        """
        return claim(*self._in_request())

    def rotate(self) -> Thread:
        """Give the request's conversation a new id, for example when rights change.

        It is :meth:`claim` for apps without an owner loader: call it after a login, so that a
        cookie from before the login does not give access to what is said after it. The owner
        stays as it is.

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
        scope = threads.find_scope(current_request()) if has_request_context() else None
        person = threads.load_person() if scope is None else load_person(threads, scope)
        if person is None:
            # The arguments are checked for a guest as well.
            Query(dict(metadata or {}), limit=limit, cursor=cursor)
            return Page([], None)
        return threads.store.list(metadata, owner=person, limit=limit, cursor=cursor)

    def erase(self, owner: str | int, progress: Callable[[int], None] | None = None) -> int:
        """Delete all conversations of a person for good, some at a time.

        It can be repeated, for example after an error. It works outside a request as well, and
        does not check who asks. Nothing of the text is left in an SQLite file and its log.

        :param owner: the person's id, as the owner loader returns it.
        :param progress: called with the number of conversations that each step has deleted.
        :returns: how many conversations were deleted.
        :raises ValueError: if *owner* cannot be the id of a person.
        :raises StoreError: if the store fails, or cannot list threads.
        """
        return self._threads_at_work().store.erase(owner_name(owner), progress)

    def _in_request(self) -> tuple[AppThreads, RequestScope]:
        threads = self._threads_of(current_app_object())
        return threads, threads.scope()

    def _add_app(self, app: Flask, threads: AppThreads) -> None:
        threads.owner_loader = self._owner_loader
        self._apps[app] = threads


def owner_name(owner: str | int) -> str:
    """Return a person's id as stores keep it.

    :raises ValueError: if it cannot be one.
    """
    name = str(owner) if isinstance(owner, int) and not isinstance(owner, bool) else owner
    require_owner(name)
    return cast(str, name)
