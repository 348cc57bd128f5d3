"""Lists as segments: items that are stored together, up to a number of bytes."""

from __future__ import annotations

from collections.abc import Sequence


def pack(items: Sequence[bytes], separator: bytes, most_bytes: int) -> list[tuple[int, bytes]]:
    """Join *items* into as few segments as hold them, each with its number of items.

    A segment is over *most_bytes* only where a single item is. *separator* is one byte.
    """
    packed: list[tuple[int, bytes]] = []
    run: list[bytes] = []
    size = 0
    for item in items:
        if run and size + len(item) > most_bytes:
            packed.append((len(run), separator.join(run)))
            run, size = [], 0
        run.append(item)
        size += len(item) + 1
    if run:
        packed.append((len(run), separator.join(run)))
    return packed
