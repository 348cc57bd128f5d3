"""Reading settings from the app's configuration and from the environment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from ..document.shown_url import without_secrets
from ..errors import ConfigurationError

logger = logging.getLogger("flask_agentuity")

PREFIX = "AGENTUITY_"
# How similar an unknown name must be to that of a setting to count as a typing error.
_NEARLY = 0.85
# What other spellings of the prefix are taken to begin with.
_BEGINNING = "AGENT"
_SECRETS = ("SDK_KEY", "THREAD_SECRET")


class SettingsReader:
    """Reads settings, each from the app's configuration or else from the environment."""

    def __init__(self, config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._config = config
        self._environment = environment
        self._names: set[str] = set()

    def expect(self, *names: str) -> None:
        """Note settings that are read only in some configurations."""
        self._names.update(names)

    def find_unknown(self) -> list[str]:
        """Return a warning for each setting that has not been read or expected.

        Other programs may use environment variables with the same prefix, so a variable is reported
        only if its name is similar to that of a setting.
        """
        warnings = []
        for key in self._config:
            cutoff = 0.0 if str(key).startswith(PREFIX) else _NEARLY
            warnings += [
                f"{key} in app.config is not a setting. Did you mean {nearest}?"
                for nearest in self._nearest(key, cutoff)
            ]
        for key in self._environment:
            warnings += [
                f"The environment variable {key} is not a setting. Did you mean {nearest}?"
                for nearest in self._nearest(key, _NEARLY)
            ]
        return warnings

    def _nearest(self, key: object, cutoff: float) -> list[str]:
        """Return the setting that was meant by an unknown name, if there is one."""
        if not isinstance(key, str) or not key.upper().startswith(_BEGINNING):
            return []
        written = key.upper()
        if written.startswith(PREFIX):
            name = written.removeprefix(PREFIX)
            if key.startswith(PREFIX) and key.removeprefix(PREFIX) in self._names:
                return []
            found = get_close_matches(name, sorted(self._names), n=1, cutoff=cutoff)
            return [f"{PREFIX}{each}" for each in found]
        # The prefix is half of a short name, so the rest has to be right.
        prefix, _, name = written.partition("_")
        is_close = SequenceMatcher(None, f"{prefix}_", PREFIX).ratio() >= _NEARLY
        return [f"{PREFIX}{name}"] if is_close and name in self._names else []

    def source(self, name: str) -> str:
        """Return where a setting was configured."""
        key = f"{PREFIX}{name}"
        if self._config.get(key) is not None:
            return f"{key} in app.config"
        return f"{key} in the environment"

    def __call__(
        self,
        name: str,
        default: Any,
        parse: Callable[[Any], Any],
        *,
        none_counts: bool = False,
    ) -> Any:
        self._names.add(name)
        key = f"{PREFIX}{name}"
        value = self._config.get(key)
        if value is None and none_counts and key in self._config:
            return None
        if value is None:
            value = self._environment.get(key) or None
        if value is None:
            return default
        try:
            return parse(value)
        except ValueError as error:
            shown = "(hidden)" if name in _SECRETS else _shown(value)
            raise ConfigurationError(f"{key}={shown} is wrong. Allowed: {error}.") from None


class ConfigWatch:
    """Warns of settings in an app's configuration that are changed too late to be read.

    Comparing all of them in each request would take too long. It is done in the first request, when
    a key was added, and when an endpoint first uses its thread.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._known = _settings_in(config)
        #: The number of keys at the last comparison; -1 before the first one.
        self.length = -1

    def look(self, config: Mapping[str, Any]) -> None:
        """Compare *config* with its former values, and warn once of each difference."""
        self.length = len(config)
        now = _settings_in(config)
        changed = [key for key in {**self._known, **now} if self._known.get(key) != now.get(key)]
        self._known = now
        for key in sorted(changed):
            logger.warning(
                "%s in app.config was changed after init_app(), which has no effect. Set it"
                " before calling ThreadManager(app) or init_app().",
                key,
            )


def _settings_in(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in list(config) if str(key).startswith(PREFIX)}


def _shown(value: object) -> str:
    # Only URLs have credentials, which end with an @.
    text = value if isinstance(value, str) else repr(value)
    if "@" not in text and "://" not in text:
        return repr(value)
    return repr(without_secrets(text)) if text is value else f"(a {type(value).__name__})"
