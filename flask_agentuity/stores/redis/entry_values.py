"""The values of entries, from their fields and their strings."""

from __future__ import annotations

from collections.abc import Mapping

from ...document import codec


def value_of(key: bytes, rest: bytes, strings: Mapping[bytes, bytes | None]) -> bytes | None:
    """Return the value of an entry; None if its string was not read.

    :param rest: the text of the entry behind its two numbers.
    :param strings: the strings that were read, by encoded keys.
    :raises ValueError: if the entry is damaged.
    """
    kind, known = rest[:1], rest[1:]
    if kind == b"=":
        return known
    if known.startswith(b"2 0 "):
        return codec.EMPTY_LIST
    if key not in strings:
        return None
    text = _present(strings[key])
    if kind == b"*":
        return _of_size(text, int(known))
    size, _, dead, tail = map(int, known.split(b" "))
    if len(text) != dead + size - 2 + tail:
        raise ValueError("a list does not have its stored size")
    # Usually the list is the whole string. A long text is then copied only once.
    if size == len(text):
        return text.replace(b"\n", b",")
    return b"[%b]" % text[dead : dead + size - 2].replace(b"\n", b",")


def former_value_of(key: bytes, rest: bytes, strings: Mapping[bytes, bytes | None]) -> bytes | None:
    """Like :func:`value_of`, for an entry in the former format, behind its number."""
    kind, known = rest[:1], rest[1:]
    if kind == b"=":
        return known
    if kind == b"[" and known == b"2":
        return codec.EMPTY_LIST
    if key not in strings:
        return None
    text = _present(strings[key])
    if kind == b"|":
        known, _, dead = known.split()
        text = text[int(dead) :].replace(b"\n", b",")
    return _of_size(text if kind == b"*" else b"[%b]" % text, int(known))


def _present(text: bytes | None) -> bytes:
    if text is None:
        raise ValueError("the string of a value is missing")
    return text


def _of_size(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise ValueError("a value does not have its stored size")
    return value
