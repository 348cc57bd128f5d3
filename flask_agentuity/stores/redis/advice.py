"""Warnings about settings of Redis with which threads may be lost."""

from __future__ import annotations

from typing import Any

from .reading import pairs


def advise(memory: Any, persistence: Any, save: Any, *, expires: bool) -> list[str]:
    """Return warnings, each with how to correct it.

    :param memory: what Redis answers to ``INFO memory``, or an error.
    :param persistence: what it answers to ``INFO persistence``, or an error.
    :param save: what it answers to ``CONFIG GET save``, or an error.
    :param expires: whether threads expire.
    """
    found = []
    if not isinstance(memory, bytes) or not isinstance(persistence, bytes):
        found.append(
            "It is unknown whether Redis removes threads when its memory is full, and what it"
            " keeps on disk: its user has no permission for INFO."
        )
    policy = _line_of(memory, b"maxmemory_policy")
    spares = policy == "noeviction" or (policy.startswith("volatile") and not expires)
    if policy and not spares and _line_of(memory, b"maxmemory") != "0":
        found.append(
            f"Redis removes threads when its memory is full (maxmemory-policy {policy})."
            " Set it to noeviction: then writing fails, and nothing is lost."
        )
    # A hosted Redis may refuse to answer.
    saves = isinstance(save, Exception) or any(pairs(save).values())
    if _line_of(persistence, b"aof_enabled") == "0" and not saves:
        found.append(
            "Redis keeps nothing on disk, so threads are lost when it stops. Set appendonly yes."
        )
    return found


def _line_of(info: Any, name: bytes) -> str:
    """Return a value of a reply to INFO; an empty text if it is not there."""
    if isinstance(info, bytes):
        for line in info.splitlines():
            known, _, value = line.partition(b":")
            if known == name:
                return value.decode(errors="replace")
    return ""
