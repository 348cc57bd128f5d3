"""A report for tests of how reports are sent."""

from __future__ import annotations

from typing import Any

from flask_agentuity.client.sessions import Report


class ReportOf(Report):
    """A report whose two messages have the same id."""

    __slots__ = ("id",)

    def __init__(self, id: str) -> None:
        super().__init__()
        self.id = id

    def compose_start(self) -> dict[str, Any]:
        return {"id": self.id}

    compose_end = compose_start
