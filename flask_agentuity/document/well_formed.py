"""Text without unpaired surrogates, as JavaScript's ``toWellFormed()`` makes it.

Python's strings can have them, but UTF-8 cannot. JavaScript's ``slice()`` can make them, and JSON
can contain them as escapes. Pure functions.
"""

from __future__ import annotations

from typing import Any


def well_formed(text: str) -> str:
    """Return *text* with unpaired surrogates as U+FFFD, and pairs as one character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def make_well_formed(value: Any) -> Any:
    """Return a copy of *value* whose texts and keys are well-formed.

    If two keys become equal, the later value is kept. Anything that is not JSON is not changed.
    """
    result: list[Any] = [value]
    # Recursion would limit the depth. The places of a container are visited in their order.
    waiting: list[tuple[Any, Any]] = [(result, 0)]
    while waiting:
        target, place = waiting.pop()
        part = target[place]
        if isinstance(part, str):
            target[place] = well_formed(part)
        elif isinstance(part, dict):
            copied: Any = {}
            for key, item in part.items():
                copied[well_formed(key) if isinstance(key, str) else key] = item
            target[place] = copied
            waiting.extend((copied, key) for key in reversed(copied))
        elif isinstance(part, list) or type(part) is tuple:
            copied = list(part)
            target[place] = copied
            waiting.extend((copied, index) for index in range(len(copied) - 1, -1, -1))
    return result[0]
