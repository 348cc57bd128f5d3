"""The keys that a service takes, and what each of them may see."""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from ..errors import ConfigurationError

# Changing any of these hides every stored thread from its key.
_SALT = b"flask-agentuity thread service"
_ROUNDS = 100_000
_NAMESPACE_BYTES = 10

_PREFIX = "thrd_"


class Keys:
    """Says which keys are good. Neither they nor their digests are ever shown."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Take the *keys*; one that is there twice counts once.

        :raises ConfigurationError: when there is none, or one is empty or no valid text.
        """
        self._digests: list[bytes] = []
        for key in dict.fromkeys(keys):
            if not isinstance(key, str) or not key.strip():
                raise ConfigurationError("A key of the thread service must be a text, not empty.")
            try:
                self._digests.append(_digest(key))
            except UnicodeEncodeError:
                raise ConfigurationError(
                    "A key of the thread service must be text that UTF-8 can hold."
                ) from None
        if not self._digests:
            raise ConfigurationError("A thread service needs a key at least.")

    def __len__(self) -> int:
        return len(self._digests)

    def accepts(self, key: str) -> bool:
        """Say whether *key* is good, in a time that tells nothing of the good ones."""
        given = _digest(key)
        found = False
        # Each is compared, also after one was found.
        for digest in self._digests:
            found |= hmac.compare_digest(given, digest)
        return found


def read_keys(path: str | Path) -> list[str]:
    """Return the keys of a file with one on each line; empty lines count for nothing.

    :raises ConfigurationError: when the file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The key file {path} cannot be read: {error}") from None
    return [line.strip() for line in lines if line.strip()]


@functools.cache
def namespace_of(key: str) -> str:
    """Return what the store has in place of *key*: 20 hexadecimal digits.

    They depend on the key alone, so its threads are found whatever other keys there are.
    Slow on purpose (PBKDF2): a short key could otherwise be guessed from them.
    """
    derived = hashlib.pbkdf2_hmac("sha256", key.encode(), _SALT, _ROUNDS, _NAMESPACE_BYTES)
    return derived.hex()


def stored_id(namespace: str, thread_id: str) -> str:
    """Return the id that the store knows a client's thread by.

    Clients may name a thread anything; the store gets only what a URL or a file name can
    hold. A thread id of the usual 37 characters stays a valid thread id.
    """
    if thread_id.startswith(_PREFIX):
        return f"{_PREFIX}{namespace}-{quote(thread_id[len(_PREFIX) :], safe='')}"
    return f"{namespace}-{quote(thread_id, safe='')}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
