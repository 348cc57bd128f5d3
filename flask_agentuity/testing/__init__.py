"""Tools for testing an app that uses threads."""

from __future__ import annotations

from .client import ThreadTestClient

__all__ = ["ThreadTestClient"]
