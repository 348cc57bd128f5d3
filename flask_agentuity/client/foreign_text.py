"""Text that the service or the network supplied, made safe for logs and error messages."""

from __future__ import annotations

import unicodedata

from ..wire import limits

# Control characters, invisible formatting (which includes changes of the text direction), lone
# surrogates, and separators of lines and paragraphs.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str, secret: str | None = None) -> str:
    r"""Return *text* on one line, with control characters as escapes such as ``\x1b``.

    *secret* is replaced by ``<key>``. Text beyond the limit for errors is cut off.
    """
    if secret:
        text = text.replace(secret, "<key>")
    text = text[: limits.MAX_ERROR_LENGTH]
    if text.isprintable():
        return text
    return "".join(_escaped(each) for each in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) in _UNSAFE:
        return character.encode("unicode_escape").decode()
    return character
