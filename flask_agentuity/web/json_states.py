"""States in JSON: ``jsonify(state)``, ``{"state": g.thread.state}`` and ``{{ state|tojson }}``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flask import Flask

from ..thread.state import ThreadState


class _WithStates:
    """A JSON provider's function for values that JSON does not have, which also renders states."""

    def __init__(self, default: Callable[[Any], Any]) -> None:
        self._default = default

    def __call__(self, value: Any) -> Any:
        if isinstance(value, ThreadState):
            return {key: value[key] for key in value}
        return self._default(value)


def render_states(app: Flask) -> None:
    """Have the JSON provider of *app* render states as objects.

    It does nothing if that is done already, or if the provider, unlike Flask's own, has no
    function ``default`` that can be replaced.
    """
    default = getattr(app.json, "default", None)
    if callable(default) and not isinstance(default, _WithStates):
        with suppress(AttributeError):  # A provider may not let it be replaced.
            app.json.default = _WithStates(default)  # type: ignore[attr-defined]
