"""The settings of runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...thread.runs.process import RunOptions
from .. import setting_values as values
from ..settings_reader import SettingsReader


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Where runs are kept, and their limits."""

    #: The URL of their store; None: that of threads.
    store: str | None = field(repr=False)
    options: RunOptions


def read_run_settings(read: SettingsReader) -> RunSettings:
    """Read the settings of runs.

    :raises ConfigurationError: if a value is wrong.
    """
    default, integer = RunOptions(), values.positive_integer
    options = RunOptions(
        max_bytes=read("RUN_MAX_BYTES", default.max_bytes, integer),
        grace=read("RUN_GRACE", default.grace, values.seconds),
        max_per_process=read("RUN_MAX_PER_PROCESS", default.max_per_process, integer),
        max_readers=read("RUN_MAX_READERS", default.max_readers, integer),
        keep=read("RUN_KEEP", default.keep, values.seconds),
    )
    return RunSettings(read("RUN_STORE", None, _store_url), options)


def _store_url(value: Any) -> str:
    if not isinstance(value, str) or "://" not in value or value.startswith(("ws:", "wss:")):
        raise ValueError("sqlite:///PATH, redis://HOST, memory://")
    return value
