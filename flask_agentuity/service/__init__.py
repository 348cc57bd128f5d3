"""A thread service: the server end of the WebSocket protocol, on any store of threads.

It is for development, for tests and for your own servers. It needs the extra ``service``::

    python -m pip install "flask-agentuity[service]"
    python -m flask_agentuity.service --store sqlite:///threads.db --key KEY
"""

from __future__ import annotations

from .thread_service import ThreadService

__all__ = ["ThreadService"]
