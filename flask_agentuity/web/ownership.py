"""Whether a request may use a thread: one function decides, however the request got the id.

A thread that a person began belongs to that person; a thread that a guest began has no owner. A
thread that a request may not use is as if it did not exist.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, assert_never

from werkzeug.exceptions import HTTPException

from ..errors import ConfigurationError, ThreadNotFound
from ..stores.listing import require_owner
from .thread_ids import make_thread_id

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger("flask_agentuity")

#: What an app registers with ``owner_loader``.
OwnerLoader = Callable[[], str | int | None]


class Way(Enum):
    """How a request comes to the id of a thread."""

    #: A signed cookie or header: the client was given the id.
    SIGNED = "signed"
    #: The app's own thread ID provider.
    PROVIDER = "provider"
    #: An id that anyone can write: in a URL, or as an argument of select, fork or delete.
    NAMED = "named"
    #: The conversation of a guest, which the person who has logged in takes over.
    CLAIM = "claim"


def may_use(
    way: Way, person: str | None, owner: str | None, *, is_stored: bool, is_signed: bool
) -> bool:
    """Return whether a request may use a thread.

    :param person: for whom the request works; None for a guest.
    :param owner: whom the thread belongs to; None if it has no owner, or is not stored.
    :param is_stored: whether the thread exists.
    :param is_signed: whether the signed cookie or header of the request is for this thread.
    """
    if owner is not None:
        return owner == person
    match way:
        case Way.SIGNED:
            # A person does not continue what a guest began, unless the app says so with
            # claim(): the cookie may have been planted by someone who knows it too.
            return person is None or not is_stored
        case Way.PROVIDER:
            return True
        case Way.NAMED:
            return is_signed and (person is None or not is_stored)
        case Way.CLAIM:
            return is_signed
        case _:
            assert_never(way)


class ThreadGuard:
    """Decides about one thread for one request, with :func:`may_use`."""

    def __init__(
        self, way: Way, person: str | None, *, has_owners: bool = True, is_signed: bool = False
    ) -> None:
        """Create the guard of a thread.

        :param has_owners: whether the app has an owner loader. Without one, a thread that is
            named only has to exist.
        """
        self.person = person
        self._way = way
        self._has_owners = has_owners
        self._is_signed = is_signed

    def check(self, thread_id: str, owner: str | None, *, is_stored: bool) -> str | None:
        """Return None if the request may use the thread, else the id of a new one.

        :raises ThreadNotFound: if it may not use a thread that was named.
        """
        if not self._has_owners:
            allowed = is_stored
        else:
            allowed = may_use(
                self._way, self.person, owner, is_stored=is_stored, is_signed=self._is_signed
            )
        if allowed:
            return None
        if self._way is Way.NAMED:
            raise ThreadNotFound(thread_id)
        if self._way is Way.PROVIDER:
            logger.warning(
                "The thread ID provider has returned the id of a thread that belongs to another"
                " owner. The request gets a new thread."
            )
        return make_thread_id()


def load_owner(app: Flask, loader: OwnerLoader) -> str | None:
    """Return the id of the current person; None for a guest.

    :raises ConfigurationError: if *loader* raises, or returns something else.
    """
    name = getattr(loader, "__qualname__", repr(loader))
    must = "It must return the id of the current user, a string or an integer, or None."
    try:
        person: object = app.ensure_sync(loader)()
    except HTTPException:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"The owner loader {name} raised {type(error).__name__}: {error}"
        ) from error
    if person is None:
        return None
    if isinstance(person, bool) or not isinstance(person, str | int):
        raise ConfigurationError(
            f"The owner loader {name} returned a {type(person).__name__}. {must}"
        )
    owner = str(person)
    try:
        require_owner(owner)
    except ValueError as error:
        raise ConfigurationError(f"The owner loader {name} returned {person!r}: {error}") from None
    return owner
