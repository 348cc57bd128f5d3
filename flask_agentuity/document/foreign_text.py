"""Making text from others safe for logs, error messages and terminals."""

from __future__ import annotations

import unicodedata

#: The longest text that is shown, in characters.
MAX_SHOWN = 1000

# Control characters, invisible formatting (which includes changes of the text direction), lone
# surrogates, and separators of lines and paragraphs.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str, secret: str | None = None) -> str:
    r"""Return *text* on one line, with control characters as escapes such as ``\x1b``.

    *secret* is replaced by ``<key>``. Text beyond :data:`MAX_SHOWN` is cut off.
    """
    if secret:
        text = text.replace(secret, "<key>")
    text = text[:MAX_SHOWN]
    if text.isprintable():
        return text
    return "".join(_escaped(each) for each in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) in _UNSAFE:
        return character.encode("unicode_escape").decode()
    return character
