"""The keys of a state, and how they are written in JSON."""

from __future__ import annotations

import orjson

from ..errors import StateNotSerializable
from .unusual import parse
from .well_formed import well_formed

# An app uses the same few keys in every request. The first ones are remembered, encoded and
# decoded, up to a number and a length, because visitors may cause others.
_MOST_KEYS, _LONGEST_KEY = 1_000, 100
_encoded_keys: dict[str, bytes] = {}
_decoded_keys: dict[bytes, str] = {}


def encode_key(key: str) -> bytes:
    """Return *key* as a JSON string.

    :raises StateNotSerializable: when it is not a string.
    """
    if type(key) is str and (known := _encoded_keys.get(key)) is not None:
        return known
    # A copy, because orjson gives each result a kilobyte, which shrinking it does not return.
    encoded = memoryview(orjson.dumps(require_key(key))).tobytes()
    _remember_key(key, encoded)
    return encoded


def decode_key(encoded: bytes) -> str:
    """Decode the JSON string of a key.

    :raises ValueError: when *encoded* is not a JSON string.
    """
    if (known := _decoded_keys.get(encoded)) is not None:
        return known
    key = decode_key_once(encoded)
    _remember_key(key, encoded)
    return key


def encode_key_once(key: str) -> bytes:
    """Return *key* as a JSON string, which is not remembered.

    :raises TypeError: when it has an unpaired surrogate.
    """
    return orjson.dumps(key)


def decode_key_once(encoded: bytes) -> str:
    """Like :func:`decode_key`, for one of many keys: it is not remembered.

    :raises ValueError: when *encoded* is not a JSON string.
    """
    try:
        key = orjson.loads(encoded)
    except ValueError:
        key = parse(encoded)
    if not isinstance(key, str):
        raise ValueError("a key is not a string")
    return key


def _remember_key(key: str, encoded: bytes) -> None:
    is_short = len(encoded) <= _LONGEST_KEY and len(_encoded_keys) < _MOST_KEYS
    # Stored keys may be written in other ways than by this encoder, and orjson refuses a key
    # with an unpaired surrogate.
    if is_short and well_formed(key) == key and orjson.dumps(key) == encoded:
        _encoded_keys[key] = encoded
        _decoded_keys[encoded] = key


def require_key(key: object) -> str:
    """Return a key of a state as it is stored; an unpaired surrogate becomes U+FFFD.

    :raises StateNotSerializable: when it is not a plain string.
    """
    if type(key) is not str:
        raise StateNotSerializable(
            f"state[{key!r}]", f"a key must be a string, not {type(key).__name__}"
        )
    return key if key.isascii() else well_formed(key)
