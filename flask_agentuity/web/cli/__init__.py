"""``flask threads``: inspect, export, import and remove the threads of an app.

Exit codes: 0 success, 1 a failure or a thread that does not exist, 2 a usage error.
"""

from . import backup, check, list_threads, removal, serve, show, transfer
from .group import threads

__all__ = [
    "backup",
    "check",
    "list_threads",
    "removal",
    "serve",
    "show",
    "threads",
    "transfer",
]
