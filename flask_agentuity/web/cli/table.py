"""Tables on a terminal, and how durations and sizes are written in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .output import escape_line, print_text

_UNITS = ((86_400 * 365, "years"), (86_400, "days"), (3_600, "hours"), (60, "min"), (1, "s"))
_SIZES = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "KB"))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print *rows* in columns; the first is the header. The last column can be of any width."""
    lines = [[escape_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = [cell.ljust(width) for cell, width in zip(line[:-1], widths[:-1], strict=True)]
        print_text("  ".join([*cells, line[-1]]).rstrip(), bold=not number)


def to_duration(seconds: float) -> str:
    """Return a number of seconds, rounded to the largest unit of which there are two."""
    if not math.isfinite(seconds):
        return "unknown"
    for size, unit in _UNITS:
        if round(seconds / size) >= 2:
            return f"{round(seconds / size):,} {unit}"
    return f"{max(0, round(seconds))} s"


def to_size(size: int) -> str:
    """Return a number of bytes, as ``5.1 KB``."""
    for unit_size, unit in _SIZES:
        if size >= unit_size:
            return f"{size / unit_size:,.1f} {unit}"
    return f"{size} bytes"
