"""HTTP calls to the service, beside the WebSocket: session reports, and listing threads."""

from __future__ import annotations

from .endpoint import HTTPEndpoint, HTTPReply, base_of

__all__ = ["HTTPEndpoint", "HTTPReply", "base_of"]
