"""How a thread is printed: its metadata, its messages and its other values."""

from __future__ import annotations

from typing import Any

from .output import escape_line, print_text, to_json


class Conversation:
    """Prints a thread, and at each further update only what is new."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._lists: dict[str, list[Any]] = {}
        self._keys: list[str] = []
        self._heading: str | None = None

    def update(self, document: dict[str, Any]) -> None:
        """Print what is new in *document*, a mapping with ``state`` and ``metadata``."""
        if document["metadata"] or "metadata" in self._lines:
            self._print_line("metadata", f"metadata: {to_json(document['metadata'])}")
        for key, value in document["state"].items():
            if isinstance(value, list) and (value or self._lists.get(key)):
                self._print_list(key, value)
            else:
                self._print_line(f"state {key}", f"{escape_line(key)}: {to_json(value)}")
        for key in [key for key in self._keys if key not in document["state"]]:
            self._lists.pop(key, None)
            self._lines.pop(f"state {key}", None)
            self._heading = None
            print_text(f"{escape_line(key)} was deleted.")
        self._keys = [*document["state"]]

    def _print_line(self, name: str, line: str) -> None:
        if self._lines.get(name) != line:
            self._lines[name] = line
            self._heading = None
            print_text(line)

    def _print_list(self, key: str, value: list[Any]) -> None:
        added = _added(self._lists.get(key, []), value)
        self._lists[key] = value
        if added and self._heading != key:
            self._heading = key
            print_text(f"\n{escape_line(key)}", bold=True)
        for item in added:
            # Further lines of an item are indented more, so no content can imitate a message.
            print_text("  " + _describe(item).replace("\n", "\n    "))


def _added(before: list[Any], now: list[Any]) -> list[Any]:
    """Return the items that *now* has after those of *before*, which may have lost its first."""
    for gone in range(len(before)):
        kept = len(before) - gone
        if now[:kept] == before[gone:]:
            return now[kept:]
    return now


def _describe(item: Any) -> str:
    if isinstance(item, dict) and isinstance(item.get("content"), str) and "role" in item:
        rest = {key: value for key, value in item.items() if key not in ("role", "content")}
        more = f"\n{to_json(rest)}" if rest else ""
        return f"{item['role']}: {item['content']}{more}"
    return to_json(item)
