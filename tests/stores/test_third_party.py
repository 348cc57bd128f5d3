"""The conformance of a store that is named on the command line with ``--store``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from flask_agentuity.stores import ThreadStore

from .conformance import StoreConformance


class TestThirdPartyStore(StoreConformance):
    factory: Callable[..., ThreadStore]

    @pytest.fixture(autouse=True)
    def _named_store(self, request: pytest.FixtureRequest) -> None:
        name = request.config.getoption("--store")
        module, _, attribute = name.partition(":")
        self.factory = getattr(import_module(module), attribute)

    def open(self, place: Any, **options: Any) -> ThreadStore:
        parameters = inspect.signature(self.factory).parameters
        any_option = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        for option in options:
            if option not in parameters and not any_option:
                pytest.skip(f"this store has no option {option}")
        return self.factory(place, **options)
