"""The tenants of a service: each key has its own threads."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from urllib.parse import quote, unquote

from ..errors import ConfigurationError
from ..stores.base import ThreadStore

# If any of these is changed, no key finds its stored threads.
_SALT = b"flask-agentuity thread service"
_ROUNDS = 100_000
_NAMESPACE_BYTES = 10

_PREFIX = "thrd_"


@dataclass(frozen=True)
class Tenant:
    """Whose threads a client sees.

    ``name`` is what logs call it. ``namespace`` is None for an app's own key, whose threads are
    those of the app. ``lists`` says whether the store can list them apart from those of others.
    """

    name: str
    store: ThreadStore
    namespace: str | None
    lists: bool = False

    @property
    def owner(self) -> str | None:
        """The owner of the tenant's threads in a store that keeps owners."""
        return self.namespace if self.store.owners else None

    def stored_id(self, thread_id: str) -> str:
        """Return the id under which the store keeps a client's thread."""
        if self.namespace is not None:
            return stored_id(self.namespace, thread_id)
        # The ids of an app are printable. Others must not forge lines of its log.
        return thread_id if thread_id.isprintable() else quote(thread_id, safe="")

    def client_id(self, stored: str) -> str:
        """Return the id by which the client knows a thread that it sees."""
        if self.namespace is None:
            return stored
        if stored.startswith(_PREFIX):
            return _PREFIX + unquote(stored.removeprefix(f"{_PREFIX}{self.namespace}-"))
        return unquote(stored.removeprefix(f"{self.namespace}-"))


def require_apart(store: ThreadStore) -> None:
    """Refuse a store that keeps the threads of tenants among those of the app.

    :raises ConfigurationError: if it does.
    """
    if shares_with_tenants(store):
        raise ConfigurationError(
            f"{store.__class__.__name__} would keep the threads of other keys among those of the"
            " app, whose listings and exports would contain them. Override its for_tenants(), or"
            " accept only the app's own key, AGENTUITY_SDK_KEY."
        )


def shares_with_tenants(store: ThreadStore) -> bool:
    """Return whether the threads of tenants are kept in *store* itself."""
    # A store with telemetry passes on the method of another one.
    return getattr(store.for_tenants, "__func__", None) is ThreadStore.for_tenants


@functools.cache
def namespace_of(key: str) -> str:
    """Return the namespace of *key* in the store: 20 hexadecimal digits.

    It depends on the key alone, so the threads of a key do not depend on the other keys. It is
    slow to compute on purpose (PBKDF2), so that a key cannot be guessed from it.
    """
    derived = hashlib.pbkdf2_hmac("sha256", key.encode(), _SALT, _ROUNDS, _NAMESPACE_BYTES)
    return derived.hex()


def stored_id(namespace: str, thread_id: str) -> str:
    """Return the id under which the store keeps a tenant's thread.

    Clients may use any text as an id; the store gets only characters that a URL or a file name
    can hold. From an id of the usual 37 characters this makes a valid thread id.
    """
    if thread_id.startswith(_PREFIX):
        return f"{_PREFIX}{namespace}-{quote(thread_id[len(_PREFIX) :], safe='')}"
    return f"{namespace}-{quote(thread_id, safe='')}"
