"""The keys that a service accepts."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import ConfigurationError

#: The fewest characters of a key: a shorter one can be guessed.
SHORTEST_KEY = 16

#: More keys, separated by white space. Other users can see a command line.
KEYS_VARIABLE = "AGENTUITY_SERVICE_KEYS"

#: A command that prints a good key.
HOW_TO_MAKE_A_KEY = 'python -c "import secrets; print(secrets.token_urlsafe())"'


class Keys:
    """Checks keys. Neither keys nor their digests are shown anywhere."""

    def __init__(self, keys: Iterable[str], own: str | None = None) -> None:
        """Accept the *keys*, and *own*, an app's own key. Duplicates count once.

        :raises ConfigurationError: if there is none, or if one is too short or not valid text.
        """
        self._digests: list[bytes] = []
        for key in dict.fromkeys((*keys, own) if own is not None else keys):
            if not isinstance(key, str) or len(key.strip()) < SHORTEST_KEY:
                raise ConfigurationError(
                    f"A key of the thread service must have at least {SHORTEST_KEY} characters."
                    f" Make one with: {HOW_TO_MAKE_A_KEY}"
                )
            if key != key.strip() or any(each < " " or each == "\x7f" for each in key):
                # Clients cannot send it.
                raise ConfigurationError(
                    "A key of the thread service must not begin or end with white space, such as"
                    " the newline at the end of a file, or contain control characters."
                )
            try:
                self._digests.append(_digest(key))
            except UnicodeEncodeError:
                raise ConfigurationError(
                    "A key of the thread service must be valid Unicode text."
                ) from None
        self._own = None if own is None else _digest(own)
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

    @property
    def has_own(self) -> bool:
        """Whether one of them is an app's own."""
        return self._own is not None

    def is_own(self, key: str) -> bool:
        """Return whether *key* is the app's own."""
        return self._own is not None and hmac.compare_digest(_digest(key), self._own)


def gather_keys(keys: Iterable[str], files: Iterable[str], own: str | None = None) -> list[str]:
    """Return the *keys*, those in *files*, and those in the environment.

    :param own: an app's own key. With it, no other key is needed.
    :raises ConfigurationError: if there is none at all, or a file cannot be read.
    """
    found = [*keys, *os.environ.get(KEYS_VARIABLE, "").split()]
    for path in files:
        found.extend(read_keys(path))
    if not found and own is None:
        raise ConfigurationError(
            f"A thread service needs a key: set {KEYS_VARIABLE}, or use --key-file FILE or --key"
            " KEY; flask threads serve also takes the app's own key, AGENTUITY_SDK_KEY."
            f" Make one with: {HOW_TO_MAKE_A_KEY}"
        )
    return found


def read_keys(path: str | Path) -> list[str]:
    """Return the keys of a file with one key per line.

    Empty lines and lines that begin with ``#`` are skipped.

    :raises ConfigurationError: if the file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The key file {path} cannot be read: {error}") from None
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
