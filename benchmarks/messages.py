"""The messages that every system is given: about 190 bytes each, and hardly two alike."""

from __future__ import annotations

import random

Message = dict[str, str]

TITLE = "A title"
_WORDS = ("thread", "keeps", "what", "was", "said", "so", "answer", "knows", "question", "before")
_TEXTS = [" ".join(random.Random(number).choices(_WORDS, k=40))[:143] for number in range(1_000)]


def message(number: int) -> Message:
    """Return message *number* of a chat."""
    role = "assistant" if number % 2 else "user"
    return {"role": role, "content": f"{number:06d} {_TEXTS[number % 1_000]}"}


def token(number: int) -> str:
    """Return part *number* of an answer that is streamed."""
    return " " + _WORDS[number % len(_WORDS)]


def history(length: int) -> list[Message]:
    """Return the first *length* messages of a chat."""
    return [message(number) for number in range(length)]
