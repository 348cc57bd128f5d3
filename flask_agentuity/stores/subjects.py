"""How errors of stores name what they concern: one thread, or all of them."""

from __future__ import annotations

#: Stands for the id of a thread where a call concerns no single one.
ALL_THREADS = "(all)"


def subject(thread_id: str) -> str:
    """Return the words for a thread in an error, or for :data:`ALL_THREADS`."""
    return "the threads" if thread_id == ALL_THREADS else f"thread {thread_id}"
