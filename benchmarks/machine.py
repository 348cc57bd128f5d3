"""What the figures depend on: the machine, and where its processes run."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "Python": platform.python_version(),
        "Flask": version("flask"),
        "SQLite": sqlite3.sqlite_version,
        "redis-py": _version("redis"),
        "hiredis": _version("hiredis"),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}",
    }


def first_core() -> int | None:
    """Return the core to run on; None where the system does not let a process choose."""
    return min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
