"""The keys that a service accepts, and what each of them may see."""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from ..errors import ConfigurationError

#: The fewest characters of a key: a shorter one can be guessed.
SHORTEST_KEY = 16

# Changing any of these hides every stored thread from its key.
_SALT = b"flask-agentuity thread service"
_ROUNDS = 100_000
_NAMESPACE_BYTES = 10

_PREFIX = "thrd_"


class Keys:
    """Says which keys are accepted. Neither keys nor their digests are shown anywhere."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Accept the *keys*. One that is given twice counts once.

        :raises ConfigurationError: if there is none, or one is too short or not valid text.
        """
        self._digests: list[bytes] = []
        for key in dict.fromkeys(keys):
            if not isinstance(key, str) or len(key.strip()) < SHORTEST_KEY:
                raise ConfigurationError(
                    f"A key of the thread service must have at least {SHORTEST_KEY} characters."
                    ' Make one with: python -c "import secrets; print(secrets.token_urlsafe())"'
                )
            try:
                self._digests.append(_digest(key))
            except UnicodeEncodeError:
                raise ConfigurationError(
                    "A key of the thread service must be text that UTF-8 can hold."
                ) from None
        if not self._digests:
            raise ConfigurationError("A thread service needs at least one key.")

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._digests)

    def accepts(self, key: str) -> bool:
        """Return whether *key* is accepted, in a time that does not depend on the keys."""
        given = _digest(key)
        found = False
        # All are compared, even after one was found.
        for digest in self._digests:
            found |= hmac.compare_digest(given, digest)
        return found


def read_keys(path: str | Path) -> list[str]:
    """Return the keys of a file with one key per line. Empty lines are ignored.

    :raises ConfigurationError: if the file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The key file {path} cannot be read: {error}") from None
    return [line.strip() for line in lines if line.strip()]


@functools.cache
def namespace_of(key: str) -> str:
    """Return the namespace of *key* in the store: 20 hexadecimal digits.

    It depends on the key alone, so the threads of a key do not depend on the other keys. It is
    slow to compute on purpose (PBKDF2), so that a key cannot be guessed from it.
    """
    derived = hashlib.pbkdf2_hmac("sha256", key.encode(), _SALT, _ROUNDS, _NAMESPACE_BYTES)
    return derived.hex()


def stored_id(namespace: str, thread_id: str) -> str:
    """Return the id under which the store keeps a client's thread.

    Clients may use any text as an id; the store gets only characters that a URL or a file name
    can hold. From an id of the usual 37 characters this makes a valid thread id.
    """
    if thread_id.startswith(_PREFIX):
        return f"{_PREFIX}{namespace}-{quote(thread_id[len(_PREFIX) :], safe='')}"
    return f"{namespace}-{quote(thread_id, safe='')}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
