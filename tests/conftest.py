from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no defect. The rest is as hypothesis has it, which knows whether this is CI.
settings.register_profile(
    "unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        metavar="PACKAGE.MODULE:FACTORY",
        help="run tests/stores/test_third_party.py on the stores that this factory makes:"
        " it is called with a fresh folder, and with ttl and max_bytes where it takes them",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path.name == "test_third_party.py" and config.getoption("--store") is None:
        return True
    return None
