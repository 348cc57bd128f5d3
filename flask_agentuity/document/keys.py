"""The keys of a state, and how JSON spells them."""

from __future__ import annotations

import orjson

from ..errors import StateNotSerializable

# An app uses few keys, in every request. The first ones are remembered in both spellings, up to
# a number and a length, because visitors may cause others.
_MOST_KEYS, _LONGEST_KEY = 1_000, 100
_encoded_keys: dict[str, bytes] = {}
_decoded_keys: dict[bytes, str] = {}


def encode_key(key: str) -> bytes:
    """Return *key* as a JSON string.

    :raises StateNotSerializable: when it is not a string, or not one that UTF-8 can hold.
    """
    if type(key) is str and (known := _encoded_keys.get(key)) is not None:
        return known
    require_key(key)
    encoded = orjson.dumps(key)
    _remember_key(key, encoded)
    return encoded


def decode_key(encoded: bytes) -> str:
    """Return the key that a JSON string stands for.

    :raises ValueError: when *encoded* is not a JSON string.
    """
    if (known := _decoded_keys.get(encoded)) is not None:
        return known
    key = orjson.loads(encoded)
    if not isinstance(key, str):
        raise ValueError("a key is not a string")
    _remember_key(key, encoded)
    return key


def _remember_key(key: str, encoded: bytes) -> None:
    is_short = len(encoded) <= _LONGEST_KEY and len(_encoded_keys) < _MOST_KEYS
    # Stored keys may be spelled in other ways than this encoder does.
    if is_short and orjson.dumps(key) == encoded:
        _encoded_keys[key] = encoded
        _decoded_keys[encoded] = key


def require_key(key: object) -> None:
    """Refuse a key of a state that is not a plain string of valid Unicode."""
    if type(key) is not str:
        raise StateNotSerializable(
            f"state[{key!r}]", f"a key must be a string, not {type(key).__name__}"
        )
    try:
        key.encode()
    except UnicodeEncodeError:
        raise StateNotSerializable(f"state[{key!r}]", "the key holds a lone surrogate") from None
