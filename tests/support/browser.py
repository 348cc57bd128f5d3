"""Debian's Chromium, for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="selenium does not work with the lowest versions")

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

#: Seconds after which a test gives up waiting.
PATIENCE = 30.0

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Those about networking keep it from looking up hosts of its maker.
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",
)


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """Start a browser with an empty *profile*; skip the test if there is none, but not in CI."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        reason = "Chromium is missing: apt-get install chromium chromium-driver"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    options = ChromeOptions()
    options.binary_location = browser
    for option in (*_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    started = Chrome(options=options, service=Service(driver))
    try:
        yield started
    finally:
        started.quit()


def eventually(browser: Chrome, condition: Callable[[], Any]) -> Any:
    """Wait until *condition* returns something true, and return that."""

    def ask(_: Chrome) -> Any:
        return condition()

    wait = WebDriverWait(
        browser, PATIENCE, poll_frequency=0.02, ignored_exceptions=[WebDriverException]
    )
    return wait.until(ask)


def set_screen(browser: Chrome, width: int, height: int, *, scheme: str = "light") -> None:
    """Make the page as large as a screen, in a light or dark *scheme*."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
