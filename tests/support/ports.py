"""Free ports of this machine."""

from __future__ import annotations

import socket
from contextlib import closing


def free_port() -> int:
    """Return a port on which nothing listens now.

    It is below 50,000, because a Redis Cluster's nodes use a second port that is 10,000 above.
    """
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port if port < 50_000 else free_port()
