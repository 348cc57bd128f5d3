"""Answers without a model: put yours in place of :func:`respond`."""

import time
from collections.abc import Iterator, Sequence
from typing import Any


def respond(history: Sequence[dict[str, Any]], pause: float = 0.04) -> Iterator[str]:
    """Yield the answer to the last message of *history*, a word at a time.

    :param pause: seconds between two words, as if they were thought of just now.
    """
    said = [message["content"] for message in history if message["role"] == "user"]
    answer = f"You said “{said[-1]}”."
    if len(said) > 1:
        answer += f" Before that, “{said[-2]}”, and your first words to me were “{said[0]}”."
    answer += f" I remember {len(said)} turn{'s' if len(said) > 1 else ''} of this conversation."
    for word in answer.split(" "):
        yield word + " "
        time.sleep(pause)
