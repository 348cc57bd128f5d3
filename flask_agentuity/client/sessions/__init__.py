"""Reports of sessions: sent over HTTP in the background, so that no request waits for them."""

from __future__ import annotations

from .queue import Report, Stage
from .reports import SessionReports

__all__ = ["Report", "SessionReports", "Stage"]
