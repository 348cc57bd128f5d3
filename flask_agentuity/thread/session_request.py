"""What a session tells about its request."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal


class SessionRequest:
    """What a session tells about its request: its method, path, trigger and beginning.

    Most requests are asked for none of it, so it is found out when it is needed. The WSGI
    environment is not kept, because it refers to the body of the request.
    """

    __slots__ = ("_began", "_path_info", "_script_name", "_upgrade", "method")

    def __init__(self, environ: Mapping[str, Any], began: float | None) -> None:
        """Note what is needed of a WSGI *environ*.

        :param began: when the request began, by :func:`time.monotonic`; None for now.
        """
        get = environ.get
        #: The HTTP method.
        self.method: str = get("REQUEST_METHOD", "GET")
        self._script_name: str = get("SCRIPT_NAME", "")
        self._path_info: str = get("PATH_INFO", "")
        self._upgrade: str | None = get("HTTP_UPGRADE")
        self._began = time.monotonic() if began is None else began

    @property
    def path(self) -> str:
        """The path, decoded and without the query."""
        path = self._script_name + self._path_info
        if not path.isascii():
            # WSGI decodes bytes with this encoding.
            path = path.encode("latin-1", "replace").decode(errors="replace")
        return path or "/"

    @property
    def trigger(self) -> Literal["api", "websocket"]:
        """How the request came: by HTTP, or as the handshake of a WebSocket."""
        is_websocket = self._upgrade is not None and self._upgrade.lower() == "websocket"
        return "websocket" if is_websocket else "api"

    @property
    def began(self) -> float:
        """When the request began, in seconds since 1970."""
        return time.time() - (time.monotonic() - self._began)
