"""Warnings of secrets that can be guessed."""

from __future__ import annotations

#: The fewest characters of a secret. A thread service refuses a shorter key.
SHORTEST_SECRET = 16

_OFFLINE = (
    "It signs the thread ids in cookies, so anyone who has one cookie can guess it, without"
    " sending requests to the app."
)
_MAKE_ONE = 'Make one with: python -c "import secrets; print(secrets.token_urlsafe())"'


def find_guessable(sdk_key: str | None, secret: bytes | None) -> list[str]:
    """Return a warning for a key or a secret that is too short.

    :param secret: what signs thread ids; the key if no other is configured.
    """
    warnings = []
    signs = sdk_key is not None and secret == sdk_key.encode()
    if sdk_key is not None and len(sdk_key.strip()) < SHORTEST_SECRET:
        reason = _OFFLINE if signs else "It can be guessed."
        warnings.append(_too_short("AGENTUITY_SDK_KEY", reason))
    if secret is not None and not signs and len(secret.strip()) < SHORTEST_SECRET:
        warnings.append(_too_short("AGENTUITY_THREAD_SECRET", _OFFLINE))
    return warnings


def _too_short(name: str, reason: str) -> str:
    return f"{name} has fewer than {SHORTEST_SECRET} characters. {reason} {_MAKE_ONE}"
