"""Whether and where sessions are reported."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigurationError
from .setting_values import switch

logger = logging.getLogger("flask_agentuity.reports")


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """Where sessions are reported, and what each report contains."""

    base: str
    key: str = field(repr=False)
    org_id: str
    project_id: str
    deployment_id: str | None
    environment: str
    dev_mode: bool


def read_report_settings(
    read: Callable[..., Any], sdk_key: str | None, base: Callable[[], str]
) -> ReportSettings | None:
    """Return the settings of session reports, or None if sessions are not reported.

    :param read: returns a setting by its name and default, with a function that checks it.
    :param base: returns the URL of the service.
    :raises ConfigurationError: if reports are wanted and cannot be sent.
    """
    wanted = read("SESSION_REPORTS", "auto", _switch("auto", "on", "off"))
    org_id = read("CLOUD_ORG_ID", None, _text)
    project_id = read("CLOUD_PROJECT_ID", None, _text)
    # Read in any case, so that they are known as settings and checked.
    deployment_id = read("CLOUD_DEPLOYMENT_ID", None, _text)
    environment = read("ENVIRONMENT", "production", _text)
    dev_mode = read("SDK_DEV_MODE", False, switch)
    if wanted == "off" or (wanted == "auto" and not (sdk_key and org_id and project_id)):
        return None
    if not sdk_key:
        raise ConfigurationError(
            "AGENTUITY_SESSION_REPORTS='on' requires a key. Set AGENTUITY_SDK_KEY."
        )
    if importlib.util.find_spec("urllib3") is None:
        _refuse_without_urllib3(wanted)
        return None
    return ReportSettings(
        base=base(),
        key=sdk_key,
        org_id=org_id or "",
        project_id=project_id or "",
        deployment_id=deployment_id,
        environment=environment,
        dev_mode=dev_mode,
    )


def _switch(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        text = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
        if isinstance(text, str) and text.lower() in allowed:
            return text.lower()
        raise ValueError(", ".join(allowed))

    return parse


def _text(value: Any) -> str:
    # An environment variable that is not valid UTF-8 contains surrogates.
    if not isinstance(value, str) or any("\ud800" <= each <= "\udfff" for each in value):
        raise ValueError("text")
    return value


def _refuse_without_urllib3(wanted: str) -> None:
    install = 'python -m pip install "flask-agentuity[reports]"'
    if wanted == "on":
        raise ConfigurationError(
            "AGENTUITY_SESSION_REPORTS='on' needs the package urllib3, 2.0.2 or newer: " + install
        )
    logger.warning(
        "Sessions are not reported to Agentuity, because the package urllib3 is missing. Install"
        " it (%s), or set AGENTUITY_SESSION_REPORTS to off.",
        install,
    )
