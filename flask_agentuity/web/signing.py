"""Signatures of thread ids, and the secrets that they are made with."""

from __future__ import annotations

import binascii
import hmac
import os
import re
import secrets as random_secrets
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .thread_ids import is_thread_id

_SECRET_FILE = "agentuity_secret"
# Both alphabets of base64, as the JavaScript runtime accepts them, with the padding of 32 bytes.
_SIGNATURE = re.compile(r"[a-zA-Z0-9+/_-]{43}=", re.ASCII)


def sign(thread_id: str, secret: bytes) -> str:
    """Return the signature of *thread_id*: HMAC-SHA256 in standard base64, 44 characters."""
    return binascii.b2a_base64(_digest(thread_id, secret), newline=False).decode()


def verify(thread_id: str, signature: str, secrets: Sequence[bytes]) -> bool:
    """Return whether *signature* was made from *thread_id* with one of *secrets*."""
    if not is_thread_id(thread_id) or not _SIGNATURE.fullmatch(signature):
        return False
    try:
        given = binascii.a2b_base64(signature.replace("-", "+").replace("_", "/"))
    except binascii.Error:
        return False
    # Every secret is tried, so that the time does not reveal which one matches.
    matches = [hmac.compare_digest(_digest(thread_id, secret), given) for secret in secrets]
    return any(matches)


def _digest(thread_id: str, secret: bytes) -> bytes:
    return hmac.digest(secret, thread_id.encode(), "sha256")


class AppSecrets:
    """The secrets of one app. The first one signs; each of them verifies.

    They are read from the app's configuration at each call, because it may change while the
    app runs. Calls return the same tuple until it changes.
    """

    def __init__(
        self, own_secret: bytes | None, config: Mapping[str, Any], instance_path: str
    ) -> None:
        """Remember where the secrets come from; nothing is read yet.

        :param own_secret: ``AGENTUITY_THREAD_SECRET``, which takes precedence over
            ``SECRET_KEY``.
        :param config: the app's configuration.
        :param instance_path: the folder of the generated secret that is used without either.
        """
        self._own_secret = own_secret
        self._config = config
        self._path = Path(instance_path) / _SECRET_FILE
        self._generated: bytes | None = None
        # Replaced as a whole, because several threads read it: key, fallbacks, secrets.
        self._known: tuple[object, tuple[object, ...], tuple[bytes, ...]] = (None, (), ())

    def __call__(self) -> tuple[bytes, ...]:
        """Return the secrets.

        :raises ConfigurationError: if no secret is configured and none can be generated.
        """
        key = self._config.get("SECRET_KEY")
        fallbacks = self._config.get("SECRET_KEY_FALLBACKS") or ()
        if fallbacks:
            # A string is one secret: its characters would be secrets that anyone can guess.
            fallbacks = (fallbacks,) if isinstance(fallbacks, (str, bytes)) else tuple(fallbacks)
        known_key, known_fallbacks, known = self._known
        if known and key == known_key and fallbacks == known_fallbacks:
            return known
        found = (self._signing_secret(key), *(_to_bytes(value) for value in fallbacks if value))
        self._known = (key, fallbacks, found)
        return found

    def _signing_secret(self, key: str | bytes | None) -> bytes:
        if secret := self._own_secret or _to_bytes(key):
            return secret
        if self._generated is None:
            self._generated = instance_secret(self._path)
        return self._generated


def instance_secret(path: Path) -> bytes:
    """Return the secret stored at *path*, which the first call generates at random.

    Only the owner of the file can read it. Processes that call this at the same time get
    the same secret.

    :raises ConfigurationError: if the file can be neither read nor created.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            with os.fdopen(descriptor, "w") as file:
                file.write(random_secrets.token_hex(32))
            try:
                # Unlike a rename, a link never replaces what another process has created.
                with suppress(FileExistsError):
                    os.link(made, path)
            finally:
                Path(made).unlink()
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(
            f"The secret that signs thread ids can be neither read from nor written to {path}:"
            f" {error}. Set SECRET_KEY or AGENTUITY_THREAD_SECRET."
        ) from error
    if len(secret) < 32:
        raise ConfigurationError(
            f"{path} does not contain a secret of flask_agentuity. Delete the file to generate a"
            " new secret, or set SECRET_KEY or AGENTUITY_THREAD_SECRET."
        )
    return secret


def _to_bytes(secret: str | bytes | None) -> bytes:
    return secret.encode() if isinstance(secret, str) else secret or b""
