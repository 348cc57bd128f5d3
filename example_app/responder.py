"""Answers without a language model. Call your model in :func:`respond` instead."""

import time
from collections.abc import Iterator, Sequence
from typing import Any


def respond(history: Sequence[dict[str, Any]], pause: float = 0.04) -> Iterator[str]:
    """Yield the answer to the last message of *history*, word by word.

    :param pause: seconds before each word, as if a model were generating it.
    """
    said = [message["content"] for message in history if message["role"] == "user"]
    answer = f"You said “{said[-1]}”."
    if len(said) > 1:
        answer += f" Before that, “{said[-2]}”, and your first message was “{said[0]}”."
    answer += f" I remember {len(said)} turn{'s' if len(said) > 1 else ''} of this conversation."
    for word in answer.split(" "):
        time.sleep(pause)
        yield word + " "
