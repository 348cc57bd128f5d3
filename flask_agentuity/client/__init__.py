"""A client of the thread service: one WebSocket for a process, usable without Flask."""

from __future__ import annotations

from .client import ThreadClient
from .request import FeatureMissing, ServiceRefusal

__all__ = ["FeatureMissing", "ServiceRefusal", "ThreadClient"]
