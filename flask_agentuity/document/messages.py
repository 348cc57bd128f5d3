"""JSON messages that contain encoded values, such as frames. Pure functions."""

from __future__ import annotations

from typing import Any

import orjson

from .unusual import parse


def encode_message(message: Any) -> bytes:
    """Return *message* as compact JSON in UTF-8. It is not checked as a state is.

    :raises TypeError: for anything that is not JSON, such as an unpaired surrogate.
    """
    return orjson.dumps(message)


def parse_message(text: bytes | bytearray | memoryview | str) -> Any:
    """Return the value that JSON text stands for.

    :raises ValueError: if *text* is not JSON, or too deeply nested.
    """
    return orjson.loads(text)


def parse_any_message(text: bytes | bytearray | memoryview | str) -> Any:
    """Return the value that JSON text stands for, also if it is unusual.

    It takes longer if the text is deeply nested, or has unpaired surrogates.

    :raises ValueError: if *text* is not JSON.
    """
    try:
        return orjson.loads(text)
    except ValueError as error:
        try:
            return parse(text if isinstance(text, str) else bytes(text))
        except ValueError:
            raise error from None


def fragment(encoded: bytes) -> Any:
    """Return a value for :func:`encode_message` that is written as the JSON text *encoded*."""
    # It takes bytes only, no subclass.
    return orjson.Fragment(encoded if encoded.__class__ is bytes else bytes(encoded))
