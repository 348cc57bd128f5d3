"""JSON messages that carry encoded values, such as the frames of the wire. Pure functions."""

from __future__ import annotations

from typing import Any

import orjson


def encode_message(message: Any) -> bytes:
    """Return *message* as compact JSON in UTF-8. It is not checked as a state is.

    :raises TypeError: for what JSON cannot hold, such as a lone surrogate.
    """
    return orjson.dumps(message)


def parse_message(text: bytes | bytearray | memoryview | str) -> Any:
    """Return the value that JSON text stands for.

    :raises ValueError: if *text* is not JSON, or nests too deep.
    """
    return orjson.loads(text)


def fragment(encoded: bytes) -> Any:
    """Return what :func:`encode_message` writes as the value that *encoded* stands for."""
    return orjson.Fragment(encoded)
