"""Views whose requests take turns: what :meth:`.ThreadManager.one_at_a_time` returns."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, TypeVar, cast

from flask import current_app
from werkzeug.exceptions import Conflict

from ..durations import LONGEST, is_duration
from ..errors import ConfigurationError
from ..thread.turns import MOST_WAITING as MOST_WAITING
from .scope import RequestScope

View = TypeVar("View", bound=Callable[..., Any])


def in_turns(
    find_scope: Callable[[], RequestScope],
    on_busy: Literal["wait", "reject"],
    timeout: float,
    max_waiting: int,
) -> Callable[[View], View]:
    """Return a decorator whose views first take the turn of their thread.

    :param find_scope: returns the scope of the current request.
    :raises ConfigurationError: if an argument is wrong.
    """
    _check_arguments(on_busy, timeout, max_waiting)
    seconds = timeout if on_busy == "wait" else 0.0

    def decorate(view: View) -> View:
        @wraps(view)
        def take_turn_and_call(*args: Any, **kwargs: Any) -> Any:
            if not find_scope().acquire_turn(seconds, max_waiting):
                raise Conflict("This conversation is busy with another request.")
            return current_app.ensure_sync(view)(*args, **kwargs)

        return cast(View, take_turn_and_call)

    return decorate


def _check_arguments(on_busy: object, timeout: object, max_waiting: object) -> None:
    if callable(on_busy):
        raise ConfigurationError(
            "one_at_a_time is used without parentheses. Write @threads.one_at_a_time()."
        )
    if not is_duration(timeout, or_zero=True):
        raise ConfigurationError(
            f"one_at_a_time(timeout={timeout!r}) is wrong. Allowed: seconds, 0 or more,"
            f" at most {LONGEST:,}."
        )
    if on_busy not in ("wait", "reject"):
        raise ConfigurationError(
            f"one_at_a_time(on_busy={on_busy!r}) is wrong. Allowed: 'wait', 'reject'."
        )
    if isinstance(max_waiting, bool) or not isinstance(max_waiting, int) or max_waiting < 0:
        raise ConfigurationError(
            f"one_at_a_time(max_waiting={max_waiting!r}) is wrong. Allowed: 0 or more requests."
        )
