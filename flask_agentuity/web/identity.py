"""Which thread a request belongs to, and which user it is for."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from flask import Request
from werkzeug.exceptions import HTTPException

from ..errors import ConfigurationError
from .ownership import ThreadGuard, Way
from .thread_ids import make_thread_id, require_thread_id
from .url_ids import url_thread_id

if TYPE_CHECKING:
    from .app_threads import AppThreads


class RequestIdentity:
    """The thread that one request asks for, and the user it is for.

    It is the guard of that thread, if the app has an owner loader. It holds no reference to the
    request, which refers to it.
    """

    def __init__(self, threads: AppThreads) -> None:
        self._threads = threads
        self._way = Way.SIGNED
        self._is_signed = False
        self._person: str | None = None
        self._is_person_known = False
        self._loading_in: int | None = None

    @property
    def person(self) -> str | None:
        """The user whom the request is for; None for a guest. It is loaded once."""
        if not self._is_person_known:
            if self._loading_in == threading.get_ident():
                raise ConfigurationError(
                    "The owner loader uses the thread, but it has to be known whose threads the"
                    " request may use before it can use one. Use the session or the request."
                )
            self._loading_in = threading.get_ident()
            try:
                self._person = self._threads.load_person()
            finally:
                self._loading_in = None
            self._is_person_known = True
        return self._person

    def is_for_another(self, person: str | None) -> bool:
        """Return whether the request was for another user than *person* until now."""
        return self._is_person_known and self._person != person

    def become(self, person: str | None) -> str | None:
        """Make *person* the user of the request, and return the former one."""
        former = self._person
        self._person, self._is_person_known = person, True
        return former

    def prepare_stream(self) -> None:
        """Load the user while the request's context exists."""
        if self._threads.owner_loader is not None:
            # An error is raised again where the user is needed.
            with suppress(ConfigurationError, HTTPException):
                _ = self.person

    def identify(self, current: Request) -> tuple[str, bool]:
        """Return the thread id of *current*, and whether it was generated for this request."""
        threads = self._threads
        if threads.owner_loader is not None:
            _ = self.person
        if threads.has_url_ids and (url_id := url_thread_id(current)):
            self._way = Way.NAMED
            self._is_signed = threads.signed_provider.find_thread_id(current) == url_id
            return str(url_id), False
        given = given_id(threads, current)
        if given is None:
            return threads.signed_provider.identify(current)
        self._way = Way.PROVIDER
        thread_id = require_thread_id(given)
        return thread_id, threads.provider.is_made_now(thread_id, current)

    def check(self, thread_id: str, owner: str | None, *, is_stored: bool) -> str | None:
        guard = ThreadGuard(self._way, self.person, is_signed=self._is_signed)
        return guard.check(thread_id, owner, is_stored=is_stored)


def given_id(threads: AppThreads, current: Request) -> str | None:
    """Return the id that the app's own provider returns for *current*. It is called once."""
    if not threads.has_own_provider:
        return None
    found = current.__dict__
    try:
        given: str | None = found[threads.given_key]
    except KeyError:
        given = found[threads.given_key] = threads.provider.get_thread_id(threads.app, current)
    return given


def another_id(threads: AppThreads, current: Request) -> str:
    """Return the id of another conversation for the request *current*."""
    if given_id(threads, current) is None:
        return make_thread_id()
    return require_thread_id(threads.provider.new_thread_id(threads.app, current))
